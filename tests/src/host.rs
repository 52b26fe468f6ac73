//! The host that a world's servers run on: its clock, and its sandboxes, which outlive the servers.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::id::SandboxId;
use drivers::{
    BoxedStream, Driver, DriverError, ErrorKind, Limitation, Observed, Spec, Suspend, Verb,
    simulated::{Simulated, SimulatedClock},
};
use tokio::runtime::Handle;

/// The one clock of a world: what servers and sandboxes see never differs.
#[derive(Debug, Clone)]
pub(crate) struct WorldClock(pub SimulatedClock);

impl api::clock::Clock for WorldClock {
    fn now(&self) -> DateTime<Utc> {
        self.0.now()
    }
}

/// The simulated driver, with whatever it starts running in the world and not in the server that
/// asked: a server's death must not reach into its sandboxes.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    driver: Simulated,
    world: Handle,
}

impl Host {
    /// A host whose sandboxes live in the current runtime.
    pub fn new(driver: Simulated) -> Self {
        Self { driver, world: Handle::current() }
    }
}

#[async_trait]
impl Driver for Host {
    fn name(&self) -> &'static str {
        self.driver.name()
    }

    async fn check(&self) -> Result<Vec<Limitation>, DriverError> {
        self.driver.check().await
    }

    async fn ensure(&self, id: SandboxId, spec: &Spec) -> Result<Observed, DriverError> {
        self.driver.ensure(id, spec).await
    }

    async fn remove(&self, id: SandboxId) -> Result<(), DriverError> {
        self.driver.remove(id).await
    }

    async fn observe(&self, id: SandboxId) -> Result<Option<Observed>, DriverError> {
        self.driver.observe(id).await
    }

    async fn list(&self) -> Result<Vec<Observed>, DriverError> {
        self.driver.list().await
    }

    async fn connect(&self, id: SandboxId) -> Result<BoxedStream, DriverError> {
        let driver = self.driver.clone();
        let connecting = self.world.spawn(async move { driver.connect(id).await });
        connecting.await.map_err(|error| DriverError::new(ErrorKind::Host, Verb::Connect, error))?
    }

    fn as_suspend(&self) -> Option<&dyn Suspend> {
        self.driver.as_suspend()
    }
}
