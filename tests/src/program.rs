//! A program that runs beside a story: what it prints, line by line, how it is ended and how it ends.

use std::{
    ffi::OsString,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdout, Command},
    time::timeout,
};

/// A program that is silent for this long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// The folder of the programs, built like this test.
#[must_use]
pub fn folder() -> PathBuf {
    std::env::var_os("TEST_PROGRAMS").map_or_else(
        || std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned(),
        PathBuf::from,
    )
}

/// `crownest` with these arguments, and no settings but these.
#[must_use]
pub fn crownest(settings: &[(&str, &str)], arguments: &[&str]) -> Command {
    let mut command = Command::new(folder().join("crownest"));
    for name in settings_around() {
        command.env_remove(name);
    }
    command.args(arguments).envs(settings.iter().copied());
    command
}

/// The names of settings that the surrounding shell has: they are not those of programs in tests.
pub fn settings_around() -> impl Iterator<Item = OsString> {
    let is_one = |name: &OsString| {
        let name = name.as_encoded_bytes();
        name.starts_with(b"CROWNEST_") || name.starts_with(b"OTEL_")
    };
    std::env::vars_os().map(|(name, _)| name).filter(is_one)
}

/// A program that runs. It is killed if the story forgets it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    lines: Option<Lines<BufReader<ChildStdout>>>,
    told: Lines<BufReader<ChildStderr>>,
}

impl Running {
    #[must_use]
    pub fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let told = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, lines: Some(lines), told }
    }

    /// The next line of its output; `None` at the end.
    pub async fn line(&mut self) -> Option<String> {
        let next = self.lines.as_mut().unwrap().next_line();
        timeout(PATIENCE, next).await.expect("a line in time").unwrap()
    }

    /// So many lines.
    pub async fn lines(&mut self, n: usize) -> Vec<String> {
        let mut lines = Vec::new();
        for _ in 0..n {
            lines.push(self.line().await.expect("a line"));
        }
        lines
    }

    /// Waits until it tells of something, beside its output.
    pub async fn tells(&mut self, words: &str) -> String {
        loop {
            let next = timeout(PATIENCE, self.told.next_line()).await;
            let line = next.unwrap_or_else(|_| panic!("in vain: {words:?}")).unwrap();
            let line = line.unwrap_or_else(|| panic!("it ended without {words:?}"));
            if line.contains(words) {
                return line;
            }
        }
    }

    /// Stops to read its output.
    pub fn is_left_alone(&mut self) {
        self.lines = None;
    }

    pub fn gets(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id().expect("it runs")).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    /// How it ends, and what is left of its output.
    pub async fn ends(mut self) -> (ExitStatus, Vec<String>) {
        let mut rest = Vec::new();
        if self.lines.is_some() {
            while let Some(line) = self.line().await {
                rest.push(line);
            }
        }
        let status = timeout(PATIENCE, self.child.wait()).await.expect("an end in time");
        (status.unwrap(), rest)
    }
}

/// Runs a program to its end: its exit code, its output, and what it told beside.
pub async fn done(mut command: Command) -> (Option<i32>, String, String) {
    let running = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(PATIENCE, running).await.expect("an end in time").unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}
