//! The life of one sandbox on this host, whatever keeps it in: making it, recognizing it, clearing it
//! away. Every step may be the last one of a server that is killed; whatever that leaves, `clear` finds
//! and removes. What making one takes is the driver's matter.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use chrono::{DateTime, Utc};
use domain::id::SandboxId;
use tokio::time::timeout;
use tracing::warn;

use super::{
    KILL_DEADLINE,
    failure::{Failure, Result},
    groups::Groups,
    lock::Lock,
    processes::{self, Marks, Process},
    record::{self, Mark, Record, RunDirectory},
    sweeper::Sweeper,
    uids::Uids,
};
use crate::{
    driver::ErrorKind,
    guest::{GuestError, GuestErrorKind},
    spec::Observed,
};

const LOCK_DEADLINE: Duration = Duration::from_secs(30);

/// What a server holds on to of one sandbox, whether it is there or not.
#[derive(Debug, Clone)]
pub(crate) struct Hold {
    pub id: SandboxId,
    pub directory: RunDirectory,
    state_dir: PathBuf,
    uids: Option<Uids>,
    program: String,
}

/// A sandbox of some driver.
pub(crate) trait Held: Send + Sync {
    /// What it is made from.
    type Order: Send + Sync;
    /// How long making it may take.
    const START_DEADLINE: Duration;

    /// What it is held by.
    fn hold(&self) -> &Hold;

    /// Makes it, with its run directory as the first thing, and returns when its agent answers. May be
    /// given up at any point.
    fn make(&self, order: &Self::Order) -> impl Future<Output = Result<DateTime<Utc>>> + Send;

    /// Takes back what it holds of the host besides processes, control groups, its user and its
    /// directory; once its processes have ended. May be repeated.
    fn release(&self) -> impl Future<Output = Result<()>> + Send {
        std::future::ready(Ok(()))
    }

    /// Has a suspended one go on, up to when its agent answers. Bounds each of its steps itself: what may
    /// be given up before it goes on is its end after that.
    fn revive(&self) -> impl Future<Output = Result<DateTime<Utc>>> + Send {
        std::future::ready(Err(Failure::host("it is suspended, and nobody here suspends anything")))
    }

    /// Has one go on whose processes may be held, such as by a server that was killed meanwhile.
    fn unhold(&self) -> impl Future<Output = Result<()>> + Send {
        std::future::ready(Ok(()))
    }

    /// Since when it runs, seen to by whoever has its lock: one that is held goes on, or is gone.
    fn running(&self) -> impl Future<Output = Result<Option<DateTime<Utc>>>> + Send {
        async {
            let since = self.hold().running_since()?;
            if since.is_none() || !self.hold().directory.is(Mark::Held) {
                return Ok(since);
            }
            match self.unhold().await {
                Ok(()) => Ok(since),
                Err(failure) => {
                    let sandbox = self.hold().id;
                    warn!(%sandbox, %failure, "a sandbox that was held does not go on");
                    self.clear().await.map(|()| None)
                }
            }
        }
    }

    /// Has it go on if it is suspended.
    fn resume(&self) -> impl Future<Output = Result<DateTime<Utc>>> + Send {
        async {
            let lock = self.hold().lock().await?;
            if let Some(started_at) = self.running().await? {
                return Ok(started_at);
            }
            if !self.hold().directory.is(Mark::Suspended) {
                lock.delete();
                let text = format!("{} neither runs nor is suspended", self.hold().id);
                return Err(Failure::new(ErrorKind::Gone, text));
            }
            self.revive_or_leave(lock).await
        }
    }

    /// Tries to have it go on. If that fails before it goes on it stays suspended; after that it is gone.
    fn revive_or_leave(&self, lock: Lock) -> impl Future<Output = Result<DateTime<Utc>>> + Send {
        async move {
            self.let_go().await?;
            let revived = self.revive().await;
            if revived.is_err() {
                let ended = if self.hold().directory.is(Mark::Suspended) {
                    self.let_go().await
                } else {
                    self.clear().await.map(|()| lock.delete())
                };
                if let Err(failure) = ended {
                    warn!(%failure, "what was resumed of a sandbox could not be ended");
                }
            }
            revived
        }
    }

    /// Ends every process of the sandbox and keeps what it is made from, and its user.
    fn let_go(&self) -> impl Future<Output = Result<()>> + Send {
        async {
            self.hold().end_processes().await?;
            self.release().await
        }
    }

    /// Makes it, unless it runs already.
    fn ensure(&self, order: &Self::Order) -> impl Future<Output = Result<DateTime<Utc>>> + Send {
        async {
            let lock = self.hold().lock().await?;
            if let Some(started_at) = self.running().await? {
                return Ok(started_at);
            }
            if self.hold().directory.is(Mark::Suspended) {
                return self.revive_or_leave(lock).await;
            }
            if self.hold().left_something()? {
                self.clear().await?;
            }
            let made = within(Self::START_DEADLINE, self.make(order)).await;
            if made.is_err() {
                match self.clear().await {
                    Ok(()) => lock.delete(),
                    // Why it was not made is what the caller has to know.
                    Err(failure) => {
                        warn!(%failure, "what was made of a sandbox could not be cleared");
                    }
                }
            }
            made
        }
    }

