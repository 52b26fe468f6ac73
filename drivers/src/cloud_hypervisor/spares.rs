//! VMMs that were started ahead: each with a user, a directory, a network and control groups of its own, and
//! without a machine. A sandbox that wants just such a one takes it over, and has only its machine left to
//! wake. They are held where golden machines are made, so that nobody takes one for a sandbox, under locks
//! that end with the server: whatever a dead one had, the next one sweeps away.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use chrono::DateTime;
use domain::{egress::EgressPolicy, id::SandboxId};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::{
    lifecycle::Preparation,
    machine::{Beginning, Machine, Ready},
    warm::{Golden, Recipe, Way},
};
use crate::{
    jail::{
        failure::{Failure, Result},
        hold::Held,
        lock::Lock,
    },
    spec::{Limits, Spec},
};

/// For as many kinds of sandboxes there are some; those that were asked for last.
const MOST_KINDS: usize = 4;
/// The sandbox that was just made has the processors first.
const REST: Duration = Duration::from_secs(1);

/// Sandboxes that can have the same VMM.
#[derive(Debug, Clone)]
pub(super) struct Kind {
    recipe: Recipe,
    limits: Limits,
    egress: EgressPolicy,
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.recipe.key() == other.recipe.key()
            && self.limits == other.limits
            && self.egress == other.egress
    }
}

impl Kind {
    pub fn new(recipe: &Recipe, spec: &Spec) -> Self {
        Self { recipe: recipe.clone(), limits: spec.limits, egress: spec.egress.clone() }
    }

    fn spec(&self) -> Spec {
        Spec { limits: self.limits, egress: self.egress.clone(), ..self.recipe.spec() }
    }
}

/// One of them.
pub(super) struct Spare {
    preparation: Preparation,
    ready: Ready,
    lock: Lock,
    made_at: Instant,
}

impl Spare {
    async fn make(preparation: Preparation, kind: &Kind, golden: &Golden) -> Result<Self> {
        let lock = preparation.hold().lock().await?;
        let beginning = Beginning::Woken(golden, Way::Clone);
        let spec = kind.spec();
        let making = preparation.machine().make_ready(&spec, kind.recipe.image(), beginning);
        let made = timeout(Preparation::START_DEADLINE, making).await;
        match made.unwrap_or_else(|_| Err(Failure::timed_out("a VMM does not start"))) {
            Ok(ready) => Ok(Self { preparation, ready, lock, made_at: Instant::now() }),
            Err(failure) => {
                preparation.clear().await?;
                lock.delete();
                Err(failure)
            }
        }
    }

    /// Gives it to a sandbox, whose lock is held; if that fails there is nothing left of it.
    pub async fn give_to(self, machine: &Machine, spec: &Spec) -> Result<Ready> {
        let Self { preparation, ready, lock, .. } = self;
        let given = machine.take_over(spec, preparation.machine()).await;
        if given.is_err() {
            preparation.clear().await?;
        }
        lock.delete();
        given.map(|()| ready)
    }

    fn is_fresh(&self, most_age: Duration) -> bool {
        self.made_at.elapsed() < most_age && self.ready.is_alive()
    }

    async fn remove(self) {
        match self.preparation.clear().await {
            Ok(()) => self.lock.delete(),
            // The next server finds it.
            Err(failure) => warn!(%failure, "a VMM that was started ahead could not be ended"),
        }
    }
}

/// All of a server.
#[derive(Clone)]
pub(super) struct Spares {
    /// Of each kind.
    wanted: usize,
    /// Those that are older are of no use.
    most_age: Duration,
    shelf: Arc<Mutex<Vec<Place>>>,
    /// Making them, and ending them; closed once no more are to be made.
    tasks: TaskTracker,
}

/// Those of one kind. The kinds that were asked for last are at the end.
struct Place {
    kind: Kind,
    spares: Vec<Spare>,
    is_filling: bool,
}

impl Spares {
    pub fn new(wanted: u32, most_age: Duration) -> Self {
        let wanted = wanted.try_into().unwrap_or(usize::MAX);
        Self { wanted, most_age, shelf: Arc::default(), tasks: TaskTracker::new() }
    }

