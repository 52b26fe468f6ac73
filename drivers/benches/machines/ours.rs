//! Machines of the driver, through what a server uses of it.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use domain::id::SandboxId;
use drivers::{
    Driver as _, Spec, Suspend as _,
    cloud_hypervisor::{CloudHypervisor, CloudHypervisorConfig, Start},
    contract::new_id,
    guest::Guest,
};

use crate::{
    idle::family,
    made::{Made, Maker},
};

/// The driver in one configuration.
#[derive(Clone)]
pub struct Ours {
    name: &'static str,
    /// How its machines should start.
    start: Start,
    told: Arc<Mutex<Option<Start>>>,
    driver: CloudHypervisor,
    sandboxes: PathBuf,
    spec: Spec,
}

impl Ours {
    pub fn new(
        name: &'static str,
        start: Start,
        config: CloudHypervisorConfig,
        spec: &Spec,
    ) -> Self {
        let (told, spec) = (Arc::new(Mutex::new(None)), spec.clone());
        let heard = Arc::clone(&told);
        let sandboxes = config.state_dir.join("sandboxes");
        let driver = CloudHypervisor::new(config).telling(move |start| {
            *heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(start);
        });
        Self { name, start, told, driver, sandboxes, spec }
    }

    /// Ends what was made ahead and is of no more use.
    pub async fn close(&self) {
        self.driver.close().await;
    }

    /// Removes every machine of any driver with the same state directory.
    pub async fn clear(&self) -> Result<()> {
        let suspended = self.driver.suspended().await?;
        let running = self.driver.list().await?;
        for id in running.into_iter().map(|observed| observed.id).chain(suspended) {
            self.driver.remove(id).await?;
        }
        Ok(())
    }

    async fn guest(&self, id: SandboxId) -> Result<Guest> {
        let guest = Guest::connect(&self.driver, id).await?;
        guest.hello().await?;
        Ok(guest)
    }
}

#[async_trait]
impl Maker for Ours {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn prepare(&self) -> Result<()> {
        if self.start == Start::Boot {
            return Ok(());
        }
        Ok(self.driver.prepare(&self.spec).await?)
    }

    async fn create(&self) -> Result<Box<dyn Made>> {
        let id = new_id();
        self.driver.ensure(id, &self.spec).await?;
        let guest = self.guest(id).await?;
        let started = self.told.lock().unwrap_or_else(PoisonError::into_inner).take();
        let is_typical = started == Some(self.start);
        Ok(Box::new(Sandbox { ours: self.clone(), id, guest, is_typical }))
    }
}

struct Sandbox {
    ours: Ours,
    id: SandboxId,
    guest: Guest,
    is_typical: bool,
}

#[async_trait]
impl Made for Sandbox {
    fn guest(&self) -> &Guest {
        &self.guest
    }

    fn is_typical(&self) -> bool {
        self.is_typical
    }

    fn processes(&self) -> Result<Vec<u32>> {
        let path = self.ours.sandboxes.join(self.id.to_string()).join("record.json");
        let record: serde_json::Value = serde_json::from_slice(&fs::read(path)?)?;
        let launcher = record["launcher"]["pid"].as_u64().context("a launcher is on record")?;
        Ok(family(u32::try_from(launcher)?))
    }

    async fn suspend(&mut self) -> Result<()> {
        Ok(self.ours.driver.suspend(self.id).await?)
    }

    async fn wake(&mut self) -> Result<()> {
        self.ours.driver.resume(self.id).await?;
        self.guest = self.ours.guest(self.id).await?;
        Ok(())
    }

    async fn remove(self: Box<Self>) -> Result<()> {
        Ok(self.ours.driver.remove(self.id).await?)
    }
}
