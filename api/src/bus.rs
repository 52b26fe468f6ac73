//! Nudges inside this process: "look again". They carry no state and may be lost; every listener
//! also looks by itself after a while, which is what serves changes made by other processes.

use std::time::Duration;

use domain::id::{CommandId, SandboxId};
use tokio::sync::broadcast::{self, error::RecvError};

/// How many nudges a slow listener may fall behind before it is told just "something happened".
const BACKLOG: usize = 1024;
/// How long a listener waits for a nudge before it looks by itself.
pub const POLL: Duration = Duration::from_millis(250);

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nudge {
    /// A sandbox's row.
    Sandbox(SandboxId),
    /// A command's row or its log.
    Command(CommandId),
    /// Something is due for the reconciler.
    Reconcile,
    /// An account is due.
    Billing,
    /// A preview has ended.
    Previews,
}

/// The sending side; cheap to clone.
#[derive(Debug, Clone)]
pub struct Bus(broadcast::Sender<Nudge>);

impl Default for Bus {
    fn default() -> Self {
        Self(broadcast::channel(BACKLOG).0)
    }
}

impl Bus {
    /// Tells whoever listens.
    pub fn publish(&self, nudge: Nudge) {
        // An error means that nobody listens, which is nobody's fault.
        let _ = self.0.send(nudge);
    }

    /// Starts listening. Subscribe before reading the state that a nudge would announce.
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        Subscription(self.0.subscribe())
    }
}

/// The listening side.
#[derive(Debug)]
pub struct Subscription(broadcast::Receiver<Nudge>);

impl Subscription {
    /// Returns at the next nudge for which `wanted` holds, or after `at_most`: either way it is time
    /// to look again. A listener that fell behind looks again at once.
    pub async fn wait(&mut self, at_most: Duration, wanted: impl Fn(Nudge) -> bool) {
        let listening = async {
            loop {
                match self.0.recv().await {
                    Ok(nudge) if wanted(nudge) => return,
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => return,
                    // The sender lives as long as the application; without one, only time is left.
                    Err(RecvError::Closed) => std::future::pending().await,
                }
            }
        };
        // Elapsed is as good as a nudge.
        let _ = tokio::time::timeout(at_most, listening).await;
    }
}
