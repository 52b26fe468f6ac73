//! Connections to the agents inside sandboxes: one per sandbox, made when it is needed and made
//! again when it broke.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Mutex, PoisonError},
};

use domain::id::SandboxId;
use drivers::{
    Driver,
    guest::{Guest, GuestError, GuestErrorKind},
};

/// The open connections.
#[derive(Debug, Default)]
pub struct Guests {
    open: Mutex<HashMap<SandboxId, Guest>>,
}

impl Guests {
    /// The connection to a sandbox's agent.
    ///
    /// # Errors
    /// `Gone` when the sandbox does not run.
    pub async fn get(&self, driver: &dyn Driver, id: SandboxId) -> Result<Guest, GuestError> {
        let known = self.open.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        if let Some(guest) = known {
            return Ok(guest);
        }
        let guest = Guest::connect(driver, id).await?;
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(id, guest.clone());
        Ok(guest)
    }

    /// Drops a connection: the sandbox ended, or the connection broke.
    pub fn forget(&self, id: SandboxId) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
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
