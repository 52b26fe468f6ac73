//! The life of one sandbox on this host: making it, recognizing it, clearing it away. Every step may
//! be the last one of a server that is killed; whatever that leaves, `clear` finds and removes.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use chrono::{DateTime, Utc};
use domain::id::SandboxId;
use tokio::{net::UnixStream, time::timeout};
use tracing::warn;

use super::{
    LocalConfig, agent, arguments,
    failure::{Doing, Failure, Result},
    filter,
    groups::{Groups, Promise},
    host::{self, Host},
    launcher::{self, Launch, Launcher},
    lock::Lock,
    processes::{self, Marks},
    record::{self, Record, RunDirectory},
    uids::Uids,
};
use crate::{
    driver::ErrorKind,
    guest::{Guest, GuestError, GuestErrorKind},
    spec::Spec,
};

const LOCK_DEADLINE: Duration = Duration::from_secs(30);
const START_DEADLINE: Duration = Duration::from_secs(10);
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// One sandbox, whether it is there or not.
#[derive(Debug, Clone)]
pub(super) struct Sandbox {
    config: LocalConfig,
    id: SandboxId,
    directory: RunDirectory,
}

impl Sandbox {
    pub fn new(config: &LocalConfig, id: SandboxId) -> Self {
        let directory = RunDirectory::new(&config.state_dir, id);
        Self { config: config.clone(), id, directory }
    }

    /// Since when it runs; `None` if it does not, or never came up.
    pub fn running_since(&self) -> Result<Option<DateTime<Utc>>> {
        let Some(record) = self.directory.read()? else { return Ok(None) };
        if !record.agent.is_some_and(|agent| agent.is_alive()) {
            return Ok(None);
        }
        self.directory.written_at().map(Some)
    }

    /// Makes it, unless it runs already.
    pub async fn ensure(&self, spec: &Spec, promise: &Promise) -> Result<DateTime<Utc>> {
        let host = Host::look();
        host.supports(&spec.template)?;
        let lock = self.lock().await?;
        if let Some(started_at) = self.running_since()? {
            return Ok(started_at);
        }
        self.clear().await?;
        let made = match timeout(START_DEADLINE, self.make(&host, spec, promise)).await {
            Ok(made) => made,
            Err(_) => Err(Failure::timed_out(format!(
                "the agent did not answer within {} s",
                START_DEADLINE.as_secs()
            ))),
        };
        if made.is_err() {
            match self.clear().await {
                Ok(()) => lock.delete(),
                // Why it was not made is what the caller has to know.
                Err(failure) => warn!(%failure, "what was made of a sandbox could not be cleared"),
            }
        }
        made
    }

    /// Makes it gone.
    pub async fn remove(&self) -> Result<()> {
        let lock = self.lock().await?;
        self.clear().await?;
        lock.delete();
        Ok(())
    }

    /// Clears it away if it is dead and nobody is working on it.
    pub async fn sweep(&self) {
        if let Err(failure) = self.sweep_now().await {
            warn!(sandbox = %self.id, %failure, "a dead sandbox could not be cleared away");
        }
    }

    async fn sweep_now(&self) -> Result<()> {
        match Lock::acquire_now(&self.lock_path()?)? {
            Some(lock) if self.running_since()?.is_none() => {
                self.clear().await?;
                lock.delete();
                Ok(())
            }
            Some(_) | None => Ok(()),
        }
    }

