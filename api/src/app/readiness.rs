//! Create-then-use: work on a sandbox waits here until the sandbox takes it (contract, section 9.1).

use std::time::Duration;

use domain::{
    id::SandboxId,
    sandbox::{Phase, Sandbox, Wish},
};
use store::Reach;
use tokio::time::Instant;

use super::{
    App,
    error::{Error, Result},
};
use crate::bus::{Nudge, POLL};

/// How long work waits for a sandbox to become ready.
pub const MAX_WAIT: Duration = Duration::from_secs(60);

/// Returns the sandbox once it is ready.
///
/// # Errors
/// `not_found`, `sandbox_destroyed`, or [`Error::NotReady`] after [`MAX_WAIT`].
pub async fn ready(app: &App, reach: Reach, id: SandboxId) -> Result<Sandbox> {
    let deadline = Instant::now() + MAX_WAIT;
    let mut nudges = app.bus.subscribe();
    loop {
        let sandbox = store::sandboxes(reach.clone()).get(app.db.read(), id).await?;
        sandbox.ask(Wish::Use, app.clock.now())?;
        if sandbox.phase == Phase::Ready {
            return Ok(sandbox);
        }
        if Instant::now() >= deadline {
            return Err(Error::NotReady);
        }
        nudges.wait(POLL, |nudge| nudge == Nudge::Sandbox(id)).await;
    }
}
