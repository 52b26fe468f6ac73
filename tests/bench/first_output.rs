//! From a create to the first output of a command, with the local driver and the embedded database;
//! against the least that any such driver does: bubblewrap, a shell, and reading its output.

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::serving::Installation;
use tokio::process::Command;

use crate::{
    http::{self, Connection},
    table::{Table, millis},
};

const ROUNDS: usize = 5;
const SAMPLES: usize = 16;
const BWRAP: [&str; 21] = [
    "bwrap",
    "--unshare-all",
    "--new-session",
    "--clearenv",
    "--ro-bind",
    "/usr",
    "/usr",
    "--symlink",
    "usr/bin",
    "/bin",
    "--symlink",
    "usr/lib",
    "/lib",
    "--symlink",
    "usr/lib64",
    "/lib64",
    "--proc",
    "/proc",
    "--dev",
    "/dev",
    "--",
];
const ECHO: [&str; 3] = ["/bin/sh", "-c", "echo hello"];

/// What is timed, in the order in which it happens.
#[derive(Debug, Default)]
struct Times {
    accepted: Vec<Duration>,
    output: Vec<Duration>,
    ready: Vec<Duration>,
    run: Vec<Duration>,
    killed: Vec<Duration>,
    bwrap: Vec<Duration>,
    shell: Vec<Duration>,
}

pub async fn measure(table: &mut Table, programs: &Path, folder: &Path) -> Result<()> {
    let folder = folder.join("local");
    std::fs::create_dir_all(&folder)?;
    let settings = vec![("CROWNEST_DRIVER", "local".to_owned())];
    let installation = Installation::new(programs, &folder, settings);
    let made = installation.bootstrap("local").await?;
    let mut server = installation.start()?;
    let connection = Connection::open(server.address().await?).await?;
    let key = made["apiKey"].as_str().context("a key")?.to_owned();
    let mut client = Client { connection, key };
    // The first sandbox of a server pays for what the host has not read yet.
    client.sample(&mut Times::default()).await?;
    let mut all = Times::default();
    for _ in 0..ROUNDS {
        let mut times = Times::default();
        for _ in 0..SAMPLES {
            client.sample(&mut times).await?;
            times.bwrap.push(program(BWRAP.into_iter().chain(ECHO)).await?);
            times.shell.push(program(ECHO).await?);
        }
        add(table, &mut times);
        all.take(times);
    }
    all.note(table);
    server.stop().await?;
    Ok(())
}

fn add(table: &mut Table, times: &mut Times) {
    for list in times.lists() {
        list.1.sort_unstable();
    }
    let rows = [
        ("create to output of `echo`, local", "bwrap, shell, `echo`", &times.output, &times.bwrap),
        ("create to ready, local", "bwrap, shell, `echo`", &times.ready, &times.bwrap),
        ("run `echo` in a ready sandbox", "a shell's `echo`", &times.run, &times.shell),
        ("kill a sandbox", "bwrap, shell, `echo`", &times.killed, &times.bwrap),
    ];
    for (what, against, ours, baseline) in rows {
        for (quantile, word) in [(0.5, "p50"), (0.95, "p95")] {
            let pair = (http::quantile(ours, quantile), http::quantile(baseline, quantile));
            let pair = (millis(pair.0), millis(pair.1));
            table.add(&format!("{what}: {word}"), against, "ms", ours.len(), pair);
        }
    }
}

impl Times {
    fn lists(&mut self) -> [(&'static str, &mut Vec<Duration>); 7] {
        [
            ("create answered", &mut self.accepted),
            ("create to output", &mut self.output),
            ("create to ready", &mut self.ready),
            ("run alone", &mut self.run),
            ("kill", &mut self.killed),
            ("bwrap, shell, echo", &mut self.bwrap),
            ("a shell's echo", &mut self.shell),
        ]
    }

    fn take(&mut self, mut other: Self) {
        for ((_, all), (_, more)) in self.lists().into_iter().zip(other.lists()) {
            all.append(more);
        }
    }

    fn note(mut self, table: &mut Table) {
        for (name, list) in self.lists() {
            list.sort_unstable();
            let at = |q| millis(http::quantile(list, q));
            table.note(format!(
                "local, {name}, ms, n = {}: min {:.2}, p50 {:.2}, p90 {:.2}, p99 {:.2}, max {:.2}",
                list.len(),
                at(0.0),
                at(0.5),
                at(0.9),
                at(0.99),
                at(1.0)
            ));
        }
    }
}

struct Client {
    connection: Connection,
    key: String,
}

impl Client {
    /// One sandbox for the output, one to see it become ready.
    async fn sample(&mut self, times: &mut Times) -> Result<()> {
        let begin = Instant::now();
        let path = self.create().await?;
        times.accepted.push(begin.elapsed());
        self.echo(&path).await?;
        times.output.push(begin.elapsed());
        let begin = Instant::now();
        self.echo(&path).await?;
        times.run.push(begin.elapsed());
        let begin = Instant::now();
        self.call("DELETE", &path, None, 200).await?;
        times.killed.push(begin.elapsed());

        let begin = Instant::now();
        let path = self.create().await?;
        while self.call("GET", &path, None, 200).await?["sandbox"]["status"] != "ready" {}
        times.ready.push(begin.elapsed());
        self.call("DELETE", &path, None, 200).await?;
        Ok(())
    }

    async fn create(&mut self) -> Result<String> {
        let body = json!({ "template": "base", "ttlMs": 600_000 });
        let made = self.call("POST", "/v1/sandboxes", Some(&body), 201).await?;
        Ok(format!("/v1/sandboxes/{}", made["sandbox"]["id"].as_str().context("an id")?))
    }

    async fn echo(&mut self, path: &str) -> Result<()> {
        let body = json!({ "command": "echo hello" });
        let ran = self.call("POST", &format!("{path}/commands"), Some(&body), 200).await?;
        ensure!(ran["command"]["stdout"] == "hello\n", "{ran}");
        Ok(())
    }

    async fn call(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        status: u16,
    ) -> Result<Value> {
        let request = http::request(method, path, &self.key, None, body);
        self.connection.call(&request).await?.is(status)
    }
}

/// Runs a program that says hello.
async fn program(words: impl IntoIterator<Item = &'static str>) -> Result<Duration> {
    let begin = Instant::now();
    let mut words = words.into_iter();
    let mut command = Command::new(words.next().context("a program")?);
    let done = command.args(words).stdin(Stdio::null()).output().await?;
    let complaint = String::from_utf8_lossy(&done.stderr);
    ensure!(done.stdout == b"hello\n", "{}: {complaint}", done.status);
    Ok(begin.elapsed())
}
