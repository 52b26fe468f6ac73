//! One simulated sandbox: what a microVM holds, as plain values. Knows neither the wire of the guest
//! protocol nor the driver's faults.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use chrono::{DateTime, Utc};
use domain::id::SandboxId;
use tokio_util::sync::CancellationToken;

use super::{
    SimulatedClock,
    commands::Commands,
    filesystem::Filesystem,
    transport::{Listener, Ports},
};
use crate::spec::{Observed, Spec};

/// A sandbox that runs.
#[derive(Debug)]
pub(super) struct Machine {
    observed: Observed,
    pub boot_id: String,
    pub env: BTreeMap<String, String>,
    pub clock: SimulatedClock,
    pub commands: Commands,
    pub ports: Ports,
    filesystem: Mutex<Filesystem>,
    /// Cancelled when the sandbox ends; everything that runs in it ends with it.
    ended: CancellationToken,
    /// Cancelled to break the connections that are open now.
    connections: Mutex<CancellationToken>,
}

impl Machine {
    pub fn boot(id: SandboxId, spec: &Spec, clock: &SimulatedClock, n_boots: u64) -> Self {
        let ended = CancellationToken::new();
        let disk_bytes = u64::from(spec.limits.disk_mib) << 20;
        Self {
            observed: Observed { id, started_at: clock.now() },
            boot_id: format!("boot-{n_boots}"),
            env: environment(spec),
            clock: clock.clone(),
            commands: Commands::default(),
            ports: Ports::default(),
            filesystem: Mutex::new(Filesystem::new(disk_bytes, clock.now())),
            connections: Mutex::new(ended.child_token()),
            ended,
        }
    }

    pub fn observed(&self) -> Observed {
        self.observed.clone()
    }

    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    pub fn filesystem(&self) -> MutexGuard<'_, Filesystem> {
        self.filesystem.lock().expect("nobody panics while holding it")
    }

    /// Ends everything at once. Commands do not get to run another step.
    pub fn end(&self) {
        self.ended.cancel();
    }

    pub fn ended(&self) -> &CancellationToken {
        &self.ended
    }

    pub fn drop_connections(&self) {
        let mut connections = self.connections.lock().expect("nobody panics while holding it");
        std::mem::replace(&mut *connections, self.ended.child_token()).cancel();
    }

    /// Cancelled when a connection that is opened now is to break.
    pub fn connection_token(&self) -> CancellationToken {
        self.connections.lock().expect("nobody panics while holding it").clone()
    }

    pub fn listen(self: &Arc<Self>, port: u16) -> Listener {
        self.ports.listen(port)
    }
}

/// What every command inside finds in its environment, the spec's variables on top.
fn environment(spec: &Spec) -> BTreeMap<String, String> {
    let own = [("PATH", "/usr/bin:/bin"), ("HOME", "/home/user"), ("LANG", "C.UTF-8")];
    let mut env: BTreeMap<_, _> =
        own.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    env.extend(spec.env.clone());
    env
}
