//! A client of the VMM's REST API over its Unix socket: one request at a time, each with a deadline and
//! a connection of its own, no answer larger than a bound. Knows no sandboxes and retries nothing. Every
//! call fails when the VMM refuses it (which says why), does not answer in time, or is not there.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{net::UnixStream, sync::Mutex, time::timeout};

use super::{
    convert::API,
    wire::{
        RestoreConfig, VmConfig, VmCounters, VmInfo, VmResize, VmSnapshotConfig, VmmPingResponse,
    },
};
pub use crate::jail::failure::Failure;
use crate::{
    driver::ErrorKind,
    jail::{failure::Result, sockets},
};

/// What only looks, or only changes a state, is answered within this.
const SHORT: Duration = Duration::from_secs(5);
/// What touches the machine's devices or takes it down.
const MEDIUM: Duration = Duration::from_secs(20);
/// What reads or writes all of its memory.
const LONG: Duration = Duration::from_secs(120);
const MAX_ANSWER: usize = 4 << 20;
/// How much of an error's text is kept.
const MAX_COMPLAINT: usize = 1 << 10;

/// The API of one VMM. Clones share the turn.
#[derive(Debug, Clone)]
pub struct Client {
    directory: PathBuf,
    turn: Arc<Mutex<()>>,
}

impl Client {
    /// Of the VMM whose socket is in this directory.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), turn: Arc::default() }
    }

    /// Asks whether the VMM answers, and for its version.
    pub async fn ping(&self) -> Result<VmmPingResponse> {
        self.get("vmm.ping", SHORT).await
    }

    /// Defines the machine.
    pub async fn create(&self, config: &VmConfig) -> Result<()> {
        self.put("vm.create", Some(config), MEDIUM).await
    }

    /// Starts it.
    pub async fn boot(&self) -> Result<()> {
        self.put_nothing("vm.boot", MEDIUM).await
    }

    /// Asks what it is doing. The VMM does one thing after the other, so this may have to wait for what a dead
    /// server has told it, such as to write all of its memory.
    pub async fn info(&self) -> Result<VmInfo> {
        self.get("vm.info", LONG).await
    }

    /// Asks what its devices have counted.
    pub async fn counters(&self) -> Result<VmCounters> {
        self.get("vm.counters", SHORT).await
    }

    /// Holds its processors.
    pub async fn pause(&self) -> Result<()> {
        self.put_nothing("vm.pause", MEDIUM).await
    }

    /// Lets them go on.
    pub async fn resume(&self) -> Result<()> {
        self.put_nothing("vm.resume", MEDIUM).await
    }

    /// Writes a paused machine down.
    pub async fn snapshot(&self, directory: &Path) -> Result<()> {
        let config = VmSnapshotConfig { destination_url: file_url(directory) };
        self.put("vm.snapshot", Some(&config), LONG).await
    }

    /// Makes a machine of what was written down.
    pub async fn restore(&self, config: &RestoreConfig) -> Result<()> {
        self.put("vm.restore", Some(config), LONG).await
    }

    /// Gives it another size.
    pub async fn resize(&self, resize: &VmResize) -> Result<()> {
        self.put("vm.resize", Some(resize), MEDIUM).await
    }

    /// Presses its power button.
    pub async fn press_power_button(&self) -> Result<()> {
        self.put_nothing("vm.power-button", SHORT).await
    }

    /// Stops it; it may be booted again.
    pub async fn shut_down(&self) -> Result<()> {
        self.put_nothing("vm.shutdown", MEDIUM).await
    }

    /// Forgets it.
    pub async fn delete(&self) -> Result<()> {
        self.put_nothing("vm.delete", MEDIUM).await
    }

    /// Ends the VMM itself.
    pub async fn shut_down_vmm(&self) -> Result<()> {
        self.put_nothing("vmm.shutdown", SHORT).await
    }

    async fn get<T: DeserializeOwned>(&self, what: &str, limit: Duration) -> Result<T> {
        let answer = self.call(Method::GET, what, Bytes::new(), limit).await?;
        serde_json::from_slice(&answer).map_err(|error| {
            Failure::host(format!("the VMM's answer to {what} is not understood: {error}"))
        })
    }

    async fn put<T: Serialize>(&self, what: &str, body: Option<&T>, limit: Duration) -> Result<()> {
        let body = match body {
            Some(body) => serde_json::to_vec(body)
                .map_err(|error| Failure::host(format!("cannot write {what}: {error}")))?,
            None => Vec::new(),
        };
        self.call(Method::PUT, what, body.into(), limit).await.map(drop)
    }

    async fn put_nothing(&self, what: &str, limit: Duration) -> Result<()> {
        self.put::<()>(what, None, limit).await
    }

    #[tracing::instrument(level = "trace", skip_all, fields(what = what))]
    async fn call(
        &self,
        method: Method,
        what: &str,
        body: Bytes,
        limit: Duration,
    ) -> Result<Bytes> {
        let asking = async {
            let _turn = self.turn.lock().await;
            self.exchange(method, what, body).await
        };
        let Ok(answered) = timeout(limit, asking).await else {
            let text = format!("the VMM did not answer {what} within {} s", limit.as_secs());
            return Err(Failure::timed_out(text));
        };
        let (status, answer) = answered
            .map_err(|error| Failure::host(format!("{what} did not go through: {error}")))?;
        if status.is_success() {
            return Ok(answer);
        }
        Err(refusal(what, status, &answer))
    }

    async fn exchange(
        &self,
        method: Method,
        what: &str,
        body: Bytes,
    ) -> std::result::Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
        let stream = UnixStream::from_std(sockets::connect(&self.directory, API)?)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://localhost/api/v1/{what}"))
            .header(header::HOST, "localhost")
            .header(header::ACCEPT, "application/json");
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(body))?;
        let answering = async {
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await?.to_bytes();
            Ok((status, body))
        };
        // The connection ends with the answer: dropping it closes it.
        tokio::select! {
            biased;
            answer = answering => answer,
            ended = connection => Err(match ended {
                Ok(()) => "the connection was closed".into(),
                Err(error) => error.into(),
            }),
        }
    }
}

/// What the VMM says when it does not do something: a list of texts, the outermost first.
fn refusal(what: &str, status: StatusCode, answer: &[u8]) -> Failure {
    let texts: Vec<String> = serde_json::from_slice(answer)
        .unwrap_or_else(|_| vec![String::from_utf8_lossy(answer).into_owned()]);
    let mut text = texts.join(": ");
    text.truncate(text.floor_char_boundary(MAX_COMPLAINT));
    let no_room = ["Cannot allocate memory", "No space left", "os error 12", "os error 28"];
    let kind = if no_room.iter().any(|words| text.contains(words)) {
        ErrorKind::NoCapacity
    } else {
        ErrorKind::Host
    };
    Failure::new(kind, format!("the VMM refused {what} ({status}): {text}"))
}

/// A directory as the VMM wants to be told of it.
fn file_url(directory: &Path) -> String {
    format!("file://{}", directory.display())
}