    /// Makes it gone.
    fn remove(&self) -> impl Future<Output = Result<()>> + Send {
        async {
            let lock = self.hold().lock().await?;
            self.clear().await?;
            lock.delete();
            Ok(())
        }
    }

    /// Clears it away if it is dead, and has it go on if it is held, if nobody is working on it.
    fn sweep(&self) -> impl Future<Output = ()> + Send {
        async {
            if let Err(failure) = self.sweep_now().await {
                let sandbox = self.hold().id;
                warn!(%sandbox, %failure, "a dead sandbox could not be cleared away");
            }
        }
    }

    /// Tries that.
    fn sweep_now(&self) -> impl Future<Output = Result<()>> + Send {
        async {
            match Lock::acquire_now(&self.hold().lock_path()?)? {
                Some(lock) if self.running().await?.is_none() => {
                    if self.hold().directory.is(Mark::Suspended) {
                        return self.let_go().await;
                    }
                    self.clear().await?;
                    lock.delete();
                    Ok(())
                }
                Some(_) | None => Ok(()),
            }
        }
    }

    /// Ends every process of the sandbox and removes what the host holds of it.
    fn clear(&self) -> impl Future<Output = Result<()>> + Send {
        async {
            let uid = self.hold().end_processes().await?;
            self.release().await?;
            self.hold().forget(uid)
        }
    }
}

impl Hold {
    /// `program` is the path inside under which its first process runs, which no other sandbox has.
    pub fn new(state_dir: &Path, id: SandboxId, uids: Option<Uids>, program: String) -> Self {
        let directory = RunDirectory::new(state_dir, id);
        Self { id, directory, state_dir: state_dir.to_owned(), uids, program }
    }

    /// Since when it runs; `None` if it does not, or never came up.
    pub fn running_since(&self) -> Result<Option<DateTime<Utc>>> {
        let Some(record) = self.directory.read()? else { return Ok(None) };
        if self.directory.is(Mark::Suspended) {
            return Ok(None);
        }
        if !record.inside.is_some_and(|inside| inside.is_alive()) {
            return Ok(None);
        }
        self.directory.written_at().map(Some)
    }

    /// Whether it is suspended, and has no process left that is known of.
    fn rests(&self) -> Result<bool> {
        let known = self.directory.read()?.map(|record| [record.launcher, record.inside]);
        let mut known = known.into_iter().flatten().flatten();
        Ok(self.directory.is(Mark::Suspended) && !known.any(Process::is_alive))
    }

    /// The user that it runs as; `None` is the server's own.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn claim_user(&self) -> Result<Option<u32>> {
        match &self.uids {
            Some(uids) => uids.claim(&self.directory.path).await.map(Some),
            None => Ok(None),
        }
    }

    /// The user that it had, who owns what it left.
    pub async fn claim_user_again(&self, had: u32) -> Result<Option<u32>> {
        match &self.uids {
            Some(uids) => uids.claim_again(&self.directory.path, had).await.map(|()| Some(had)),
            None => Ok(None),
        }
    }

    /// The user that it has, if it has one of its own.
    pub fn user(&self) -> Result<Option<u32>> {
        match &self.uids {
            Some(uids) => uids.claimed(&self.directory.path),
            None => Ok(None),
        }
    }

    /// Gives its user to another one, whose run directory its own is about to become.
    pub async fn pass_user_to(&self, other: &Self) -> Result<()> {
        match &self.uids {
            Some(uids) => uids.pass(&self.directory.path, &other.directory.path).await,
            None => Ok(()),
        }
    }

    /// A record with nothing on it yet but the groups that may come to be.
    pub fn begin_record(&self) -> Result<Record> {
        let record = Record {
            host_boot: record::host_boot()?,
            launcher: None,
            inside: None,
            groups: Groups::planned(&self.id.to_string()).directories,
        };
        self.directory.write(&record)?;
        Ok(record)
    }

    /// Whether anything may be left of it. Its directory is made first and goes last, unless it is about to take
    /// over another one's, whose user it has before.
    fn left_something(&self) -> Result<bool> {
        Ok(self.directory.path.exists() || self.user()?.is_some())
    }

    /// Ends every process of the sandbox and returns the user that they had.
    #[tracing::instrument(level = "debug", skip_all)]
    async fn end_processes(&self) -> Result<Option<u32>> {
        let record = self.directory.read()?;
        let uid = self.user()?;
        // What is on record may be of a server in another group, and the record may be lost.
        let on_record = record.as_ref().map_or(&[][..], |record| &record.groups);
        let groups = Groups::planned(&self.id.to_string()).and(on_record);
        let members = {
            let groups = groups.clone();
            move || groups.pids()
        };
        let marks = self.marks(record.as_ref(), uid);
        processes::kill_all(marks, members, KILL_DEADLINE).await?;
        groups.remove(KILL_DEADLINE).await?;
        Ok(uid)
    }

    fn forget(&self, uid: Option<u32>) -> Result<()> {
        if let (Some(uids), Some(uid)) = (&self.uids, uid) {
            uids.release(uid)?;
        }
        self.directory.delete()
    }

    fn marks(&self, record: Option<&Record>, uid: Option<u32>) -> Marks {
        let known = record.into_iter().flat_map(|record| [record.launcher, record.inside]);
        Marks { known: known.flatten().collect(), uid, program: self.program.clone() }
    }

    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn lock(&self) -> Result<Lock> {
        Lock::acquire(&self.lock_path()?, LOCK_DEADLINE).await
    }

    fn lock_path(&self) -> Result<PathBuf> {
        let directory = self.state_dir.join("locks");
        record::private_directory(&directory)?;
        Ok(directory.join(self.id.to_string()))
    }
}

