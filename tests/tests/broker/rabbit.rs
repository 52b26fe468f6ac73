//! A private RabbitMQ that may be broken: `scripts/rabbitmq` starts it and passes on what an operator
//! would type.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/rabbitmq")
}

/// Why there can be none, if there can be none.
pub fn cannot_run() -> Option<&'static str> {
    let found = Command::new(script()).arg("find").stdout(Stdio::null()).status().unwrap();
    (!found.success()).then_some("rabbitmq-server is not installed")
}

/// A broker. It ends with this.
#[derive(Debug)]
pub struct Rabbit {
    owner: String,
    pub url: String,
}

impl Rabbit {
    pub fn start(name: &str) -> Self {
        let owner = format!("{}-{name}", std::process::id());
        let started = Command::new(script()).args(["start", &owner]).output().unwrap();
        let lines = String::from_utf8(started.stdout).unwrap();
        let url = lines.lines().find_map(|line| line.strip_prefix("TEST_AMQP_URL="));
        let url = url.unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&started.stderr)));
        Self { owner, url: url.to_owned() }
    }

    /// Runs `rabbitmqctl`.
    pub async fn control(&self, arguments: &[&str]) {
        let mut command = tokio::process::Command::new(script());
        command.args(["control", &self.owner]).args(arguments).stdin(Stdio::null());
        let done = command.output().await.unwrap();
        let complaint = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{arguments:?}: {complaint}");
    }
}

impl Drop for Rabbit {
    fn drop(&mut self) {
        // Whatever became of the story, nothing of it goes on running.
        Command::new(script()).args(["stop", &self.owner]).status().ok();
    }
}
