//! Starts a sandbox and waits until its agent answers. Leaves no process that is not on record: what
//! is started first is a shell that becomes bubblewrap only once the server says so, and ends if the
//! server dies before.

use std::{
    ffi::OsString,
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    process::{Child, ChildStderr, Command},
    sync::watch,
};

use super::{
    failure::{Doing, Failure, Result},
    processes::Process,
};
use crate::driver::ErrorKind;

const MAX_COMPLAINT_BYTES: usize = 8 * 1024;
const N_FILES: u64 = 65_536;
/// Bubblewrap itself, which waits outside of the sandbox.
const N_OUTSIDE: u64 = 1;

/// A shell that waits to become a sandbox.
#[derive(Debug)]
pub(crate) struct Launcher {
    pub process: Process,
    talk: UnixStream,
    complaint: Arc<Mutex<Vec<u8>>>,
    ended: watch::Receiver<bool>,
}

/// What bubblewrap tells about itself.
#[derive(Debug, Deserialize)]
struct Info {
    #[serde(rename = "child-pid")]
    child_pid: i32,
}

/// What the shell does once it may: it becomes the program of its arguments, with what that needs to
/// have open. Its standard output is one end of a pair of sockets, on which bubblewrap tells what it
/// has started.
#[derive(Debug)]
pub(crate) struct Script {
    /// Begins by waiting for a line on standard output.
    pub text: &'static str,
    /// What the script has for `$0`.
    pub name: PathBuf,
}

/// What to start, and as whom.
#[derive(Debug)]
pub(crate) struct Launch {
    pub script: Script,
    /// Bubblewrap, or what becomes it.
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    pub uid: Option<u32>,
    pub n_pids: u32,
    /// How many bytes a file may have that any of it writes, if there is a bound.
    pub largest_file: Option<u64>,
    /// The standard input of what runs inside.
    pub stdin: Stdio,
}

impl Launcher {
    /// Starts the shell. Dropping the launcher before [`Launcher::go`] ends it.
    #[tracing::instrument(name = "launcher_start", level = "debug", skip_all)]
    pub fn start(launch: Launch) -> Result<Self> {
        let (talk, far) = pair()?;
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", launch.script.text])
            .arg(&launch.script.name)
            .args(prlimit_command(&launch))
            .arg(&launch.program)
            .args(&launch.arguments)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .current_dir("/")
            .stdin(launch.stdin)
            .stdout(Stdio::from(far))
            .stderr(Stdio::piped())
            // Out of reach of the signals of the server's terminal.
            .process_group(0);
        if let Some(uid) = launch.uid {
            command.uid(uid).gid(uid);
        }
        let mut child = command.spawn().map_err(|error| unstarted(&error, launch.uid))?;
        // It holds the other ends of what the shell got, so they would never seem closed.
        drop(command);
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        let process = pid.and_then(Process::now);
        let complaint = Arc::default();
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(listen(stderr, Arc::clone(&complaint)));
        }
        let ended = reap(child);
        let process = process.ok_or_else(|| Failure::host("the launcher ended at once"))?;
        Ok(Self { process, talk, complaint, ended })
    }

    /// Lets the shell become bubblewrap and returns the first process inside.
    #[tracing::instrument(name = "launcher_go", level = "debug", skip_all)]
    pub async fn go(&mut self) -> Result<Process> {
        let mut told = Vec::new();
        let talking = async {
            self.talk.write_all(b"go\n").await?;
            loop {
                let n_bytes = self.talk.read_buf(&mut told).await?;
                if let Ok(info) = serde_json::from_slice::<Info>(&told) {
                    return Ok(Some(info));
                }
                if n_bytes == 0 {
                    return Ok::<_, io::Error>(None);
                }
            }
        };
        let info = talking.await.unwrap_or_default();
        match info.and_then(|info| Process::now(info.child_pid)) {
            Some(agent) => Ok(agent),
            None => Err(self.failed().await),
        }
    }

    /// Waits for bubblewrap to end; for as long as it runs, forever.
    pub async fn end(&self) -> Failure {
        // An error is a reaper that is gone, which it is only after the end.
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
        self.failed().await
    }

    /// What went wrong, in the words of whoever complained.
    async fn failed(&self) -> Failure {
        const PATIENCE: Duration = Duration::from_secs(1);
        // The complaint is written before the end, but may be read after it.
        let _ = tokio::time::timeout(PATIENCE, self.ended.clone().wait_for(|ended| *ended)).await;
        let bytes = self.complaint.lock().expect("nobody panics while holding it").clone();
        explained(String::from_utf8_lossy(&bytes).trim())
    }
}

/// Why there is not even a shell.
pub(crate) fn unstarted(error: &io::Error, uid: Option<u32>) -> Failure {
    match (uid, error.kind()) {
        (Some(uid), io::ErrorKind::InvalidInput | io::ErrorKind::PermissionDenied) => {
            Failure::unsupported(format!(
                "the server is root, but cannot start anything as user {uid} ({error}); \
                 configure a range of user ids that this host has"
            ))
        }
        _ => Failure::host(format!("cannot start a process: {error}")),
    }
}

