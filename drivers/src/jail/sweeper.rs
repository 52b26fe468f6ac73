//! Clears away what died beside what lives: whoever looks at a host learns soon what runs there, however long
//! it takes to end what does not.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use domain::id::SandboxId;
use futures_util::{StreamExt as _, stream};
use tokio::time::timeout;

use super::hold::Held;

/// Whoever looks waits for this long, and no longer: who has died meanwhile is to be told within a second.
/// What takes longer, such as a VMM that is busy with what a dead server told it, goes on by itself.
const PATIENCE: Duration = Duration::from_millis(250);
/// So many are swept at a time.
const AT_A_TIME: usize = 8;

/// Knows what this server sweeps at present. Clones share that.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sweeper {
    busy: Arc<Mutex<BTreeSet<SandboxId>>>,
}

impl Sweeper {
    /// Sweeps those that are not being swept already, and waits until that is done, or for some time.
    pub async fn sweep<S: Held + 'static>(&self, sandboxes: Vec<S>) {
        let mut turns = Vec::new();
        for sandbox in sandboxes {
            if let Some(turn) = self.turn(sandbox.hold().id) {
                turns.push((turn, sandbox));
            }
        }
        if turns.is_empty() {
            return;
        }
        let sweeping =
            stream::iter(turns).for_each_concurrent(AT_A_TIME, |(turn, sandbox)| async move {
                sandbox.sweep().await;
                drop(turn);
            });
        let sweeping = tokio::spawn(tracing::Instrument::in_current_span(sweeping));
        if let Ok(Err(error)) = timeout(PATIENCE, sweeping).await {
            tracing::warn!(%error, "a sweep was broken off");
        }
    }

    fn turn(&self, id: SandboxId) -> Option<Turn> {
        let is_free = self.busy.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        is_free.then(|| Turn { id, busy: Arc::clone(&self.busy) })
    }
}

/// Somebody's turn to sweep a sandbox, up to its end.
struct Turn {
    id: SandboxId,
    busy: Arc<Mutex<BTreeSet<SandboxId>>>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}
