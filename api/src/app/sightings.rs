//! When this process last knew each sandbox alive, more exactly than is written down: the rows say so
//! every few seconds, because each writing costs, and this costs nothing. Whoever ends a sandbox that
//! died asks both. Never here: what has to survive this process.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, Utc};
use domain::id::SandboxId;

/// The last sign of life of each sandbox of this host: it was among those that the driver runs, or
/// one of its commands said something.
#[derive(Debug, Default)]
pub struct Sightings {
    last: Mutex<HashMap<SandboxId, DateTime<Utc>>>,
}

impl Sightings {
    /// Notes that a sandbox was alive at an instant.
    pub fn note(&self, sandbox: SandboxId, at: DateTime<Utc>) {
        // Whoever notes may have looked at the clock long ago.
        self.last().entry(sandbox).and_modify(|last| *last = at.max(*last)).or_insert(at);
    }

    /// When a sandbox was last known alive; `None` when this process has not seen it.
    pub fn last_of(&self, sandbox: SandboxId) -> Option<DateTime<Utc>> {
        self.last().get(&sandbox).copied()
    }

    /// Drops what is known of all sandboxes but these.
    pub fn keep(&self, wanted: &BTreeSet<SandboxId>) {
        self.last().retain(|id, _| wanted.contains(id));
    }

    fn last(&self) -> MutexGuard<'_, HashMap<SandboxId, DateTime<Utc>>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