/// Turns a complaint of the shell, of bubblewrap or of the agent into a failure.
pub(crate) fn explained(complaint: &str) -> Failure {
    let says = |texts: &[&str]| texts.iter().any(|text| complaint.contains(text));
    let (kind, remedy) = if says(&["hypervisor interface"]) {
        (
            ErrorKind::Unsupported,
            "; the VMM's user may not use the host's virtualization: give it to a group that is not \
             root's (chgrp kvm /dev/kvm && chmod 660 /dev/kvm), or load its module (modprobe kvm-intel \
             or kvm-amd) if there is none",
        )
    } else if says(&["not found", "Unknown option"]) {
        (ErrorKind::Unsupported, "; install bubblewrap 0.8 or later")
    } else if says(&["No space left", "Resource temporarily", "Cannot allocate", "Too many open"]) {
        (ErrorKind::NoCapacity, "")
    } else if says(&["namespace", "uid map", "Permission denied", "Operation not permitted"]) {
        (
            ErrorKind::Unsupported,
            "; this host does not let the server make namespaces: allow user namespaces \
             (sysctl kernel.unprivileged_userns_clone=1, \
             kernel.apparmor_restrict_unprivileged_userns=0), or in a container its security options",
        )
    } else {
        (ErrorKind::Host, "")
    };
    let complaint = if complaint.is_empty() { "it ended without a word" } else { complaint };
    Failure::new(kind, format!("the sandbox did not start: {complaint}{remedy}"))
}

/// The program that bounds what bubblewrap and all that it starts may use, and then becomes it. A
/// server that is root in a container may not do that to a process of another user.
fn prlimit_command(launch: &Launch) -> Vec<String> {
    // Only a privileged server could raise what it may use itself.
    let bound = |what, wanted: u64| getrlimit(what).maximum.map_or(wanted, |own| own.min(wanted));
    let n_files = bound(Resource::Nofile, N_FILES);
    let mut command = vec![
        "prlimit".to_owned(),
        "--core=0:0".to_owned(),
        format!("--nofile={n_files}:{n_files}"),
    ];
    if launch.uid.is_some() {
        let n_pids = u64::from(launch.n_pids) + N_OUTSIDE;
        command.push(format!("--nproc={n_pids}:{n_pids}"));
    }
    if let Some(largest_file) = launch.largest_file {
        let n_bytes = bound(Resource::Fsize, largest_file);
        command.push(format!("--fsize={n_bytes}:{n_bytes}"));
    }
    command
}

/// Bounds the processes of a sandbox that has no user of its own by their number in its user
/// namespace. Before the kernel could do that, it counted all that the server's user runs.
pub(crate) fn limit_processes(agent: Process, uid: Option<u32>, n_pids: u32) -> Result<()> {
    if uid.is_some() || !counts_processes_by_namespace() {
        return Ok(());
    }
    let limit =
        getrlimit(Resource::Nproc).maximum.map_or(n_pids.into(), |own| own.min(n_pids.into()));
    let limit = Rlimit { current: Some(limit), maximum: Some(limit) };
    match prlimit(Pid::from_raw(agent.pid), Resource::Nproc, limit) {
        Ok(_) => Ok(()),
        // It is dead; whoever waits for it will say why.
        Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(errno) => Err(Failure::host(format!("cannot limit the number of processes: {errno}"))),
    }
}

/// Whether the kernel bounds processes for each user namespace by itself, as it does since 5.14.
pub(crate) fn counts_processes_by_namespace() -> bool {
    is_kernel_since(5, 14)
}

/// Whether the host's kernel is of this version or a later one.
pub(crate) fn is_kernel_since(wanted_major: u32, wanted_minor: u32) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= (wanted_major, wanted_minor),
        _ => false,
    }
}

fn pair() -> Result<(UnixStream, OwnedFd)> {
    let make = || {
        let (near, far) = std::os::unix::net::UnixStream::pair()?;
        near.set_nonblocking(true)?;
        Ok::<_, io::Error>((UnixStream::from_std(near)?, OwnedFd::from(far)))
    };
    make().doing("make", Path::new("a pair of sockets"))
}

/// Keeps the beginning of what a sandbox complains about, and reads on so that it never blocks.
async fn listen(mut stderr: ChildStderr, complaint: Arc<Mutex<Vec<u8>>>) {
    let mut bytes = [0; 1024];
    while let Ok(n_bytes @ 1..) = stderr.read(&mut bytes).await {
        let mut complaint = complaint.lock().expect("nobody panics while holding it");
        let room = MAX_COMPLAINT_BYTES - complaint.len();
        complaint.extend(&bytes[..n_bytes.min(room)]);
    }
}

/// Waits for a process of ours, so that no zombie stays when a sandbox ends.
fn reap(mut child: Child) -> watch::Receiver<bool> {
    let (sender, ended) = watch::channel(false);
    tokio::spawn(async move {
        // How it ended is told by its complaint.
        let _ = child.wait().await;
        sender.send_replace(true);
    });
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_understood() {
        for (complaint, wanted) in [
            ("sh: 2: exec: bwrap: not found", ErrorKind::Unsupported),
            ("bwrap: Unknown option --disable-userns", ErrorKind::Unsupported),
            ("bwrap: setting up uid map: Permission denied", ErrorKind::Unsupported),
            ("bwrap: No permissions to create a new namespace", ErrorKind::Unsupported),
            (
                "bwrap: Creating new namespace failed: No space left on device",
                ErrorKind::NoCapacity,
            ),
            ("bwrap: Creating new namespace failed: Cannot allocate memory", ErrorKind::NoCapacity),
            ("the agent panicked", ErrorKind::Host),
            ("", ErrorKind::Host),
        ] {
            assert_eq!(explained(complaint).kind, wanted, "{complaint}");
        }
    }
}
