//! Sandboxes of this driver, and the golden machines that they begin with. What becomes of either after an
//! accident is the same as with every driver that keeps processes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use domain::{
    egress::EgressPolicy,
    id::{SandboxId, TemplateVersionId},
};
use tokio::net::UnixStream;
use tracing::{info, warn};

use super::{
    CloudHypervisorConfig, Start, images,
    machine::{Beginning, Machine, What},
    network,
    spares::{Kind, Spares},
    warm::{Golden, Recipe, Stock, Way},
};
use crate::{
    driver::ErrorKind,
    jail::{
        failure::Result,
        groups::Promise,
        hold::{Held, Hold, within},
    },
    spec::{Limits, Spec, Template},
};

/// One sandbox, whether it is there or not.
#[derive(Debug, Clone)]
pub(super) struct Sandbox {
    pub machine: Machine,
    promise: Promise,
    stock: Arc<Stock>,
    spares: Spares,
}

impl Sandbox {
    pub fn new(
        config: &CloudHypervisorConfig,
        promise: &Promise,
        stock: &Arc<Stock>,
        spares: &Spares,
        id: SandboxId,
    ) -> Self {
        let machine = Machine::new(config, &config.state_dir, promise, id);
        let (stock, spares) = (Arc::clone(stock), spares.clone());
        Self { machine, promise: promise.clone(), stock, spares }
    }

    /// Opens a stream to the agent of a sandbox that runs.
    pub async fn connect(&self) -> Result<UnixStream> {
        self.machine.connect().await
    }

    /// Tries what a golden machine was; `None` if there is none, or if it is of no use.
    async fn wake(&self, spec: &Spec, recipe: &Recipe) -> Result<Option<DateTime<Utc>>> {
        let kind = Kind::new(recipe, spec);
        let Some(golden) = self.stock.find(recipe)? else {
            let (sandbox, golden) = (self.machine.hold.id, recipe.key());
            info!(%sandbox, golden, "there is no golden machine to start with; booting");
            self.spares.forget(&kind);
            return Ok(None);
        };
        let spared = self.take_spare(spec, &kind).await;
        self.refill(kind.clone(), golden.clone());
        if let Some(started_at) = spared? {
            self.stock.tell(Start::Spare);
            return Ok(Some(started_at));
        }
        let mut was_late = false;
        for way in Way::ALL {
            match self.machine.start(spec, recipe.image(), Beginning::Woken(&golden, way)).await {
                Ok(started_at) => {
                    self.stock.tell(Start::of(way));
                    return Ok(Some(started_at));
                }
                // Another way would find no more room than this one.
                Err(failure) if failure.kind == ErrorKind::NoCapacity => return Err(failure),
                Err(failure) => {
                    was_late |= failure.kind == ErrorKind::TimedOut;
                    let (sandbox, way) = (self.machine.hold.id, way.as_str());
                    warn!(%sandbox, way, %failure, "a warm start failed; starting in another way");
                    self.clear().await?;
                }
            }
        }
        self.spares.forget(&kind);
        // A host that has too much to do says nothing of what is wrong with the golden machine.
        if !was_late {
            self.stock.reject(&golden)?;
        }
        Ok(None)
    }

    /// Wakes what a golden machine was in a VMM that was started ahead; `None` if there is none, or if it is
    /// of no use.
    async fn take_spare(&self, spec: &Spec, kind: &Kind) -> Result<Option<DateTime<Utc>>> {
        let Some(spare) = self.spares.take(kind) else { return Ok(None) };
        let starting = async {
            let ready = spare.give_to(&self.machine, spec).await?;
            self.machine.begin(spec, ready, What::Woken).await
        };
        match starting.await {
            Ok(started_at) => Ok(Some(started_at)),
            Err(failure) => {
                let sandbox = self.machine.hold.id;
                warn!(%sandbox, %failure, "a VMM that was started ahead is of no use");
                self.clear().await.map(|()| None)
            }
        }
    }

    fn refill(&self, kind: Kind, golden: Golden) {
        let (config, promise) = (self.machine.config.clone(), self.promise.clone());
        let stock = Arc::clone(&self.stock);
        let preparation = move |id| Preparation::with_id(&config, &promise, &stock, id);
        self.spares.refill(kind, golden, preparation);
    }
}

impl Held for Sandbox {
    type Order = Spec;
    const START_DEADLINE: Duration = Duration::from_secs(60);