/// Gives up on what takes too long.
pub(crate) async fn within<T>(
    deadline: Duration,
    work: impl Future<Output = Result<T>> + Send,
) -> Result<T> {
    timeout(deadline, work).await.unwrap_or_else(|_| {
        let text = format!("it was not ready within {} s", deadline.as_secs());
        Err(Failure::timed_out(text))
    })
}

/// The sandboxes that are suspended, sorted by id.
pub(crate) fn suspended(state_dir: &Path) -> Result<Vec<SandboxId>> {
    let mut ids = RunDirectory::list(state_dir)?;
    ids.retain(|id| RunDirectory::new(state_dir, *id).is(Mark::Suspended));
    Ok(ids)
}

/// The sandboxes that run, sorted by id. Also clears away what sandboxes left that died, or that a
/// killed server was about to make, or begins to.
pub(crate) async fn list<S: Held + 'static>(
    state_dir: &Path,
    sweeper: &Sweeper,
    sandbox: impl Fn(SandboxId) -> S,
) -> Result<Vec<Observed>> {
    let mut known: BTreeSet<_> = RunDirectory::list(state_dir)?.into_iter().collect();
    known.extend(locked(state_dir));
    let mut holds = Vec::new();
    let mut to_sweep = Vec::new();
    for id in known {
        let sandbox = sandbox(id);
        let hold = sandbox.hold();
        holds.push(hold.clone());
        let is_fine = hold.running_since()?.is_some() && !hold.directory.is(Mark::Held);
        if !is_fine && !hold.rests()? {
            to_sweep.push(sandbox);
        }
    }
    sweeper.sweep(to_sweep).await;
    let mut running = Vec::new();
    for hold in holds {
        let started_at = hold.running_since()?;
        running.extend(started_at.map(|started_at| Observed { id: hold.id, started_at }));
    }
    Ok(running)
}

/// The sandboxes that have a lock file. One that has nothing else is locked at present, or a server
/// was killed between removing it and removing the file.
fn locked(state_dir: &Path) -> impl Iterator<Item = SandboxId> {
    let names = std::fs::read_dir(state_dir.join("locks")).into_iter().flatten().flatten();
    names.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// An agent that does not answer as it should.
pub(crate) fn silent(error: GuestError) -> Failure {
    let kind = match error.kind {
        GuestErrorKind::TimedOut => ErrorKind::TimedOut,
        GuestErrorKind::Refused(_)
        | GuestErrorKind::Gone
        | GuestErrorKind::Protocol
        | GuestErrorKind::Source => ErrorKind::Host,
    };
    Failure::new(kind, format!("the agent does not say hello: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{new_id, spec};

    /// Takes longer than it may take to make one, once it has gone on.
    struct Slow(Hold);

    impl Held for Slow {
        type Order = ();
        const START_DEADLINE: Duration = Duration::ZERO;

        fn hold(&self) -> &Hold {
            &self.0
        }

        async fn make(&self, (): &()) -> Result<DateTime<Utc>> {
            Err(Failure::host("nobody makes any"))
        }

        async fn revive(&self) -> Result<DateTime<Utc>> {
            let started_at = self.0.directory.set(Mark::Held)?;
            self.0.directory.unset(Mark::Suspended)?;
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok(started_at)
        }
    }

    #[tokio::test]
    async fn what_has_gone_on_is_not_given_up_because_it_is_slow() {
        let state = tempfile::tempdir().unwrap();
        let id = new_id();
        let slow = Slow(Hold::new(state.path(), id, None, format!("/opt/none/{id}/slow")));
        slow.0.directory.create(&spec()).unwrap();
        slow.0.directory.set(Mark::Suspended).unwrap();
        slow.resume().await.unwrap();
        assert!(slow.0.directory.path.exists(), "nor is anything of it deleted");
    }
}
