//! `crownest serve` as a process: start, wait for, stop, kill. Knows its settings and its command
//! line, not its API.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    process::{Child, Command},
    time::Instant,
};

use crate::program::settings_around;

const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// What servers are started with, one after the other: programs, a folder for everything that they
/// keep, and settings.
#[derive(Debug, Clone)]
pub struct Installation {
    programs: PathBuf,
    folder: PathBuf,
    settings: Vec<(&'static str, String)>,
}

impl Installation {
    pub fn new(programs: &Path, folder: &Path, settings: Vec<(&'static str, String)>) -> Self {
        Self { programs: programs.to_owned(), folder: folder.to_owned(), settings }
    }

    /// Where the driver keeps what it knows about its sandboxes.
    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    pub fn log(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join("crownest"));
        for name in settings_around() {
            command.env_remove(name);
        }
        command.args(arguments).kill_on_drop(true).stdin(Stdio::null());
        command.env("CROWNEST_LISTEN", "127.0.0.1:0");
        command.env("CROWNEST_LISTEN_FILE", self.folder.join("listen"));
        command.env("CROWNEST_STATE_DIR", self.state());
        command.env("CROWNEST_GUEST_AGENT", self.programs.join("crownest-guest"));
        command.env("CROWNEST_RATE_LIMIT_PER_MINUTE", "0");
        for (name, value) in &self.settings {
            command.env(name, value);
        }
        command
    }

    /// Makes an organization and a key for it, as `crownest bootstrap` prints them.
    pub async fn bootstrap(&self, organization: &str) -> io::Result<Value> {
        let arguments = ["bootstrap", "--organization", organization, "--scopes", "all", "--json"];
        serde_json::from_str(&self.tells(&arguments).await?).map_err(io::Error::other)
    }

    /// What one of the operator's commands prints, which must not fail.
    pub async fn tells(&self, arguments: &[&str]) -> io::Result<String> {
        let done = self.command(arguments).output().await?;
        if !done.status.success() {
            let complaint = String::from_utf8_lossy(&done.stderr);
            return Err(io::Error::other(format!("{arguments:?}: {}: {complaint}", done.status)));
        }
        String::from_utf8(done.stdout).map_err(io::Error::other)
    }

    /// Starts a server and does not wait for it.
    pub fn start(&self) -> io::Result<Server> {
        let listen_file = self.folder.join("listen");
        match std::fs::remove_file(&listen_file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let log = std::fs::OpenOptions::new().append(true).create(true).open(self.log())?;
        let child = self.command(&["serve"]).stdout(log.try_clone()?).stderr(log).spawn()?;
        Ok(Server { child, listen_file })
    }
}

/// A server process.
#[derive(Debug)]
pub struct Server {
    child: Child,
    listen_file: PathBuf,
}

impl Server {
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits until it listens, which it does only when it can work.
    pub async fn address(&mut self) -> io::Result<SocketAddr> {
        let deadline = Instant::now() + START;
        loop {
            let text = std::fs::read_to_string(&self.listen_file).unwrap_or_default();
            if let Ok(address) = text.parse() {
                return Ok(address);
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("the server ended by itself: {status}")));
            }
            if Instant::now() >= deadline {
                return Err(io::Error::other("the server does not come up"));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Ends it in the middle of whatever it does, and waits until it is dead.
    pub async fn kill(mut self) -> io::Result<()> {
        self.child.kill().await
    }

    /// Ends it as [`Self::kill`] does, where nothing can be awaited.
    pub fn kill_now(mut self) {
        // It may be dead already.
        self.child.start_kill().ok();
        while let Ok(None) = self.child.try_wait() {
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Asks it to end, and waits until it did.
    pub async fn stop(mut self) -> io::Result<ExitStatus> {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok());
        let pid = pid.and_then(rustix::process::Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("the server had ended already"))?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        tokio::time::timeout(STOP, self.child.wait()).await?
    }
}
