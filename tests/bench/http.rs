//! A client that costs as little as one can: requests are bytes made beforehand, and of an answer
//! only status and length are looked at. Speaks to servers that state a content-length.

use std::{
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::LocalSet,
};

/// A kept-alive connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

/// An answer, until the next call.
#[derive(Debug)]
pub struct Answer<'c> {
    pub status: u16,
    pub body: &'c [u8],
}

impl Answer<'_> {
    /// The body of an answer that must have this status.
    pub fn is(&self, status: u16) -> Result<Value> {
        let text = String::from_utf8_lossy(self.body);
        ensure!(self.status == status, "{status} wanted, not {}: {text}", self.status);
        Ok(serde_json::from_slice(self.body)?)
    }
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, read: Vec::with_capacity(1 << 14) })
    }

    pub async fn call(&mut self, request: &[u8]) -> Result<Answer<'_>> {
        self.stream.write_all(request).await?;
        self.read.clear();
        let (mut head, mut length) = (None, 0);
        loop {
            ensure!(self.stream.read_buf(&mut self.read).await? > 0, "the server hung up");
            if head.is_none() {
                let end = self.read.windows(4).position(|four| four == b"\r\n\r\n");
                if let Some(end) = end {
                    length = content_length(&self.read[..end])?;
                    head = Some(end + 4);
                }
            }
            if let Some(head) = head
                && self.read.len() >= head + length
            {
                let status = std::str::from_utf8(&self.read[9..12])?.parse()?;
                return Ok(Answer { status, body: &self.read[head..head + length] });
            }
        }
    }
}

impl Connection {
    /// Sends a request and throws the body of its answer away; says how many bytes it had.
    pub async fn drain(&mut self, request: &[u8]) -> Result<u64> {
        self.stream.write_all(request).await?;
        self.read.clear();
        let head = loop {
            ensure!(self.stream.read_buf(&mut self.read).await? > 0, "the server hung up");
            let end = self.read.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                break end + 4;
            }
        };
        ensure!(self.read.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&self.read));
        let length = content_length(&self.read[..head])?;
        let (mut n, mut piece) = (self.read.len() - head, vec![0; 256 << 10]);
        while n < length {
            let read = self.stream.read(&mut piece).await?;
            ensure!(read > 0, "the server hung up after {n} of {length} bytes");
            n += read;
        }
        Ok(n as u64)
    }
}

fn content_length(head: &[u8]) -> Result<usize> {
    const NAME: &[u8] = b"\r\ncontent-length: ";
    let at = head.windows(NAME.len()).position(|part| part == NAME);
    let Some(at) = at else { bail!("no length: {}", String::from_utf8_lossy(head)) };
    let digits = head[at + NAME.len()..].iter().take_while(|byte| byte.is_ascii_digit());
    Ok(digits.fold(0, |n, digit| n * 10 + usize::from(digit - b'0')))
}

/// The bytes of a request.
pub fn request(
    method: &str,
    path: &str,
    key: &str,
    idempotency_key: Option<&str>,
    body: Option<&Value>,
) -> Vec<u8> {
    use std::fmt::Write;
    let mut text =
        format!("{method} {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {key}\r\n");
    if let Some(key) = idempotency_key {
        write!(text, "idempotency-key: {key}\r\n").ok();
    }
    let body = body.map(Value::to_string).unwrap_or_default();
    if !body.is_empty() {
        write!(text, "content-type: application/json\r\ncontent-length: {}\r\n", body.len()).ok();
    }
    format!("{text}\r\n{body}").into_bytes()
}

/// What `n` connections did in a while.
#[derive(Debug)]
pub struct Measured {
    pub per_second: f64,
    /// Rising.
    pub latencies: Vec<Duration>,
}

impl Measured {
    pub fn quantile(&self, q: f64) -> Duration {
        quantile(&self.latencies, q)
    }
}

/// The value below which a share of sorted ones lies.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index of a list")]
pub fn quantile(sorted: &[Duration], q: f64) -> Duration {
    let at = ((sorted.len() as f64 - 1.0) * q).round();
    sorted.get(at as usize).copied().unwrap_or_default()
}

/// Sends one request again and again over `n` connections: first to warm up, then to be counted.
pub async fn repeat(
    address: SocketAddr,
    n: usize,
    request: Vec<u8>,
    warm_up: Duration,
    duration: Duration,
) -> Result<Measured> {
    let request = Rc::new(request);
    let begin = Instant::now() + warm_up;
    let end = begin + duration;
    let tasks = LocalSet::new();
    let handles: Vec<_> = (0..n)
        .map(|_| {
            let request = Rc::clone(&request);
            tasks.spawn_local(async move {
                let mut connection = Connection::open(address).await?;
                let mut latencies = Vec::with_capacity(1 << 14);
                loop {
                    let sent = Instant::now();
                    let status = connection.call(&request).await?.status;
                    ensure!(status == 200, "status {status}");
                    let now = Instant::now();
                    if now >= end {
                        return Ok(latencies);
                    }
                    if sent >= begin {
                        latencies.push(now - sent);
                    }
                }
            })
        })
        .collect();
    tasks.await;
    let mut latencies = Vec::new();
    for handle in handles {
        latencies.extend(handle.await.context("a client failed")??);
    }
    latencies.sort_unstable();
    let per_second = latencies.len() as f64 / duration.as_secs_f64();
    Ok(Measured { per_second, latencies })
}