    async fn make(&self, host: &Host, spec: &Spec, promise: &Promise) -> Result<DateTime<Utc>> {
        let bwrap = host::find_program(&self.config.bwrap).map_err(|error| {
            let path = self.config.bwrap.display();
            Failure::unsupported(format!("there is no {path} ({error}); install bubblewrap"))
        })?;
        self.directory.create(spec)?;
        let uid = match &self.config.uids() {
            Some(uids) => Some(uids.claim(&self.directory.path).await?),
            None => None,
        };
        let agent = self.config.agent_for(uid)?;
        let filter = self.config.filter()?;
        let mut record = Record {
            host_boot: record::host_boot()?,
            launcher: None,
            agent: None,
            groups: Groups::planned(&self.id.to_string()).directories,
        };
        self.directory.write(&record)?;
        let groups = Groups::make(&self.id.to_string(), &spec.limits, promise)?;
        let mut launcher = Launcher::start(Launch {
            bwrap,
            arguments: arguments::sandbox(
                host,
                &agent,
                self.id,
                spec,
                filter.as_ref().map(|_| launcher::FILTER),
            ),
            filter,
            uid,
            n_pids: spec.limits.n_pids,
            listener: self.directory.listen()?,
        })?;
        record.launcher = Some(launcher.process);
        record.groups.clone_from(&groups.directories);
        self.directory.write(&record)?;
        groups.join(launcher.process.pid)?;
        let agent = launcher.go().await?;
        launcher::limit_processes(agent, uid, spec.limits.n_pids)?;
        tokio::select! {
            hello = self.hello() => hello?,
            failure = launcher.end() => return Err(failure),
        }
        record.agent = Some(agent);
        self.directory.write(&record)?;
        self.directory.written_at()
    }

    async fn hello(&self) -> Result<()> {
        let stream = self.connect()?;
        let guest = Guest::over(Box::new(stream)).await.map_err(silent)?;
        guest.hello().await.map(drop).map_err(silent)
    }

    /// Connects to the agent of a sandbox that runs.
    pub fn connect(&self) -> Result<UnixStream> {
        let stream = self.directory.connect().and_then(UnixStream::from_std);
        stream.doing("connect to the agent in", &self.directory.path)
    }

    /// Ends every process of the sandbox and removes what the host holds of it.
    async fn clear(&self) -> Result<()> {
        let record = self.directory.read()?;
        let uids = self.config.uids();
        let uid = match &uids {
            Some(uids) => uids.claimed(&self.directory.path)?,
            None => None,
        };
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
        if let (Some(uids), Some(uid)) = (&uids, uid) {
            uids.release(uid)?;
        }
        self.directory.delete()
    }

    fn marks(&self, record: Option<&Record>, uid: Option<u32>) -> Marks {
        let known = record.into_iter().flat_map(|record| [record.launcher, record.agent]);
        Marks { known: known.flatten().collect(), uid, program: arguments::agent_inside(self.id) }
    }

    async fn lock(&self) -> Result<Lock> {
        Lock::acquire(&self.lock_path()?, LOCK_DEADLINE).await
    }

    fn lock_path(&self) -> Result<PathBuf> {
        let directory = self.config.state_dir.join("locks");
        record::private_directory(&directory)?;
        Ok(directory.join(self.id.to_string()))
    }
}

/// An agent that does not answer as it should.
fn silent(error: GuestError) -> Failure {
    let kind = match error.kind {
        GuestErrorKind::TimedOut => ErrorKind::TimedOut,
        GuestErrorKind::Refused(_)
        | GuestErrorKind::Gone
        | GuestErrorKind::Protocol
        | GuestErrorKind::Source => ErrorKind::Host,
    };
    Failure::new(kind, format!("the agent does not say hello: {error}"))
}

impl LocalConfig {
    /// The range of user ids for sandboxes, if the server may give any away.
    pub(super) fn uids(&self) -> Option<Uids> {
        let is_root = rustix::process::geteuid().is_root();
        is_root.then(|| Uids::new(Path::new(SHARED).join("uids"), self.first_uid, self.n_uids))
    }

    /// The filter of system calls, in a place where sandboxes can be started from.
    pub(super) fn filter(&self) -> Result<Option<PathBuf>> {
        let is_root = rustix::process::geteuid().is_root();
        filter::file(if is_root { SHARED.as_ref() } else { &self.state_dir })
    }

    /// The agent in a form that this user can run.
    pub(super) fn agent_for(&self, uid: Option<u32>) -> Result<PathBuf> {
        match uid {
            Some(_) => agent::readable(&self.agent, &Path::new(SHARED).join("agents")),
            None => agent::existing(&self.agent),
        }
    }
}

/// Where servers that are root keep what they share with each other, whatever their state
/// directories, and with the users that sandboxes run as.
const SHARED: &str = "/run/crownest";
