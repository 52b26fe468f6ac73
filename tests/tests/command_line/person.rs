//! Somebody at a shell, with a key and the address of a server: runs the program as a process of its
//! own and sees what anybody would see of it.

use std::{
    process::{ExitStatus, Stdio},
    time::Duration,
};

use serde_json::Value;
use tests::Key;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdout, Command},
};

/// A program that does not end within this time never will.
const PATIENCE: Duration = Duration::from_secs(60);

/// Somebody at a shell.
#[derive(Debug, Clone)]
pub struct Person {
    settings: Vec<(String, String)>,
}

/// What a program did.
#[derive(Debug)]
pub struct Said {
    /// As the shell would see it.
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Person {
    pub fn new(url: &str, key: &str) -> Self {
        let settings = [("CROWNEST_API_URL", url), ("CROWNEST_API_KEY", key)];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Self { settings }
    }

    /// Somebody with this key.
    pub fn with(key: &Key) -> Self {
        Self::new(&key.base(), &key.secret)
    }

    /// The same with one more variable, or with another value of one.
    pub fn having(&self, name: &str, value: &str) -> Self {
        let mut settings = self.settings.clone();
        settings.retain(|(held, _)| held != name);
        settings.push((name.to_owned(), value.to_owned()));
        Self { settings }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(tests::program::folder().join("crownest"));
        for name in tests::program::settings_around() {
            command.env_remove(name);
        }
        command.args(words).envs(self.settings.iter().cloned()).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the program to its end.
    pub async fn says(&self, words: &[&str]) -> Said {
        let output = self.command(words).output();
        let output = tokio::time::timeout(PATIENCE, output).await;
        let output = output.unwrap_or_else(|_| panic!("{words:?} does not end")).unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        Said { code: code(output.status), stdout: output.stdout, stderr }
    }

    /// The same with something on standard input.
    pub async fn pipes(&self, words: &[&str], input: &std::path::Path) -> Said {
        let input = std::fs::File::open(input).unwrap();
        let mut command = self.command(words);
        let output = tokio::time::timeout(PATIENCE, command.stdin(input).output());
        let output = output.await.unwrap().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        Said { code: code(output.status), stdout: output.stdout, stderr }
    }

    /// Runs it to a good end, and returns what it printed.
    pub async fn gets(&self, words: &[&str]) -> String {
        let said = self.says(words).await;
        assert_eq!(said.code, 0, "{words:?}: {said:?}");
        assert_eq!(said.stderr, "", "{words:?}");
        said.text()
    }

    /// The same for one line of JSON.
    pub async fn gets_json(&self, words: &[&str]) -> Value {
        let text = self.gets(words).await;
        assert_eq!(text.lines().count(), 1, "{words:?}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Starts it and does not wait.
    pub fn starts(&self, words: &[&str]) -> Running {
        let mut child = self.command(words).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let stderr = child.stderr.take().unwrap();
        Running { child, stdout: Some(stdout), stderr }
    }
}

impl Said {
    pub fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap()
    }

    /// Says that it ended so, and complained in these words.
    #[track_caller]
    pub fn ends(&self, code: i32, words: &str) {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.stderr.contains(words), "{words:?}: {self:?}");
    }
}

/// A program that runs.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: Option<Lines<BufReader<ChildStdout>>>,
    stderr: ChildStderr,
}

impl Running {
    /// Waits for the next line of its output.
    pub async fn line(&mut self) -> String {
        let stdout = self.stdout.as_mut().unwrap();
        let line = tokio::time::timeout(PATIENCE, stdout.next_line()).await;
        line.expect("it prints nothing").unwrap().expect("it prints no more")
    }

    /// Nobody reads its output any more.
    pub fn goes_unread(&mut self) {
        drop(self.stdout.take());
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).expect("it runs");
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for its end.
    pub async fn ends(mut self) -> Said {
        let ending = async {
            let mut rest = String::new();
            if let Some(stdout) = &mut self.stdout {
                while let Some(line) = stdout.next_line().await.unwrap() {
                    rest.push_str(&line);
                    rest.push('\n');
                }
            }
            let mut stderr = String::new();
            self.stderr.read_to_string(&mut stderr).await.unwrap();
            let code = code(self.child.wait().await.unwrap());
            Said { code, stdout: rest.into_bytes(), stderr }
        };
        tokio::time::timeout(PATIENCE, ending).await.expect("it does not end")
    }
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| panic!("it was ended by a signal: {status}"))
}
