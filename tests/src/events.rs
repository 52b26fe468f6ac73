//! An event stream, read frame by frame with its bytes as they came.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream::BoxStream};
use reqwest::RequestBuilder;
use serde_json::Value;

/// A stream that is silent for this long has failed: it should have sent heartbeats.
const SILENCE: Duration = Duration::from_secs(20);

/// An open event stream.
pub struct Events {
    pieces: BoxStream<'static, reqwest::Result<Bytes>>,
    unread: Vec<u8>,
}

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The frame, its empty line included.
    pub frame: String,
    /// What the `data` lines say.
    pub data: Value,
}

impl Event {
    /// The `type` member.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.data["type"].as_str().unwrap_or_default()
    }

    #[must_use]
    pub fn seq(&self) -> u64 {
        self.data["seq"].as_u64().unwrap_or_default()
    }
}

impl Events {
    pub(crate) async fn open(request: RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        let status = response.status();
        assert_eq!(status, 200, "the stream was refused: {}", response.text().await.unwrap());
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert!(header("content-type").starts_with("text/event-stream"));
        assert_eq!(header("cache-control"), "no-cache");
        Self { pieces: response.bytes_stream().boxed(), unread: Vec::new() }
    }

    /// The next event; `None` when the server has ended the stream or is gone.
    pub async fn next(&mut self) -> Option<Event> {
        let end = loop {
            if let Some(at) = self.unread.windows(2).position(|two| two == b"\n\n") {
                break at + 2;
            }
            let piece = tokio::time::timeout(SILENCE, self.pieces.next()).await;
            match piece.expect("a stream must not be silent") {
                Some(Ok(piece)) => self.unread.extend(piece),
                Some(Err(_)) | None => {
                    let rest = String::from_utf8_lossy(&self.unread);
                    assert_eq!(rest, "", "the stream ended inside a frame");
                    return None;
                }
            }
        };
        let frame: Vec<u8> = self.unread.drain(..end).collect();
        assert!(frame.is_ascii(), "the frame of a stream must be ASCII");
        let frame = String::from_utf8(frame).unwrap();
        assert!(!frame.contains('\r'), "line ends of a stream are LF: {frame:?}");
        let data: Vec<_> = frame.lines().filter_map(|line| line.strip_prefix("data:")).collect();
        let data = serde_json::from_str(&data.join("\n")).unwrap();
        Some(Event { frame, data })
    }

    /// The next event that is no heartbeat.
    pub async fn next_of_note(&mut self) -> Option<Event> {
        loop {
            let event = self.next().await?;
            if event.kind() != "heartbeat" {
                return Some(event);
            }
        }
    }

    /// Everything up to the end of the stream, heartbeats left out.
    pub async fn rest(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next_of_note().await {
            events.push(event);
        }
        events
    }
}
