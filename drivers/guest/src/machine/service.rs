//! The calls of a machine's first process. Begins once, whoever asks and however often.

use std::{
    collections::HashMap,
    fs, io,
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
};

use protocol::{BeginReply, BeginRequest, RefreshReply, RefreshRequest, machine_server::Machine};
use rustix::{
    process::{Pid, Resource, Rlimit, geteuid, prlimit},
    time::{ClockId, Timespec, clock_settime},
};
use tokio::{process::Child, sync::oneshot};
use tonic::{Request, Response, Status};

use super::network::{self, Settings};
use crate::locked::lock;

/// The user that the agent and all commands run as.
const USER: u32 = 1000;
/// What processes find in their environment unless the host says otherwise.
const ENVIRONMENT: [(&str, &str); 6] = [
    ("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"),
    ("HOME", "/home/user"),
    ("USER", "user"),
    ("LANG", "C.UTF-8"),
    ("TMPDIR", "/tmp"),
    ("PYTHONDONTWRITEBYTECODE", "1"),
];
/// The running binary, whatever happens to the file it was started from.
const OWN_BINARY: &str = "/proc/self/exe";
const ENTROPY_BYTES: std::ops::RangeInclusive<usize> = 32..=entropy::N_BYTES;
const MICROS_PER_SECOND: i64 = 1_000_000;
const ID_DIGITS: usize = 32;

/// What the agent is started with once it is time.
pub struct Kept {
    /// The socket that it listens on.
    pub agent: OwnedFd,
    /// Its workspace.
    pub workspace: PathBuf,
    /// Told when it has ended.
    pub ended: oneshot::Sender<()>,
}

/// The machine before it has begun; then nothing is kept any more.
pub struct Service {
    kept: Mutex<Option<Kept>>,
}

impl Service {
    pub fn new(kept: Kept) -> Self {
        Self { kept: Mutex::new(Some(kept)) }
    }
}

#[tonic::async_trait]
impl Machine for Service {
    async fn begin(&self, request: Request<BeginRequest>) -> Result<Response<BeginReply>, Status> {
        let BeginRequest { refresh: told, env, machine_id, n_pids, network } = request.into_inner();
        if let Some(told) = told {
            refresh(&told)?;
        }
        if machine_id.len() != ID_DIGITS || !machine_id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Status::invalid_argument("a machine id has 32 hexadecimal digits"));
        }
        let network = network.as_ref().map(Settings::of).transpose();
        let network = network.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let kept = lock(&self.kept).take();
        let Some(Kept { agent, workspace, ended }) = kept else {
            return Ok(Response::new(BeginReply { begun_now: false }));
        };
        if is_alone() {
            set_identity(&machine_id).map_err(trouble)?;
            if let Some(network) = network {
                network::set_up(&network).await.map_err(trouble)?;
            }
        }
        let child = start(agent, &workspace, &env, n_pids).map_err(trouble)?;
        tokio::spawn(async move {
            let mut child = child;
            // However it ended: the machine ends with it.
            let _ = child.wait().await;
            let _ = ended.send(());
        });
        Ok(Response::new(BeginReply { begun_now: true }))
    }

    async fn refresh(
        &self,
        request: Request<RefreshRequest>,
    ) -> Result<Response<RefreshReply>, Status> {
        refresh(request.get_ref())?;
        Ok(Response::new(RefreshReply {}))
    }
}

fn trouble(error: io::Error) -> Status {
    Status::internal(error.to_string())
}

/// Whether this is the first process of a kernel of its own, and not of a namespace.
fn is_alone() -> bool {
    std::process::id() == 1 && geteuid().is_root()
}

/// Sets the clock and stirs the kernel's generator, where there is one of this machine's own.
fn refresh(told: &RefreshRequest) -> Result<(), Status> {
    if !ENTROPY_BYTES.contains(&told.entropy.len()) {
        return Err(Status::invalid_argument("entropy has 32 to 256 bytes"));
    }
    if !is_alone() {
        return Ok(());
    }
    entropy::reseed(&told.entropy).map_err(trouble)?;
    let now = Timespec {
        tv_sec: told.now_unix_micros.div_euclid(MICROS_PER_SECOND),
        tv_nsec: told.now_unix_micros.rem_euclid(MICROS_PER_SECOND) * 1000,
    };
    clock_settime(ClockId::Realtime, now).map_err(|errno| trouble(errno.into()))
}

/// Tells programs of this machine which one it is.
fn set_identity(machine_id: &str) -> io::Result<()> {
    fs::write("/etc/machine-id", format!("{machine_id}\n"))
}

fn start(
    agent: OwnedFd,
    workspace: &Path,
    env: &HashMap<String, String>,
    n_pids: u32,
) -> io::Result<Child> {
    let mut command = Command::new(OWN_BINARY);
    command
        .arg("--listen-stdin")
        .arg("--workspace")
        .arg(workspace)
        .args(["--exit-if-idle-ms", "0"])
        .env_clear()
        .envs(ENVIRONMENT)
        .envs(env)
        .current_dir(workspace)
        .stdin(Stdio::from(agent));
    if geteuid().is_root() {
        command.uid(USER).gid(USER);
    }
    let child = tokio::process::Command::from(command).spawn()?;
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid.filter(|_| n_pids > 0) {
        let limit = Some(u64::from(n_pids));
        // It starts nothing before somebody asks it to, which is after the answer to this.
        prlimit(Some(pid), Resource::Nproc, Rlimit { current: limit, maximum: limit })?;
    }
    Ok(child)
}
