//! A command's output as it comes: server-sent events, taken up again after the last number that was
//! seen whenever the connection goes, so that nothing is lost and nothing comes twice.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream::BoxStream};
use reqwest::Method;
use serde_json::Value;
use tokio::time::Instant;

use super::{Client, Failure, Refusal};

/// How long to wait before each further try; the last one again and again.
const WAITS: [Duration; 5] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];
/// Tries without a connection that was good for anything; together they last half a minute.
const MAX_TRIES: usize = 11;
/// A connection that lived so long was good for something.
const LIVED: Duration = Duration::from_secs(5);
/// The server says twice a second that it is there; one that was silent so long is not.
const SILENCE: Duration = Duration::from_secs(20);
/// The longest event; the server keeps them below 4 MiB.
const MAX_EVENT: usize = 8 << 20;

/// One of a program's two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Stream {
    Stdout,
    Stderr,
}

/// What happened to a command.
#[derive(Debug, Clone, PartialEq)]
pub enum Happening {
    /// It printed something; the event as it came is there for programs.
    Printed(Stream, String, Value),
    /// It is over; the command's record.
    Over(Value),
}

/// Follows a command to its end.
pub struct Follow<'c> {
    client: &'c Client,
    path: String,
    /// The last number that was seen.
    after: u64,
    connection: Option<Connection>,
    tries: usize,
}

/// An open stream of events.
struct Connection {
    chunks: BoxStream<'static, reqwest::Result<Bytes>>,
    events: Events,
    since: Instant,
}

impl<'c> Follow<'c> {
    /// Follows a command from its first output on.
    #[must_use]
    pub fn new(client: &'c Client, command: &str) -> Self {
        let path = format!("/v1/commands/{command}/stream");
        Self { client, path, after: 0, connection: None, tries: 0 }
    }

    /// Waits for what happens next. To be dropped while it waits does no harm.
    ///
    /// # Errors
    /// `Refused` with what the API said, such as `stream_gap`; `Undone` when it stays away.
    pub async fn next(&mut self) -> Result<Happening, Failure> {
        loop {
            let event = match &mut self.connection {
                None => {
                    self.connect().await?;
                    continue;
                }
                Some(connection) => connection.next().await,
            };
            let Some(event) = event else {
                self.lost(None).await?;
                continue;
            };
            let seen = event["seq"].as_u64();
            match event["type"].as_str().unwrap_or_default() {
                "log" if seen.is_some_and(|seq| seq > self.after) => {
                    self.after = seen.unwrap_or(self.after);
                    self.tries = 0;
                    let stream =
                        if event["stream"] == "stderr" { Stream::Stderr } else { Stream::Stdout };
                    let text = event["data"].as_str().unwrap_or_default().to_owned();
                    return Ok(Happening::Printed(stream, text, event));
                }
                "terminal" => return Ok(Happening::Over(event["command"].clone())),
                "error" => return Err(Failure::Refused(Box::new(Refusal::in_stream(&event)))),
                // Heartbeats, what was seen before, and what later servers may have to say.
                _ => {}
            }
        }
    }

    async fn connect(&mut self) -> Result<(), Failure> {
        let mut call = self.client.call(Method::GET, &self.path);
        if self.after > 0 {
            call = call.query("afterSeq", self.after.to_string());
        }
        let chunks = match call.open().await {
            Ok(response) => response.bytes_stream().boxed(),
            // A server that starts anew, or the proxy in front of it.
            Err(Failure::Refused(refusal)) if !refusal.is_fault() => {
                return Err(Failure::Refused(refusal));
            }
            Err(failure) => return self.lost(Some(failure)).await,
        };
        let since = Instant::now();
        self.connection = Some(Connection { chunks, events: Events::default(), since });
        Ok(())
    }

    /// The connection went, or did not come about. Waits before the next one, if there shall be one.
    async fn lost(&mut self, why: Option<Failure>) -> Result<(), Failure> {
        if self.connection.take().is_some_and(|lost| lost.since.elapsed() >= LIVED) {
            self.tries = 0;
        }
        self.tries += 1;
        if self.tries > MAX_TRIES {
            let text = format!("{} breaks off again and again", self.path);
            return Err(why.unwrap_or_else(|| Failure::Undone(anyhow::Error::msg(text))));
        }
        let wait = WAITS[(self.tries - 1).min(WAITS.len() - 1)];
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

impl Connection {
    /// The next event; `None` when the connection is of no more use.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(event) = self.events.ready.pop_front() {
                return Some(event);
            }
            if !self.events.is_sound {
                return None;
            }
            match tokio::time::timeout(SILENCE, self.chunks.next()).await {
                Ok(Some(Ok(chunk))) => self.events.take(&chunk),
                Ok(Some(Err(_)) | None) | Err(_) => return None,
            }
        }
    }
}

/// Takes events out of bytes, wherever those are cut.
struct Events {
    /// The bytes of the event that is not whole yet.
    rest: Vec<u8>,
    ready: VecDeque<Value>,
    /// Whether all of it could be read so far.
    is_sound: bool,
}

impl Default for Events {
    fn default() -> Self {
        Self { rest: Vec::new(), ready: VecDeque::new(), is_sound: true }
    }
}

impl Events {
    fn take(&mut self, chunk: &[u8]) {
        let mut from = self.rest.len().saturating_sub(1);
        self.rest.extend_from_slice(chunk);
        while let Some(at) = self.rest[from..].windows(2).position(|two| two == b"\n\n") {
            let block: Vec<u8> = self.rest.drain(..from + at + 2).collect();
            from = 0;
            self.block(&block);
        }
        self.is_sound &= self.rest.len() <= MAX_EVENT;
    }

    fn block(&mut self, block: &[u8]) {
        let lines = block.split(|byte| *byte == b'\n');
        let data = lines.filter_map(|line| line.strip_prefix(b"data:"));
        let data: Vec<&[u8]> = data.map(<[u8]>::trim_ascii_start).collect();
        if data.is_empty() {
            return;
        }
        match serde_json::from_slice(&data.join(&b'\n')) {
            Ok(event) => self.ready.push_back(event),
            Err(_) => self.is_sound = false,
        }
    }
}

impl std::fmt::Debug for Follow<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follow").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_come_whole_wherever_the_bytes_are_cut() {
        let text = b"id: 1\nevent: log\ndata: {\"a\":\ndata: 1}\n\n: a comment\n\ndata:{\"b\":2}\n\ndata: {";
        for cut in 0..text.len() {
            let mut events = Events::default();
            events.take(&text[..cut]);
            events.take(&text[cut..]);
            assert_eq!(events.ready, [json!({"a": 1}), json!({"b": 2})], "cut at {cut}");
            assert!(events.is_sound);
            assert_eq!(events.rest, b"data: {", "cut at {cut}");
        }
    }

    #[test]
    fn what_is_no_event_ends_the_connection_and_nothing_is_kept_without_end() {
        let mut events = Events::default();
        events.take(b"data: {oops\n\n");
        assert!(!events.is_sound && events.ready.is_empty());
        let mut events = Events::default();
        events.take(&vec![b'x'; MAX_EVENT + 1]);
        assert!(!events.is_sound);
    }
}
