//! Sandboxes by bubblewrap: namespaces of one Linux kernel that all sandboxes share with the host.
//! For development and for code that is trusted; it is not what keeps hostile tenants apart.

mod arguments;
mod check;
mod filter;
mod host;
mod lifecycle;

use std::path::PathBuf;

use async_trait::async_trait;
use domain::id::SandboxId;

use self::{host::Host, lifecycle::Sandbox};
use crate::{
    driver::{BoxedStream, Driver, DriverError, ErrorKind, Verb},
    jail::{
        self,
        failure::Failure,
        groups::Promise,
        hold::{self, Held},
        sweeper::Sweeper,
        to_the_end,
    },
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
    /// The usual `first_uid`.
    pub const FIRST_UID: u32 = jail::FIRST_UID;

    /// The usual configuration for a state directory and an agent.
    #[must_use]
    pub fn new(state_dir: impl Into<PathBuf>, agent: impl Into<PathBuf>) -> Self {
        Self {
            state_dir: state_dir.into(),
            agent: agent.into(),
            bwrap: "bwrap".into(),
            first_uid: Self::FIRST_UID,
            n_uids: jail::N_UIDS,
        }
    }
}

/// The local driver.
#[derive(Debug, Clone)]
pub struct Local {
    config: LocalConfig,
    promise: Promise,
    sweeper: Sweeper,
}

impl Local {
    /// Makes a driver. Touches nothing yet.
    #[must_use]
    pub fn new(mut config: LocalConfig) -> Self {
        config.state_dir = jail::absolute(&config.state_dir);
        Self { config, promise: Promise::default(), sweeper: Sweeper::default() }
    }

    fn sandbox(&self, id: SandboxId) -> Sandbox {
        Sandbox::new(&self.config, &self.promise, id)
    }
}

#[async_trait]
impl Driver for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    #[tracing::instrument(skip_all)]
    async fn check(&self) -> std::result::Result<Vec<Limitation>, DriverError> {
        let (config, promise) = (self.config.clone(), self.promise.clone());
        to_the_end(Verb::Check, async move { check::check(&config, &promise).await }).await
    }

    #[tracing::instrument(skip_all, fields(sandbox = %id))]
    async fn ensure(
        &self,
        id: SandboxId,
        spec: &Spec,
    ) -> std::result::Result<Observed, DriverError> {
        let (sandbox, spec) = (self.sandbox(id), spec.clone());
        let ensuring = async move {
            Host::look().supports(&spec.template)?;
            sandbox.ensure(&spec).await
        };
        let started_at = to_the_end(Verb::Ensure, ensuring).await?;
        Ok(Observed { id, started_at })
    }

    #[tracing::instrument(skip_all, fields(sandbox = %id))]
    async fn remove(&self, id: SandboxId) -> std::result::Result<(), DriverError> {
        let sandbox = self.sandbox(id);
        to_the_end(Verb::Remove, async move { sandbox.remove().await }).await
    }

    #[tracing::instrument(skip_all, fields(sandbox = %id))]
    async fn observe(&self, id: SandboxId) -> std::result::Result<Option<Observed>, DriverError> {
        let running_since = self.sandbox(id).hold().running_since();
        let started_at = running_since.map_err(|failure| failure.of_verb(Verb::Observe))?;
        Ok(started_at.map(|started_at| Observed { id, started_at }))
    }

    #[tracing::instrument(skip_all)]
    async fn list(&self) -> std::result::Result<Vec<Observed>, DriverError> {
        let driver = self.clone();
        to_the_end(Verb::List, async move {
            hold::list(&driver.config.state_dir, &driver.sweeper, |id| driver.sandbox(id)).await
        })
        .await
    }

    #[tracing::instrument(skip_all, fields(sandbox = %id))]
    async fn connect(&self, id: SandboxId) -> std::result::Result<BoxedStream, DriverError> {
        let sandbox = self.sandbox(id);
        let gone = || Failure::new(ErrorKind::Gone, format!("{id} does not run"));
        let running_since = || sandbox.hold().running_since();
        let connect = || match running_since()? {
            None => Err(gone()),
            // It may have died since it was looked at.
            Some(_) => match sandbox.connect() {
                Err(_) if running_since()?.is_none() => Err(gone()),
                connected => connected,
            },
        };
        let stream = connect().map_err(|failure| failure.of_verb(Verb::Connect))?;
        Ok(Box::new(stream))
    }
}
