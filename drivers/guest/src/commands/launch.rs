//! Starts the shell of a command: in its own session, in a directory that is held open, with pipes
//! for its output. Knows nothing of what happens to it then.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use protocol::StartRequest;
use rustix::process::{Pid, WaitStatus};
use tokio::{io::AsyncReadExt as _, net::unix::pipe::Receiver, sync::oneshot, task, time::timeout};
use tonic::Status;

use super::{processes::MARK, reaper::Reaper};
use crate::child;

/// Where the running binary is, whatever happens to the file it was started from.
const OWN_BINARY: &str = "/proc/self/exe";
const BASH: &str = "/bin/bash";
const SH: &str = "/bin/sh";
const MAX_ID: usize = 128;
/// The step from the agent's binary to the shell is short unless the host is in trouble; then the
/// command counts as started, before the client gives up waiting.
const TO_SHELL: Duration = Duration::from_secs(5);
const MAX_REPORT: u64 = 1024;

/// What to start.
pub struct Order {
    /// Its id, which also marks its processes.
    pub command_id: String,
    command_line: String,
    env: HashMap<String, String>,
}

/// The main process of a command.
pub struct Main {
    /// Its number.
    pub pid: Pid,
    /// Its output.
    pub stdout: Receiver,
    /// Its other output.
    pub stderr: Receiver,
    /// How it ended.
    pub ended: oneshot::Receiver<WaitStatus>,
}

impl Order {
    /// Checks what no process could be started with.
    pub fn read(request: StartRequest) -> Result<Self, Status> {
        let StartRequest { command_id, command_line, env, .. } = request;
        let wrong = |why| Err(Status::invalid_argument(why));
        if command_id.is_empty() || command_id.len() > MAX_ID || command_id.contains('\0') {
            return wrong("the command id is empty, too long or has a NUL byte");
        }
        if command_line.contains('\0') {
            return wrong("the command line has a NUL byte");
        }
        if env
            .iter()
            .any(|(key, value)| key.is_empty() || key.contains(['=', '\0']) || value.contains('\0'))
        {
            return wrong("an environment variable has no name, or a forbidden character");
        }
        Ok(Self { command_id, command_line, env })
    }

    /// Starts it; returns when the shell runs.
    pub async fn launch(self, reaper: &Arc<Reaper>, cwd: OwnedFd) -> io::Result<Main> {
        let own = Arc::clone(reaper);
        let started = task::spawn_blocking(move || self.spawn(&own, &cwd)).await;
        let Spawned { pid, stdout, stderr, report, ended } =
            started.map_err(io::Error::other)??;
        let main = Main {
            pid,
            stdout: Receiver::from_owned_fd(stdout)?,
            stderr: Receiver::from_owned_fd(stderr)?,
            ended,
        };
        let mut why = String::new();
        let mut report = Receiver::from_owned_fd(report)?.take(MAX_REPORT);
        match timeout(TO_SHELL, report.read_to_string(&mut why)).await {
            Ok(Ok(n)) if n > 0 => Err(io::Error::other(why)),
            _ => Ok(main),
        }
    }

    fn spawn(&self, reaper: &Reaper, cwd: &OwnedFd) -> io::Result<Spawned> {
        let (report, to_report) = io::pipe()?;
        let shell = if Path::new(BASH).exists() { BASH } else { SH };
        let limit = reaper.n_files.map_or("-".to_owned(), |n| n.to_string());
        let mut command = Command::new(OWN_BINARY);
        command
            .args([child::VERB, &limit, shell, &self.command_line])
            .envs(&self.env)
            .env(MARK, &self.command_id)
            // The descriptor, not a path: what was resolved is what is entered.
            .current_dir(format!("/proc/self/fd/{}", cwd.as_raw_fd()))
            .stdin(Stdio::from(to_report))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // Takes the command, so the agent's copy of the report's other end is closed.
        let (mut child, ended) = reaper.spawn(command, &self.command_id)?;
        let gone = || io::Error::other("a pipe is missing");
        Ok(Spawned {
            pid: Pid::from_child(&child),
            stdout: child.stdout.take().ok_or_else(gone)?.into(),
            stderr: child.stderr.take().ok_or_else(gone)?.into(),
            report: report.into(),
            ended,
        })
    }
}

struct Spawned {
    pid: Pid,
    stdout: OwnedFd,
    stderr: OwnedFd,
    report: OwnedFd,
    ended: oneshot::Receiver<WaitStatus>,
}
