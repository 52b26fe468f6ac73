//! A command that prints for a while, and a client that follows its output across the deaths of
//! servers: it resumes after the last chunk it saw.

use std::fmt::Write;

use futures_util::StreamExt;
use reqwest::Method;
use serde_json::Value;
use tests::serving::{Client, Door};

/// A piece of output: its number, its stream, its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    pub seq: u64,
    pub stream: String,
    pub data: String,
}

impl Chunk {
    pub fn of(value: &Value) -> Self {
        let text = |name: &str| value[name].as_str().unwrap().to_owned();
        Self { seq: value["seq"].as_u64().unwrap(), stream: text("stream"), data: text("data") }
    }
}

/// What a command prints: numbered lines, in turn on both streams.
#[derive(Debug, Clone, Copy)]
pub struct Script {
    pub n_lines: u32,
}

impl Script {
    /// As a shell command that also leaves its key behind, and takes about `n_lines` / 50 s.
    pub fn line(self, key: &str) -> String {
        let n = self.n_lines;
        format!(
            "echo {key} >>ran; i=0; while [ $i -lt {n} ]; do i=$((i+1)); echo out $i; \
             echo err $i >&2; sleep 0.02; done"
        )
    }

    /// The whole output of one stream.
    pub fn text(self, stream: &str) -> String {
        let word = if stream == "stdout" { "out" } else { "err" };
        (1..=self.n_lines).fold(String::new(), |mut text, i| {
            writeln!(text, "{word} {i}").unwrap();
            text
        })
    }
}

/// Follows a command to its end, over as many servers as it takes.
pub async fn follow(client: &Client, command: &str) -> Vec<Chunk> {
    let mut seen: Vec<Chunk> = Vec::new();
    loop {
        let door = client.open_door().await;
        if read(client, &door, command, &mut seen).await {
            return seen;
        }
        client.after(&door).await;
    }
}

/// Reads until the server dies; `true` when the command is over.
async fn read(client: &Client, door: &Door, command: &str, seen: &mut Vec<Chunk>) -> bool {
    let after = seen.last().map_or(0, |chunk| chunk.seq);
    let path = format!("/v1/commands/{command}/stream?afterSeq={after}");
    let Ok(response) = client.request(door, Method::GET, &path).send().await else { return false };
    let status = response.status();
    assert_eq!(status, 200, "{path}: {}", response.text().await.unwrap_or_default());
    let mut pieces = response.bytes_stream();
    let mut unread = Vec::new();
    loop {
        // Only whole frames count: the server may have died in the middle of one.
        while let Some(at) = unread.windows(2).position(|two| two == b"\n\n") {
            let frame: Vec<u8> = unread.drain(..at + 2).collect();
            let event = event(&String::from_utf8(frame).unwrap());
            match event["type"].as_str().unwrap() {
                "log" => seen.push(Chunk::of(&event)),
                "heartbeat" => {}
                "terminal" => return true,
                other => panic!("{command}: {other} after {after}: {event}"),
            }
        }
        match pieces.next().await {
            Some(Ok(piece)) => unread.extend(piece),
            Some(Err(_)) | None => return false,
        }
    }
}

fn event(frame: &str) -> Value {
    let data: Vec<_> = frame.lines().filter_map(|line| line.strip_prefix("data:")).collect();
    serde_json::from_str(&data.join("\n")).unwrap()
}
