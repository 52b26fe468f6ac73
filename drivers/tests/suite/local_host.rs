//! A host for tests of the local driver: a state directory of its own, the agent that was built, and
//! nothing left over at the end, however a test ends.

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use domain::id::SandboxId;
use drivers::{
    Driver,
    local::{Local, LocalConfig},
};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{run::wait_until, traces::Host};

pub struct LocalHost {
    pub config: LocalConfig,
    pub directory: TempDir,
}

impl LocalHost {
    pub fn new() -> Self {
        let directory =
            tempfile::Builder::new().prefix("crownest-").tempdir().expect("a directory");
        let config = LocalConfig::new(directory.path().join("state"), agent());
        Self { config, directory }
    }

    pub fn driver(&self) -> Local {
        Local::new(self.config.clone())
    }

    pub fn run_directory(&self, id: SandboxId) -> PathBuf {
        self.config.state_dir.join("sandboxes").join(id.to_string())
    }

    /// The process of the agent as the host numbers it.
    pub fn agent_pid(&self, id: SandboxId) -> i32 {
        self.pid_on_record(id, "agent")
    }

    /// The process of bubblewrap, which waits for the agent's end.
    pub fn bwrap_pid(&self, id: SandboxId) -> i32 {
        self.pid_on_record(id, "launcher")
    }

    /// The user that a sandbox runs as, as the host numbers it.
    pub fn uid_outside(&self, id: SandboxId) -> u32 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.agent_pid(id)));
        let status = status.expect("the agent runs");
        let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).expect("its ids");
        line.split_whitespace().next().expect("an id").parse().expect("ids are numbers")
    }

    /// The directories of the sandbox's control groups.
    pub fn groups(&self, id: SandboxId) -> Vec<PathBuf> {
        serde_json::from_value(self.record(id)["groups"].clone()).expect("groups are paths")
    }

    pub fn record(&self, id: SandboxId) -> serde_json::Value {
        record(&self.config.state_dir, id)
    }

    pub fn record_path(&self, id: SandboxId) -> PathBuf {
        self.run_directory(id).join("record.json")
    }

    fn pid_on_record(&self, id: SandboxId, who: &str) -> i32 {
        pid_on_record(&self.config.state_dir, id, who)
    }

    /// Kills the agent, and all of the sandbox with it, and waits until it is dead.
    pub fn kill_agent(&self, id: SandboxId) {
        kill(self.agent_pid(id));
    }
}

impl Host for LocalHost {
    fn driver(&self) -> Arc<dyn Driver> {
        Arc::new(self.driver())
    }

    fn state_dir(&self) -> PathBuf {
        self.config.state_dir.clone()
    }
}

impl Drop for LocalHost {
    fn drop(&mut self) {
        remove_all(Arc::new(self.driver()));
    }
}

/// Removes every sandbox of a host at the end of a test.
pub fn remove_all(driver: Arc<dyn Driver>) {
    // In a thread, because the test's own runtime may be unwinding.
    let removing = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            for sandbox in driver.list().await.expect("a list") {
                driver.remove(sandbox.id).await.expect("it can be removed");
            }
        });
    });
    let removed = removing.join();
    assert!(removed.is_ok() || thread::panicking(), "the host could not be cleaned up");
}

/// The record of a sandbox.
pub fn record(state_dir: &Path, id: SandboxId) -> serde_json::Value {
    let path = state_dir.join("sandboxes").join(id.to_string()).join("record.json");
    serde_json::from_slice(&fs::read(path).expect("a record")).expect("a record is JSON")
}

/// A process of a sandbox by what it is on record as.
pub fn pid_on_record(state_dir: &Path, id: SandboxId, who: &str) -> i32 {
    let pid = record(state_dir, id)[who]["pid"].as_i64().expect("the process is on record");
    i32::try_from(pid).expect("process ids are small")
}

/// Kills a process and waits until it is dead.
pub fn kill(pid: i32) {
    let process = Pid::from_raw(pid).expect("a process id");
    kill_process(process, Signal::KILL).expect("it can be killed");
    wait_until(|| is_dead(pid), "the process dies");
}

/// Whether no thread of a process is left: the main one may end before the others.
pub fn is_dead(pid: i32) -> bool {
    const N_THREADS: usize = 17;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<_> =
        stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').collect()).unwrap_or_default();
    match fields.first() {
        None | Some(&"X") => true,
        Some(&"Z") => matches!(fields.get(N_THREADS), None | Some(&("0" | "1"))),
        Some(_) => false,
    }
}

/// The agent, which cargo does not build for the tests of another package.
pub fn agent() -> PathBuf {
    if let Some(path) = env::var_os("CROWNEST_GUEST_AGENT") {
        return path.into();
    }
    let test = env::current_exe().expect("the path of this test");
    // From target/debug/deps/contract-0123 to target/debug/crownest-guest.
    let built = test.ancestors().nth(2).unwrap_or(Path::new("/")).join("crownest-guest");
    assert!(
        built.exists(),
        "the agent is not built: run `cargo build -p guest`, or set CROWNEST_GUEST_AGENT to its \
         path ({} does not exist)",
        built.display()
    );
    built
}
