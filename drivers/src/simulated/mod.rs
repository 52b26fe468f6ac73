//! A driver without a host: sandboxes in memory, with a shell of a few words, a clock that tests move
//! and a script of faults, so that stories run fast and the same way each time. Isolates nothing, so
//! it is never for code that somebody else wrote.

mod clock;
mod commands;
mod faults;
mod filesystem;
mod machine;
mod output;
mod process;
mod service;
mod shell;
mod transport;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use async_trait::async_trait;
use chrono::DateTime;
use domain::id::SandboxId;

pub use self::{
    clock::SimulatedClock,
    faults::{Call, Hang},
    transport::Listener,
};
use self::{
    faults::{Fault, Script},
    machine::Machine,
};
use crate::{
    driver::{BoxedStream, Driver, DriverError, ErrorKind, Suspend, Verb},
    spec::{Limitation, Observed, Spec},
};

const TEMPLATES: [&str; 4] = ["base", "python", "node", "python-node"];

/// The simulated driver. A clone is another handle on the same sandboxes, as a second server process
/// on the same host would be.
#[derive(Debug, Clone)]
pub struct Simulated {
    clock: SimulatedClock,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    machines: BTreeMap<SandboxId, Arc<Machine>>,
    suspended: BTreeMap<SandboxId, Arc<Machine>>,
    script: Script,
    calls: Vec<Call>,
    n_boots: u64,
}

impl Simulated {
    /// Makes a driver without sandboxes, whose own clock stands at the epoch.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(SimulatedClock::at(DateTime::UNIX_EPOCH))
    }

    /// Makes a driver without sandboxes that lives by `clock`.
    #[must_use]
    pub fn with_clock(clock: SimulatedClock) -> Self {
        Self { clock, state: Arc::default() }
    }

    /// The clock that commands inside sleep by.
    #[must_use]
    pub fn clock(&self) -> &SimulatedClock {
        &self.clock
    }

    /// Makes the next call of `verb` fail without any effect.
    pub fn fail_next(&self, verb: Verb, kind: ErrorKind) {
        self.state().script.add(verb, Fault::Fail(kind));
    }

    /// Makes the next call of `verb` wait before it has any effect.
    pub fn hang_next(&self, verb: Verb) -> Hang {
        let (hang, released) = Hang::pair();
        self.state().script.add(verb, Fault::HangBefore(released));
        hang
    }

    /// Makes the next call of `verb` have its effect, but wait before it answers.
    pub fn hang_next_after(&self, verb: Verb) -> Hang {
        let (hang, released) = Hang::pair();
        self.state().script.add(verb, Fault::HangAfter(released));
        hang
    }

    /// Forgets the faults that no call has met yet.
    pub fn clear_faults(&self) {
        self.state().script.clear();
    }

    /// Ends a sandbox as the death of a microVM would: at once, with everything in it and without a
    /// word to anybody. False if it did not run.
    pub fn crash(&self, id: SandboxId) -> bool {
        let machine = self.state().machines.remove(&id);
        machine.map(|machine| machine.end()).is_some()
    }

    /// Breaks the open connections to a sandbox; the sandbox and its commands go on.
    pub fn drop_connections(&self, id: SandboxId) {
        if let Some(machine) = self.machine(id) {
            machine.drop_connections();
        }
    }

    /// Lets a test serve a port inside the sandbox, as a program in it would. `None` if the sandbox
    /// does not run. The port is free again when the listener is dropped.
    #[must_use]
    pub fn listen(&self, id: SandboxId, port: u16) -> Option<Listener> {
        self.machine(id).map(|machine| machine.listen(port))
    }

    /// Every call so far, oldest first.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// How often `verb` was called so far.
    #[must_use]
    pub fn n_calls(&self, verb: Verb) -> usize {
        self.state().calls.iter().filter(|call| call.verb == verb).count()
    }

    /// The sandboxes that run, without counting as a call.
    #[must_use]
    pub fn running(&self) -> Vec<SandboxId> {
        self.state().machines.keys().copied().collect()
    }

    fn machine(&self, id: SandboxId) -> Option<Arc<Machine>> {
        self.state().machines.get(&id).cloned()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding it")
    }

    /// Counts a call and lets the script have its way with it. Held by the caller until it answers.
    async fn enter(&self, verb: Verb, id: Option<SandboxId>) -> Result<Answering, DriverError> {
        let fault = {
            let mut state = self.state();
            state.calls.push(Call { verb, id });
            state.script.take(verb)
        };
        match fault {
            None => Ok(Answering(None)),
            Some(Fault::Fail(kind)) => Err(faults::scripted(kind, verb)),
            Some(Fault::HangBefore(released)) => {
                // An error is a dropped `Hang`, which releases as well.
                let _ = released.await;
                Ok(Answering(None))
            }
            Some(Fault::HangAfter(released)) => Ok(Answering(Some(released))),
        }
    }
}

