//! Sandboxes by bubblewrap: namespaces of one Linux kernel that all sandboxes share with the host.
//! For development and for code that is trusted; it is not what keeps hostile tenants apart.

mod agent;
mod arguments;
mod check;
mod failure;
mod filter;
mod groups;
mod host;
mod launcher;
mod lifecycle;
mod lock;
mod overlap;
mod processes;
mod record;
mod uids;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use domain::id::SandboxId;

use self::{
    failure::{Failure, Result},
    groups::Promise,
    lifecycle::Sandbox,
    record::RunDirectory,
};
use crate::{
    driver::{BoxedStream, Driver, DriverError, ErrorKind, Verb},
    spec::{Limitation, Observed, Spec},
};

/// Where the local driver finds and keeps things.
#[derive(Debug, Clone)]
pub struct LocalConfig {
    /// A directory of its own. Servers that share it share the sandboxes.
    pub state_dir: PathBuf,
    /// The agent, `crownest-guest`.
    pub agent: PathBuf,
    /// Bubblewrap, version 0.8 or later: a path, or a name to look up on `PATH`.
    pub bwrap: PathBuf,
    /// The first user id of the range that a server that is root gives to sandboxes, each its own.
    /// No process or file of the host may use ids of this range.
    pub first_uid: u32,
    /// The length of that range, which bounds the number of sandboxes. One id is for trials.
    pub n_uids: u32,
}

impl LocalConfig {
    /// The usual `first_uid`. Below are the accounts and the subordinate ids of `login.defs` (up to
    /// 600100000), systemd's containers (up to 1879048191) and what SSSD makes of Active Directory (up
    /// to 2000200000); above are systemd's foreign ids (from 2147352576).
    pub const FIRST_UID: u32 = 2_100_000_000;

    /// The usual configuration for a state directory and an agent.
    #[must_use]
    pub fn new(state_dir: impl Into<PathBuf>, agent: impl Into<PathBuf>) -> Self {
        Self {
            state_dir: state_dir.into(),
            agent: agent.into(),
            bwrap: "bwrap".into(),
            first_uid: Self::FIRST_UID,
            n_uids: 4_096,
        }
    }
}

/// The local driver.
#[derive(Debug, Clone)]
pub struct Local {
    config: LocalConfig,
    promise: Promise,
}

impl Local {
    /// Makes a driver. Touches nothing yet.
    #[must_use]
    pub fn new(mut config: LocalConfig) -> Self {
        // Claims of user ids name directories, which must mean the same to every server.
        config.state_dir = absolute(&config.state_dir);
        Self { config, promise: Promise::default() }
    }

    /// Runs a verb to its end even if the caller goes away, so that nothing is left half done.
    async fn run<T: Send + 'static>(
        &self,
        verb: Verb,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> std::result::Result<T, DriverError> {
        let ended = tokio::spawn(tracing::Instrument::in_current_span(work)).await;
        ended
            .unwrap_or_else(|error| Err(Failure::host(format!("it was broken off: {error}"))))
            .map_err(|failure| failure.of_verb(verb))
    }
}

/// The sandboxes that have a lock file. One that has nothing else is locked at present, or a server
/// was killed between removing it and removing the file.
fn locked(state_dir: &Path) -> impl Iterator<Item = SandboxId> {
    let names = std::fs::read_dir(state_dir.join("locks")).into_iter().flatten().flatten();
    names.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[async_trait]
impl Driver for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    #[tracing::instrument(skip_all)]
    async fn check(&self) -> std::result::Result<Vec<Limitation>, DriverError> {
        let (config, promise) = (self.config.clone(), self.promise.clone());
        self.run(Verb::Check, async move { check::check(&config, &promise).await }).await
    }

    #[tracing::instrument(skip_all, fields(sandbox = %id))]
    async fn ensure(
        &self,
        id: SandboxId,
        spec: &Spec,
    ) -> std::result::Result<Observed, DriverError> {
        let (sandbox, spec) = (Sandbox::new(&self.config, id), spec.clone());
        let promise = self.promise.clone();
        let ensuring = async move { sandbox.ensure(&spec, &promise).await };
        let started_at = self.run(Verb::Ensure, ensuring).await?;
        Ok(Observed { id, started_at })
    }

    #[tracing::instrument(skip_all, fields(sandbox = %id))]
    async fn remove(&self, id: SandboxId) -> std::result::Result<(), DriverError> {
        let sandbox = Sandbox::new(&self.config, id);
        self.run(Verb::Remove, async move { sandbox.remove().await }).await
    }

    #[tracing::instrument(skip_all, fields(sandbox = %id))]
    async fn observe(&self, id: SandboxId) -> std::result::Result<Option<Observed>, DriverError> {
        let running_since = Sandbox::new(&self.config, id).running_since();
        let started_at = running_since.map_err(|failure| failure.of_verb(Verb::Observe))?;
        Ok(started_at.map(|started_at| Observed { id, started_at }))
    }

    /// Also clears away what sandboxes left that died, or that a killed server was about to make.
    #[tracing::instrument(skip_all)]
    async fn list(&self) -> std::result::Result<Vec<Observed>, DriverError> {
        let config = self.config.clone();
        self.run(Verb::List, async move {
            let mut known: BTreeSet<_> =
                RunDirectory::list(&config.state_dir)?.into_iter().collect();
            known.extend(locked(&config.state_dir));
            let mut running = Vec::new();
            for id in known {
                let sandbox = Sandbox::new(&config, id);
                match sandbox.running_since()? {
                    Some(started_at) => running.push(Observed { id, started_at }),
                    None => sandbox.sweep().await,
                }
            }
            Ok(running)
        })
        .await
    }

    #[tracing::instrument(skip_all, fields(sandbox = %id))]
    async fn connect(&self, id: SandboxId) -> std::result::Result<BoxedStream, DriverError> {
        let sandbox = Sandbox::new(&self.config, id);
        let gone = || Failure::new(ErrorKind::Gone, format!("{id} does not run"));
        let connect = || match sandbox.running_since()? {
            None => Err(gone()),
            // It may have died since it was looked at.
            Some(_) => match sandbox.connect() {
                Err(_) if sandbox.running_since()?.is_none() => Err(gone()),
                connected => connected,
            },
        };
        let stream = connect().map_err(|failure| failure.of_verb(Verb::Connect))?;
        Ok(Box::new(stream))
    }
}