    fn hold(&self) -> &Hold {
        &self.machine.hold
    }

    async fn make(&self, spec: &Spec) -> Result<DateTime<Utc>> {
        let config = &self.machine.config;
        let image = images::image(&config.images, &spec.template)?;
        let recipe = Recipe::new(config, spec, image)?;
        if config.warm_start
            && let Some(started_at) = self.wake(spec, &recipe).await?
        {
            return Ok(started_at);
        }
        let started_at = self.machine.start(spec, recipe.image(), Beginning::Boot).await?;
        self.stock.tell(Start::Boot);
        if config.warm_start && self.stock.takes(&recipe) {
            let preparation = Preparation::new(config, &self.promise, &self.stock, &recipe);
            tokio::spawn(async move { preparation.prepare(recipe).await });
        }
        Ok(started_at)
    }

    async fn revive(&self) -> Result<DateTime<Utc>> {
        self.machine.go_on().await
    }

    async fn unhold(&self) -> Result<()> {
        self.machine.let_run().await
    }

    async fn release(&self) -> Result<()> {
        close_network(&self.machine).await
    }
}

async fn close_network(machine: &Machine) -> Result<()> {
    match machine.hold.user()? {
        Some(uid) => network::close(uid).await,
        None => Ok(()),
    }
}

/// A golden machine in the making. It is held apart from sandboxes, so that nobody takes it for one; a
/// server that dies in the middle leaves what the next one sweeps away.
#[derive(Debug, Clone)]
pub(super) struct Preparation {
    machine: Machine,
    stock: Arc<Stock>,
}

impl Preparation {
    pub fn new(
        config: &CloudHypervisorConfig,
        promise: &Promise,
        stock: &Arc<Stock>,
        recipe: &Recipe,
    ) -> Self {
        Self::with_id(config, promise, stock, recipe.id())
    }

    /// One that was found, whatever it was to become.
    pub fn with_id(
        config: &CloudHypervisorConfig,
        promise: &Promise,
        stock: &Arc<Stock>,
        id: SandboxId,
    ) -> Self {
        let machine = Machine::new(config, stock.workshop(), promise, id);
        Self { machine, stock: Arc::clone(stock) }
    }

    /// Makes all that a machine needs, up to a VMM that waits for one in its jail, and takes it away again: to
    /// find out what this host lets nobody do.
    pub async fn try_out(&self) -> Result<()> {
        let lock = self.hold().lock().await?;
        let spec = Spec {
            template: Template {
                slug: "none".to_owned(),
                version_id: TemplateVersionId::from_uuid(self.hold().id.uuid()),
            },
            env: BTreeMap::new(),
            limits: Limits { cpu_milli: 1_000, memory_mib: 128, disk_mib: 16, n_pids: 64 },
            egress: EgressPolicy::deny_all(),
        };
        // Nobody boots it, so whatever is there will do for an image.
        let image = self.machine.config.initramfs.clone();
        let making = self.machine.make_ready(&spec, &image, Beginning::Boot);
        let made = within(Self::START_DEADLINE, making).await.map(drop);
        self.clear().await?;
        lock.delete();
        made
    }

    /// The machine in the making.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Makes it, unless another server has; a failure is told once and not tried again.
    pub async fn prepare(&self, recipe: Recipe) {
        let prepared = match self.ensure(&recipe).await {
            Ok(_) => self.remove().await,
            Err(failure) => Err(failure),
        };
        let prepared = match prepared {
            Ok(()) => true,
            Err(failure) => {
                warn!(%failure, "no machine could be prepared to start others with; they boot");
                false
            }
        };
        self.stock.done(&recipe, prepared);
    }
}

impl Held for Preparation {
    type Order = Recipe;
    const START_DEADLINE: Duration = Duration::from_secs(120);

    fn hold(&self) -> &Hold {
        &self.machine.hold
    }

    async fn make(&self, recipe: &Recipe) -> Result<DateTime<Utc>> {
        // It runs nobody's code, and reaches nothing.
        let spec = Spec { egress: EgressPolicy::deny_all(), ..recipe.spec() };
        let started_at = self.machine.start(&spec, recipe.image(), Beginning::Golden).await?;
        self.stock.adopt(recipe, &self.machine.run()).await?;
        Ok(started_at)
    }

    async fn release(&self) -> Result<()> {
        close_network(&self.machine).await
    }
}