impl Default for Simulated {
    fn default() -> Self {
        Self::new()
    }
}

/// A call whose effect is done and whose answer may be made to wait.
struct Answering(Option<tokio::sync::oneshot::Receiver<()>>);

impl Answering {
    async fn with<T>(self, answer: T) -> T {
        if let Some(released) = self.0 {
            let _ = released.await;
        }
        answer
    }
}

#[async_trait]
impl Driver for Simulated {
    fn name(&self) -> &'static str {
        "simulated"
    }

    async fn check(&self) -> Result<Vec<Limitation>, DriverError> {
        let answering = self.enter(Verb::Check, None).await?;
        let nothing_isolated = Limitation {
            what: "The simulated driver runs no programs and enforces only the size of /workspace."
                .to_owned(),
            remedy: "Use it in tests only.".to_owned(),
        };
        Ok(answering.with(vec![nothing_isolated]).await)
    }

    async fn ensure(&self, id: SandboxId, spec: &Spec) -> Result<Observed, DriverError> {
        let answering = self.enter(Verb::Ensure, Some(id)).await?;
        if !TEMPLATES.contains(&spec.template.slug.as_str()) {
            let text = format!("there is no template {:?} here", spec.template.slug);
            return Err(DriverError::new(ErrorKind::Unsupported, Verb::Ensure, text));
        }
        let observed = {
            let mut state = self.state();
            if let Some(machine) = state.suspended.remove(&id) {
                state.machines.insert(id, machine);
            }
            let n_boots = state.n_boots;
            let clock = &self.clock;
            let machine = state.machines.entry(id);
            let mut booted = false;
            let machine = machine.or_insert_with(|| {
                booted = true;
                Arc::new(Machine::boot(id, spec, clock, n_boots))
            });
            let observed = machine.observed();
            state.n_boots += u64::from(booted);
            observed
        };
        Ok(answering.with(observed).await)
    }

    async fn remove(&self, id: SandboxId) -> Result<(), DriverError> {
        let answering = self.enter(Verb::Remove, Some(id)).await?;
        let machines = {
            let mut state = self.state();
            [state.machines.remove(&id), state.suspended.remove(&id)]
        };
        machines.into_iter().flatten().for_each(|machine| machine.end());
        answering.with(()).await;
        Ok(())
    }

    async fn observe(&self, id: SandboxId) -> Result<Option<Observed>, DriverError> {
        let answering = self.enter(Verb::Observe, Some(id)).await?;
        let observed = self.machine(id).map(|machine| machine.observed());
        Ok(answering.with(observed).await)
    }

    async fn list(&self) -> Result<Vec<Observed>, DriverError> {
        let answering = self.enter(Verb::List, None).await?;
        let listed = self.state().machines.values().map(|machine| machine.observed()).collect();
        Ok(answering.with(listed).await)
    }

    async fn connect(&self, id: SandboxId) -> Result<BoxedStream, DriverError> {
        let answering = self.enter(Verb::Connect, Some(id)).await?;
        let machine = self.machine(id).ok_or_else(|| {
            DriverError::new(ErrorKind::Gone, Verb::Connect, format!("{id} does not run"))
        })?;
        Ok(answering.with(service::connect(&machine)).await)
    }

    fn as_suspend(&self) -> Option<&dyn Suspend> {
        Some(self)
    }
}

/// The clock that commands sleep by goes on while they are suspended: there is one for all.
#[async_trait]
impl Suspend for Simulated {
    async fn suspend(&self, id: SandboxId) -> Result<(), DriverError> {
        let answering = self.enter(Verb::Suspend, Some(id)).await?;
        {
            let mut state = self.state();
            match state.machines.remove(&id) {
                Some(machine) => {
                    machine.drop_connections();
                    state.suspended.insert(id, machine);
                }
                None if state.suspended.contains_key(&id) => {}
                None => return Err(gone(Verb::Suspend, id)),
            }
        }
        answering.with(()).await;
        Ok(())
    }

    async fn resume(&self, id: SandboxId) -> Result<Observed, DriverError> {
        let answering = self.enter(Verb::Resume, Some(id)).await?;
        let observed = {
            let mut state = self.state();
            if let Some(machine) = state.suspended.remove(&id) {
                state.machines.insert(id, machine);
            }
            let machine = state.machines.get(&id).ok_or_else(|| gone(Verb::Resume, id))?;
            machine.observed()
        };
        Ok(answering.with(observed).await)
    }

    async fn suspended(&self) -> Result<Vec<SandboxId>, DriverError> {
        let answering = self.enter(Verb::Suspended, None).await?;
        let suspended = self.state().suspended.keys().copied().collect();
        Ok(answering.with(suspended).await)
    }
}

fn gone(verb: Verb, id: SandboxId) -> DriverError {
    DriverError::new(ErrorKind::Gone, verb, format!("{id} neither runs nor is suspended"))
}
