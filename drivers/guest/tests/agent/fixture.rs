//! An agent for one story, and short words for what stories do. Ends everything that a story left.

use std::{
    collections::BTreeMap,
    fs,
    os::{fd::OwnedFd, unix::net::UnixListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use chrono::DateTime;
use domain::id::CommandId;
use drivers::guest::{
    Existing, Exit, Guest, GuestError, Output, OutputStream, Parents, Reason, StartCommand,
    Started, WatchItem, WatchStream, WriteOptions,
};
use futures_util::StreamExt as _;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open},
};
use tempfile::TempDir;
use tokio::{net::UnixStream, time::timeout};

/// Far more than anything here takes, even on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Sandbox {
    pub guest: Guest,
    pub agent: Child,
    directory: TempDir,
    mark: String,
}

impl Sandbox {
    pub async fn start() -> Self {
        Self::start_as(Command::new(binary())).await
    }

    /// Starts the agent by another command line, which gets the agent's arguments at its end.
    pub async fn start_as(command: Command) -> Self {
        let (directory, agent, mark) = spawn(command, "60000");
        let guest = connect(directory.path()).await;
        guest.hello().await.unwrap();
        Self { guest, agent, directory, mark }
    }

    /// A second connection.
    pub async fn another_guest(&self) -> Guest {
        connect(self.directory.path()).await
    }

    /// A stream to the agent on which nothing was said yet.
    pub async fn stream(&self) -> UnixStream {
        UnixStream::connect(self.directory.path().join("socket")).await.unwrap()
    }

    /// The workspace, from outside.
    pub fn workspace(&self) -> PathBuf {
        self.directory.path().join("workspace")
    }

    /// A directory beside the workspace, which the agent must never touch.
    pub fn outside(&self) -> PathBuf {
        self.directory.path().join("outside")
    }

    /// Runs a command to its end; panics unless it exits by itself.
    pub async fn run(&self, line: &str) -> (Vec<Output>, Exit) {
        let command = command(line);
        let id = command.id;
        self.guest.start(command).await.unwrap();
        finish(self.watch(id).await).await
    }

    pub async fn start_line(&self, line: &str) -> CommandId {
        let command = command(line);
        let id = command.id;
        assert_eq!(self.guest.start(command).await.unwrap(), Started::Now);
        id
    }

    pub async fn watch(&self, id: CommandId) -> WatchStream {
        self.guest.watch(id, 0).await.unwrap()
    }

    pub async fn write(&self, path: &str, text: &str) {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        self.guest.write_whole(path, REPLACE, bytes).await.unwrap();
    }

    pub async fn read(&self, path: &str) -> Result<String, GuestError> {
        let (_, bytes) = self.guest.read_whole(path, 1 << 20).await?;
        Ok(String::from_utf8(bytes.to_vec()).unwrap())
    }
}

pub const REPLACE: WriteOptions =
    WriteOptions { existing: Existing::Replace, parents: Parents::Require, max_bytes: None };

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
        // What commands have left belongs to nobody now.
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            let is_ours = environment.split(|byte| *byte == 0).any(|it| it == self.mark.as_bytes());
            let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if let Some(pid) = pid.and_then(Pid::from_raw).filter(|_| is_ours) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

pub fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_crownest-guest")
}

/// Starts an agent on a socket of its own; the directory holds `workspace`, `outside` and the socket.
pub fn spawn(mut command: Command, idle_ms: &str) -> (TempDir, Child, String) {
    let directory = tempfile::tempdir().unwrap();
    for name in ["workspace", "outside"] {
        fs::create_dir(directory.path().join(name)).unwrap();
    }
    let listener = UnixListener::bind(directory.path().join("socket")).unwrap();
    let mark = format!("CROWNEST_STORY={}", directory.path().display());
    let (key, value) = mark.split_once('=').unwrap();
    let agent = command
        .arg("--listen-stdin")
        .arg("--workspace")
        .arg(directory.path().join("workspace"))
        .args(["--exit-if-idle-ms", idle_ms])
        .env(key, value)
        .env("FROM_AGENT", "inherited")
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .spawn()
        .unwrap();
    (directory, agent, mark)
}

pub async fn connect(directory: &Path) -> Guest {
    let stream = UnixStream::connect(directory.join("socket")).await.unwrap();
    Guest::over(Box::new(stream)).await.unwrap()
}

pub fn command(line: &str) -> StartCommand {
    StartCommand {
        id: CommandId::generate(DateTime::UNIX_EPOCH),
        command_line: line.to_owned(),
        cwd: None,
        env: BTreeMap::new(),
        timeout: None,
        grace: Duration::from_secs(30),
    }
}

/// Follows to the end; checks that seqs have no gaps.
pub async fn finish(mut watch: WatchStream) -> (Vec<Output>, Exit) {
    let mut outputs: Vec<Output> = Vec::new();
    loop {
        match next(&mut watch).await {
            WatchItem::Output(output) => {
                if let Some(last) = outputs.last() {
                    assert_eq!(output.seq, last.seq + 1, "no gap");
                }
                outputs.push(output);
            }
            WatchItem::Exit(exit) => {
                assert!(outputs.last().is_none_or(|last| last.seq == exit.last_seq));
                assert!(watch.next().await.is_none(), "nothing comes after the exit");
                assert!(exit.started_at <= exit.finished_at);
                return (outputs, exit);
            }
        }
    }
}

pub async fn next(watch: &mut WatchStream) -> WatchItem {
    timeout(PATIENCE, watch.next()).await.unwrap().unwrap().unwrap()
}

/// The next output's text.
pub async fn next_text(watch: &mut WatchStream) -> String {
    match next(watch).await {
        WatchItem::Output(output) => output.data,
        WatchItem::Exit(exit) => panic!("ended early: {exit:?}"),
    }
}

/// All that came out of one stream.
pub fn text(outputs: &[Output], stream: OutputStream) -> String {
    outputs.iter().filter(|it| it.stream == stream).map(|it| it.data.as_str()).collect()
}

/// The end of a process; taken before the process is expected to end.
pub struct Death(OwnedFd);

impl Death {
    pub fn of(pid: &str) -> Self {
        let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        Self(pidfd_open(pid, PidfdFlags::empty()).unwrap())
    }

    pub async fn comes(self) {
        let patience = Timespec { tv_sec: 60, tv_nsec: 0 };
        let waiting = tokio::task::spawn_blocking(move || self.within(patience));
        assert!(waiting.await.unwrap(), "the process must end");
    }

    pub fn has_come(&self) -> bool {
        self.within(Timespec { tv_sec: 0, tv_nsec: 0 })
    }

    fn within(&self, patience: Timespec) -> bool {
        poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&patience)).unwrap() > 0
    }
}

#[track_caller]
pub fn refused<T: std::fmt::Debug>(result: Result<T, GuestError>, reason: Reason, why: &str) {
    match result {
        Err(error) => assert_eq!(error.reason(), Some(reason), "{why}: {error}"),
        Ok(done) => panic!("{why}: must be refused, was {done:?}"),
    }
}