    /// One of a kind, if there is one.
    pub fn take(&self, kind: &Kind) -> Option<Spare> {
        let (taken, dead) = {
            let mut shelf = self.shelf();
            let place = shelf.iter_mut().find(|place| place.kind == *kind)?;
            let mut dead = Vec::new();
            let mut taken = None;
            while taken.is_none() && !place.spares.is_empty() {
                let spare = place.spares.remove(0);
                if spare.is_fresh(self.most_age) {
                    taken = Some(spare);
                } else {
                    dead.push(spare);
                }
            }
            drop(shelf);
            (taken, dead)
        };
        self.discard(dead);
        taken
    }

    /// Ends those of a kind, because there is nothing any more that they could begin with.
    pub fn forget(&self, kind: &Kind) {
        let mut shelf = self.shelf();
        let found = shelf.iter().position(|place| place.kind == *kind);
        let forgotten = found.map(|at| shelf.remove(at).spares);
        drop(shelf);
        self.discard(forgotten.into_iter().flatten());
    }

    /// Ends all of them, and returns when that is done and none is in the making.
    pub async fn close(&self) {
        self.tasks.close();
        let kept = std::mem::take(&mut *self.shelf());
        self.discard(kept.into_iter().flat_map(|place| place.spares));
        self.tasks.wait().await;
    }

    /// Has as many made of a kind as are wanted, unless somebody is at it. `preparation` is a new one each
    /// time.
    pub async fn fill(
        &self,
        kind: &Kind,
        golden: &Golden,
        preparation: impl Fn(SandboxId) -> Preparation + Send,
    ) -> Result<()> {
        if self.wanted == 0 || self.tasks.is_closed() || !self.begins_to_fill(kind) {
            return Ok(());
        }
        let mut filled = Ok(());
        while filled.is_ok() && self.has_room(kind) {
            // When it was made says nothing; what tells it from others is random.
            let preparation = preparation(SandboxId::generate(DateTime::UNIX_EPOCH));
            filled =
                Spare::make(preparation, kind, golden).await.map(|spare| self.put(kind, spare));
        }
        let mut shelf = self.shelf();
        if let Some(place) = shelf.iter_mut().find(|place| place.kind == *kind) {
            place.is_filling = false;
        }
        drop(shelf);
        filled
    }

    /// The same in the background, a moment later.
    pub fn refill(
        &self,
        kind: Kind,
        golden: Golden,
        preparation: impl Fn(SandboxId) -> Preparation + Send + Sync + 'static,
    ) {
        if self.wanted == 0 {
            return;
        }
        let spares = self.clone();
        self.tasks.spawn(async move {
            tokio::time::sleep(REST).await;
            if let Err(failure) = spares.fill(&kind, &golden, preparation).await {
                warn!(%failure, "no VMM could be started ahead");
            }
        });
    }

    /// Makes a place for a kind, or finds it, and says whether whoever asks is to fill it.
    fn begins_to_fill(&self, kind: &Kind) -> bool {
        let mut shelf = self.shelf();
        let found = shelf.iter().position(|place| place.kind == *kind);
        let mut place = match found {
            Some(at) => shelf.remove(at),
            None => Place { kind: kind.clone(), spares: Vec::new(), is_filling: false },
        };
        let begins = !place.is_filling;
        place.is_filling = true;
        let fresh = |spare: &Spare| spare.is_fresh(self.most_age);
        let (fresh, mut forgotten) = place.spares.into_iter().partition::<Vec<_>, _>(fresh);
        place.spares = fresh;
        shelf.push(place);
        while shelf.len() > MOST_KINDS {
            forgotten.extend(shelf.remove(0).spares);
        }
        drop(shelf);
        self.discard(forgotten);
        begins
    }

    fn has_room(&self, kind: &Kind) -> bool {
        let shelf = self.shelf();
        let place = shelf.iter().find(|place| place.kind == *kind);
        place.is_some_and(|place| place.spares.len() < self.wanted)
    }

    fn put(&self, kind: &Kind, spare: Spare) {
        let mut shelf = self.shelf();
        let unwanted = match shelf.iter_mut().find(|place| place.kind == *kind) {
            Some(place) => {
                place.spares.push(spare);
                None
            }
            // Others were asked for meanwhile.
            None => Some(spare),
        };
        drop(shelf);
        self.discard(unwanted);
    }

    /// Ends what nobody wants, in the background.
    fn discard(&self, spares: impl IntoIterator<Item = Spare>) {
        for spare in spares {
            self.tasks.spawn(spare.remove());
        }
    }

    fn shelf(&self) -> MutexGuard<'_, Vec<Place>> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Spares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spares").field("wanted", &self.wanted).finish_non_exhaustive()
    }
}
