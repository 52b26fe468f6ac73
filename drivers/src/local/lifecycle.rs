//! The life of one sandbox on this host: making it, recognizing it, clearing it away. Every step may
//! be the last one of a server that is killed; whatever that leaves, `clear` finds and removes.

use std::{path::PathBuf, time::Duration};

use chrono::{DateTime, Utc};
use domain::id::SandboxId;
use tokio::{net::UnixStream, time::timeout};

use super::{
    LocalConfig, agent, arguments,
    failure::{Doing, Failure, Result},
    groups::Groups,
    host::{self, Host},
    launcher::{self, Launch, Launcher},
    lock::Lock,
    processes::{self, Marks},
    record::{self, Record, RunDirectory},
    uids::Uids,
};
use crate::{guest::Guest, spec::Spec};

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
    pub async fn ensure(&self, spec: &Spec) -> Result<DateTime<Utc>> {
        let host = Host::look();
        host.supports(&spec.template)?;
        let lock = self.lock().await?;
        if let Some(started_at) = self.running_since()? {
            return Ok(started_at);
        }
        self.clear().await?;
        let made = match timeout(START_DEADLINE, self.make(&host, spec)).await {
            Ok(made) => made,
            Err(_) => Err(Failure::timed_out(format!(
                "the agent did not answer within {} s",
                START_DEADLINE.as_secs()
            ))),
        };
        if made.is_err() {
            self.clear().await?;
            lock.delete();
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
    pub async fn sweep(&self) -> Result<()> {
        match Lock::acquire_now(&self.lock_path()?)? {
            Some(lock) if self.running_since()?.is_none() => {
                self.clear().await?;
                lock.delete();
                Ok(())
            }
            Some(_) | None => Ok(()),
        }
    }

    async fn make(&self, host: &Host, spec: &Spec) -> Result<DateTime<Utc>> {
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
        let groups = Groups::make(&self.id.to_string(), &spec.limits)?;
        let mut launcher = Launcher::start(Launch {
            bwrap,
            arguments: arguments::sandbox(host, &agent, self.id, spec),
            id: self.id,
            uid,
            n_pids: spec.limits.n_pids,
            listener: self.directory.listen()?,
        })?;
        let mut record = Record {
            host_boot: record::host_boot()?,
            launcher: launcher.process,
            agent: None,
            uid,
            groups: groups.directories.clone(),
        };
        // Before anything can run that would have to be found again.
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
        let silent = |error: &dyn std::fmt::Display| Failure::host(format!("no hello: {error}"));
        let guest = Guest::over(Box::new(stream)).await.map_err(|error| silent(&error))?;
        guest.hello().await.map(drop).map_err(|error| silent(&error))
    }

    /// Connects to the agent of a sandbox that runs.
    pub fn connect(&self) -> Result<UnixStream> {
        let stream = self.directory.connect().and_then(|stream| {
            stream.set_nonblocking(true)?;
            UnixStream::from_std(stream)
        });
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
        let groups = Groups {
            directories: record.as_ref().map_or_else(Vec::new, |record| record.groups.clone()),
        };
        processes::kill_all(self.marks(record.as_ref(), uid, &groups), KILL_DEADLINE).await?;
        groups.remove(KILL_DEADLINE).await?;
        if let (Some(uids), Some(uid)) = (&uids, uid) {
            uids.release(uid)?;
        }
        self.directory.delete()
    }

    fn marks(
        &self,
        record: Option<&Record>,
        uid: Option<u32>,
        groups: &Groups,
    ) -> impl Fn() -> Marks + Send + 'static {
        let known: Vec<_> =
            record.into_iter().flat_map(|record| [Some(record.launcher), record.agent]).collect();
        let variable = format!("{}={}", arguments::MARK, self.id);
        let groups = groups.clone();
        move || Marks {
            known: known.iter().copied().flatten().collect(),
            uid,
            variable: variable.clone(),
            // Looked up anew each time: a process may have been started meanwhile.
            group: groups.pids(),
        }
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

impl LocalConfig {
    /// The range of user ids for sandboxes, if the server may give any away.
    pub(super) fn uids(&self) -> Option<Uids> {
        let is_root = rustix::process::geteuid().is_root();
        is_root.then(|| Uids::new(SHARED.into(), self.first_uid, self.n_uids))
    }

    /// The agent in a form that this user can run.
    pub(super) fn agent_for(&self, uid: Option<u32>) -> Result<PathBuf> {
        match uid {
            Some(_) => agent::readable(&self.agent, COPIES.as_ref()),
            None => agent::existing(&self.agent),
        }
    }
}

/// Where servers that are root agree on user ids, whatever their state directories.
const SHARED: &str = "/run/crownest/uids";
/// Where they keep copies of agents that others could not read.
const COPIES: &str = "/run/crownest/agents";
