//! The script of faults and the record of what was asked, so that a story can say what goes wrong
//! and see what was tried. Decides nothing by chance.

use std::{collections::VecDeque, fmt};

use domain::id::SandboxId;
use tokio::sync::oneshot;

use crate::driver::{DriverError, ErrorKind, Verb};

/// What the next call of a verb does instead of, or after, its work.
#[derive(Debug)]
pub(super) enum Fault {
    /// It fails and changes nothing.
    Fail(ErrorKind),
    /// It waits before it does its work; a caller who gives up meanwhile has changed nothing.
    HangBefore(oneshot::Receiver<()>),
    /// It does its work and waits before it answers; a caller who gives up never learns of it.
    HangAfter(oneshot::Receiver<()>),
}

/// Lets a call go on that was made to hang. Dropping it lets the call go on too.
#[must_use = "dropping it lets the call go on"]
pub struct Hang(oneshot::Sender<()>);

impl Hang {
    pub(super) fn pair() -> (Self, oneshot::Receiver<()>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }

    /// Lets the call go on.
    pub fn release(self) {
        // The caller may have given up, so nobody may be waiting.
        let _ = self.0.send(());
    }
}

impl fmt::Debug for Hang {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hang")
    }
}

/// Scripted faults, each used by the first call of its verb that comes, in the order of the script.
#[derive(Debug, Default)]
pub(super) struct Script(VecDeque<(Verb, Fault)>);

impl Script {
    pub fn add(&mut self, verb: Verb, fault: Fault) {
        self.0.push_back((verb, fault));
    }

    pub fn take(&mut self, verb: Verb) -> Option<Fault> {
        let index = self.0.iter().position(|(scripted, _)| *scripted == verb)?;
        self.0.remove(index).map(|(_, fault)| fault)
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// A call that a driver got, counted when it came in and whatever became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// What was asked.
    pub verb: Verb,
    /// About which sandbox; `None` for the verbs that are about the host.
    pub id: Option<SandboxId>,
}

/// A scripted failure as the caller sees it.
pub(super) fn scripted(kind: ErrorKind, verb: Verb) -> DriverError {
    DriverError::new(kind, verb, "the script of faults says so")
}
