//! Both ends of a preview: a visitor who speaks HTTP byte by byte, and an app in a sandbox that a story
//! plays. What a client library would mend or refuse to send goes through here as it is.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use drivers::simulated::Listener;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};

use crate::team::text;

/// Nothing that a story waits for takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whoever opens a preview's URL.
#[derive(Debug, Clone)]
pub struct Visitor {
    /// Where the proxy listens.
    pub address: SocketAddr,
    /// What the preview is called there.
    pub host: String,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    /// Status line and fields, as they came.
    pub head: String,
    pub body: Vec<u8>,
}

impl Visitor {
    /// A visitor of a preview that the API printed.
    #[must_use]
    pub fn of(preview: &Value) -> Self {
        let url = text(&preview["url"]);
        let host = url.strip_prefix("http://").unwrap().to_owned();
        let port = host.rsplit_once(':').unwrap().1.parse().unwrap();
        Self { address: SocketAddr::from(([127, 0, 0, 1], port)), host }
    }

    /// A GET with further header fields.
    pub async fn get(&self, path: &str, fields: &[(&str, &str)]) -> Reply {
        self.send("GET", path, fields, b"").await
    }

    /// Any request on a connection of its own.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        let mut request = self.head(method, path, fields);
        request.push_str("connection: close\r\n");
        if !body.is_empty() {
            request.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        let mut stream = self.connect().await;
        let (mut read, mut write) = stream.split();
        // Both at the same time: an app may answer before it has read everything.
        let sending = async {
            // A proxy that refuses hangs up early.
            let _ = write.write_all(request.as_bytes()).await;
            let _ = write.write_all(body).await;
        };
        let mut answer = Vec::new();
        let reading = async { read.read_to_end(&mut answer).await };
        let (_, ended) = patient(async { tokio::join!(sending, reading) }).await;
        assert!(ended.is_ok() || !answer.is_empty(), "{method} {path}: no answer: {ended:?}");
        Reply::parse(&answer)
    }

    /// The beginning of a request's head, up to where further fields may follow.
    #[must_use]
    pub fn head(&self, method: &str, path: &str, fields: &[(&str, &str)]) -> String {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.host);
        for (name, value) in fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head
    }

    /// A connection.
    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes as they are, and reads until the other end closes; empty when that says nothing.
    pub async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        let mut answer = Vec::new();
        patient(async {
            let _ = stream.write_all(bytes).await;
            let _ = stream.read_to_end(&mut answer).await;
        })
        .await;
        String::from_utf8_lossy(&answer).into_owned()
    }
}

impl Reply {
    /// Reads a whole answer.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no head: {:?}", String::from_utf8_lossy(bytes)));
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let status = head[9..12].parse().unwrap();
        let mut reply = Self { status, head, body: bytes[end + 4..].to_vec() };
        if reply.field("transfer-encoding") == "chunked" {
            reply.body = unchunk(&reply.body);
        }
        reply
    }

    /// A field's value, empty if there is none.
    #[must_use]
    pub fn field(&self, name: &str) -> &str {
        self.fields(name).next().unwrap_or_default()
    }

    /// All values of a field.
    pub fn fields(&self, name: &str) -> impl Iterator<Item = &str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.filter(move |(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The error of an answer of the platform that must have this status and code.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{self:?}");
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(body["error"]["code"], code, "{self:?}");
        assert_eq!(self.field("x-request-id"), body["error"]["requestId"], "{self:?}");
    }
}

fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let size = String::from_utf8_lossy(&rest[..end]).into_owned();
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        if size == 0 {
            return whole;
        }
        whole.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 4 + size..];
    }
    panic!("a body that broke off: {:?}", String::from_utf8_lossy(&whole));
}

/// An app in a sandbox, until it is dropped. It answers every request with what its script says.
#[derive(Debug)]
pub struct Played {
    seen: Arc<Mutex<Vec<String>>>,
    n_connections: Arc<Mutex<usize>>,
    task: JoinHandle<()>,
}

impl Played {
    /// Plays the app behind a port. `script` gets each request as it came, its body included, and says
    /// what to send; an answer with `connection: close` is the last of its connection.
    pub fn new(
        mut listener: Listener,
        script: impl Fn(&str) -> Vec<u8> + Clone + Send + Sync + 'static,
    ) -> Self {
        let (seen, n_connections) =
            (Arc::<Mutex<Vec<String>>>::default(), Arc::<Mutex<usize>>::default());
        let (noting, counting) = (Arc::clone(&seen), Arc::clone(&n_connections));
        let task = tokio::spawn(async move {
            while let Some(mut stream) = listener.accept().await {
                *counting.lock().unwrap() += 1;
                let (noting, script) = (Arc::clone(&noting), script.clone());
                tokio::spawn(async move {
                    while let Some(request) = read_request(&mut stream).await {
                        let answer = script(&request);
                        noting.lock().unwrap().push(request);
                        if stream.write_all(&answer).await.is_err() {
                            return;
                        }
                        if answer.windows(17).any(|part| part == b"connection: close") {
                            let _ = stream.shutdown().await;
                            return;
                        }
                    }
                });
            }
        });
        Self { seen, n_connections, task }
    }

    /// The requests so far, as they came.
    #[must_use]
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    /// The last request.
    #[must_use]
    pub fn last(&self) -> String {
        self.seen().pop().unwrap_or_default()
    }

    /// How many connections there were so far.
    #[must_use]
    pub fn n_connections(&self) -> usize {
        *self.n_connections.lock().unwrap()
    }
}

impl Drop for Played {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A small answer with a length.
#[must_use]
pub fn ok(body: &str) -> Vec<u8> {
    with(&[], body)
}

/// The same with further fields.
#[must_use]
pub fn with(fields: &[&str], body: &str) -> Vec<u8> {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    let n = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-length: {n}\r\n{fields}\r\n{body}").into_bytes()
}

/// The next request on a connection; `None` when there is none. Bodies of either framing are read whole.
pub async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).await.ok()? == 0 {
            return None;
        }
        bytes.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
    if let Some((_, rest)) = head.split_once("content-length: ") {
        let length = rest.lines().next()?.parse().ok()?;
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        bytes.append(&mut body);
    } else if head.contains("transfer-encoding: chunked") {
        while !bytes.ends_with(b"\r\n0\r\n\r\n") {
            if stream.read(&mut byte).await.ok()? == 0 {
                return None;
            }
            bytes.push(byte[0]);
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// What must come, within what anything takes.
pub async fn patient<T>(work: impl Future<Output = T>) -> T {
    timeout(PATIENCE, work).await.expect("it comes in time")
}

/// Reads from a stream until a text has come; panics when it closes before.
pub async fn read_until(stream: &mut (impl AsyncRead + Unpin), wanted: &str) -> String {
    let mut seen = Vec::new();
    let reading = async {
        let mut buffer = [0; 4096];
        while !String::from_utf8_lossy(&seen).contains(wanted) {
            let n = stream.read(&mut buffer).await.unwrap_or(0);
            let so_far = String::from_utf8_lossy(&seen);
            assert!(n > 0, "closed before {wanted:?} came: {so_far:?}");
            seen.extend_from_slice(&buffer[..n]);
        }
    };
    patient(reading).await;
    String::from_utf8_lossy(&seen).into_owned()
}

/// Waits until a stream closes, and returns what came before.
pub async fn read_to_close(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut rest = Vec::new();
    // A reset is a close as well.
    let _ = patient(stream.read_to_end(&mut rest)).await;
    rest
}
