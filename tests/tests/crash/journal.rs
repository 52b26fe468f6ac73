//! What the clients were told: the promises that the checks hold the servers to.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tests::serving::Answer;

use crate::follower::{Chunk, Script};

/// What was promised so far.
#[derive(Debug, Default)]
pub struct Journal(Mutex<Promises>);

#[derive(Debug, Clone, Default)]
pub struct Promises {
    pub creates: Vec<Create>,
    pub commands: Vec<Command>,
    /// Sandboxes whose kill was answered.
    pub killed: Vec<String>,
    /// Live sandboxes that some client may kill.
    pub spare: Vec<String>,
}

/// A create that was answered.
#[derive(Debug, Clone)]
pub struct Create {
    pub key: String,
    pub sandbox: String,
    pub answer: Answer,
}

/// A command that was accepted.
#[derive(Debug, Clone)]
pub struct Command {
    pub key: String,
    pub id: String,
    pub sandbox: String,
    pub background: bool,
    pub line: String,
    pub answer: Answer,
    /// What it was to print and what its follower saw, if it had one.
    pub followed: Option<(Script, Vec<Chunk>)>,
}

impl Journal {
    pub fn open(&self) -> MutexGuard<'_, Promises> {
        // A client's failure is told by its task; the checks may still read.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Promises {
    /// The sandboxes that nobody has killed.
    pub fn live(&self) -> Vec<String> {
        let ids = self.creates.iter().map(|create| create.sandbox.clone());
        ids.filter(|id| !self.killed.contains(id)).collect()
    }
}
