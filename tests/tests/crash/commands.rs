//! Checks what ran: every accepted command once, with its output whole.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;
use tests::serving::Client;
use tokio::time::{Instant, sleep};

use crate::{
    follower::{Chunk, Script},
    journal::Command,
};

/// Longer than it takes until a command of a dead server is taken up, and to finish it.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How the commands ended, for the summary.
#[derive(Debug, Default)]
pub struct Endings(BTreeMap<String, u32>);

impl std::fmt::Display for Endings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words: Vec<_> = self.0.iter().map(|(status, n)| format!("{n} {status}")).collect();
        write!(f, "{}", words.join(", "))
    }
}

/// Checks all commands against what they did: in `steady` sandboxes, which nobody killed, each has
/// left its key exactly once, or has failed without a trace.
pub async fn ran_once(client: &Client, commands: &[Command], steady: &[String]) -> Endings {
    let mut endings = Endings::default();
    let mut ran = BTreeMap::new();
    for command in commands {
        let seen = ended(client, &command.id).await;
        let status = seen["status"].as_str().unwrap().to_owned();
        if steady.contains(&command.sandbox) {
            if !ran.contains_key(&command.sandbox) {
                ran.insert(command.sandbox.clone(), keys(client, &command.sandbox).await);
            }
            let n_runs = ran[&command.sandbox].get(&command.key).copied().unwrap_or(0);
            let wanted = match status.as_str() {
                "exited" => 1,
                // Its server died between accepting and starting it; nobody else knows its
                // environment, which is never stored. It says so, and has not run.
                "failed" => 0,
                other => panic!("nobody has ended {}, but it is {other}: {seen}", command.key),
            };
            assert_eq!(n_runs, wanted, "runs of {}: {seen}", command.key);
        } else {
            assert!(["exited", "failed", "killed"].contains(&status.as_str()), "{seen}");
        }
        assert_eq!(seen["exitCode"], if status == "exited" { 0.into() } else { Value::Null });
        if let Some((script, followed)) = &command.followed {
            let whole = status == "exited";
            log_is_whole(client, &command.id, *script, followed, &seen, whole).await;
        }
        *endings.0.entry(status).or_default() += 1;
    }
    endings
}

/// Waits for a command's end.
async fn ended(client: &Client, id: &str) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = client.get(&format!("/v1/commands/{id}")).await["command"].take();
        if !["queued", "starting", "running"].contains(&seen["status"].as_str().unwrap()) {
            return seen;
        }
        assert!(Instant::now() < deadline, "nobody finishes {seen}");
        sleep(LOOK_AGAIN).await;
    }
}

/// How often each key was left in a sandbox.
async fn keys(client: &Client, sandbox: &str) -> BTreeMap<String, u32> {
    let path = format!("/v1/sandboxes/{sandbox}/files/read?path=ran");
    let text = client.get(&path).await["content"].as_str().unwrap().to_owned();
    let mut keys = BTreeMap::new();
    for key in text.lines() {
        *keys.entry(key.to_owned()).or_default() += 1;
    }
    keys
}

/// The log as pages, as its follower saw it and as the command's record has it: all the same, and
/// exactly what was printed.
async fn log_is_whole(
    client: &Client,
    id: &str,
    script: Script,
    followed: &[Chunk],
    command: &Value,
    ran: bool,
) {
    let paged = pages(client, id).await;
    let numbers: Vec<u64> = paged.iter().map(|chunk| chunk.seq).collect();
    assert!(numbers.iter().copied().eq(1..=paged.len() as u64), "{id}: numbers {numbers:?}");
    assert_eq!(paged, followed, "{id}: the pages and the stream differ");
    for stream in ["stdout", "stderr"] {
        let chunks = paged.iter().filter(|chunk| chunk.stream == stream);
        let text: String = chunks.map(|chunk| chunk.data.as_str()).collect();
        let wanted = if ran { script.text(stream) } else { String::new() };
        assert_eq!(text, wanted, "{id}: {stream} has a gap or says something twice");
        assert_eq!(command[stream].as_str().unwrap_or_default(), wanted, "{id}: its record");
    }
}

async fn pages(client: &Client, id: &str) -> Vec<Chunk> {
    let mut chunks: Vec<Chunk> = Vec::new();
    loop {
        let after = chunks.last().map_or(0, |chunk| chunk.seq);
        let page = client.get(&format!("/v1/commands/{id}/logs?afterSeq={after}&limit=97")).await;
        chunks.extend(page["data"].as_array().unwrap().iter().map(Chunk::of));
        if page["hasMore"] == false {
            return chunks;
        }
    }
}
