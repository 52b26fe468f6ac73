//! Connections to the agents inside sandboxes: one per sandbox, made when it is needed and made
//! again when it broke.

use std::{
    collections::{BTreeSet, HashMap},
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use domain::id::SandboxId;
use drivers::{
    Driver,
    guest::{Guest, GuestError, GuestErrorKind},
};
use tokio::sync::Mutex as AsyncMutex;

/// The open connections.
#[derive(Debug, Default)]
pub struct Guests {
    open: Mutex<HashMap<SandboxId, Slot>>,
}

type Slot = Arc<AsyncMutex<Option<Guest>>>;

impl Guests {
    /// The connection to a sandbox's agent. One is made at a time for each sandbox: whoever else wants
    /// it waits for that one.
    ///
    /// # Errors
    /// `Gone` when the sandbox does not run.
    pub async fn get(&self, driver: &dyn Driver, id: SandboxId) -> Result<Guest, GuestError> {
        let slot = Arc::clone(self.open().entry(id).or_default());
        let mut slot = slot.lock().await;
        if let Some(guest) = &*slot {
            return Ok(guest.clone());
        }
        let guest = Guest::connect(driver, id).await?;
        *slot = Some(guest.clone());
        Ok(guest)
    }

    fn open(&self) -> MutexGuard<'_, HashMap<SandboxId, Slot>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops a connection: the sandbox ended, or the connection broke.
    pub fn forget(&self, id: SandboxId) {
        self.open().remove(&id);
    }

    /// Drops the connections to all sandboxes but these.
    pub fn keep(&self, wanted: &BTreeSet<SandboxId>) {
        self.open().retain(|id, _| wanted.contains(id));
    }

    /// Makes a call that may be repeated; one that finds its connection broken is made once more
    /// over a new one.
    ///
    /// # Errors
    /// What the call fails with.
    pub async fn call<T, F, Fut>(
        &self,
        driver: &dyn Driver,
        id: SandboxId,
        call: F,
    ) -> Result<T, GuestError>
    where
        F: Fn(Guest) -> Fut + Send + Sync,
        Fut: Future<Output = Result<T, GuestError>> + Send,
        T: Send,
    {
        match call(self.get(driver, id).await?).await {
            Err(error) if matches!(error.kind, GuestErrorKind::Gone) => {
                self.forget(id);
                call(self.get(driver, id).await?).await
            }
            result => result,
        }
    }
}
