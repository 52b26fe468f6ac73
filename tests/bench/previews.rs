//! Requests through a preview, against a direct connection to the same app: a small server in Python that
//! runs on this host for the baseline, and in a sandbox of the local driver behind the proxy.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tests::serving::Installation;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    http::{self, Connection},
    table::{Table, millis},
};

const ROUNDS: usize = 5;
const AT_ONCE: usize = 16;
const WARM_UP: Duration = Duration::from_millis(250);
const MEASURED: Duration = Duration::from_millis(1500);
/// Requests one after the other on one connection, for the latency.
const SAMPLES: usize = 500;
const LARGE: usize = 64 << 20;
const PORT: u16 = 8000;
const PATIENCE: Duration = Duration::from_secs(30);
const AGAINST: &str = "direct to the same app";

/// Answers every GET with a few bytes, or `/large` with many; keeps connections open. It costs as little
/// as a server in Python can, so that the proxy shows.
const APP: &str = r#"
import asyncio, sys

SMALL = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
PIECE = bytes(1 << 16)


class App(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.seen = transport, b""

    def data_received(self, data):
        self.seen += data
        while b"\r\n\r\n" in self.seen:
            head, _, self.seen = self.seen.partition(b"\r\n\r\n")
            if not head.startswith(b"GET /large/"):
                self.transport.write(SMALL)
                continue
            length = int(head.split()[1].rsplit(b"/", 1)[1])
            self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % length)
            asyncio.ensure_future(self.send(length))

    async def send(self, length):
        self.free = asyncio.Event()
        self.free.set()
        while length > 0:
            await self.free.wait()
            self.transport.write(PIECE[:length])
            length -= len(PIECE)

    def pause_writing(self):
        self.free.clear()

    def resume_writing(self):
        self.free.set()


async def main():
    server = await asyncio.get_running_loop().create_server(App, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()


asyncio.run(main())
"#;

/// Where an app is, and how it is asked.
struct Target {
    address: SocketAddr,
    host: String,
    token: String,
}

pub async fn measure(table: &mut Table, programs: &Path, folder: &Path) -> Result<()> {
    let folder = folder.join("previews");
    std::fs::create_dir_all(&folder)?;
    let settings = vec![
        ("CROWNEST_DRIVER", "local".to_owned()),
        ("CROWNEST_PREVIEW_LISTEN", "127.0.0.1:0".to_owned()),
    ];
    let installation = Installation::new(programs, &folder, settings);
    let made = installation.bootstrap("previews").await?;
    let key = made["apiKey"].as_str().context("a key")?.to_owned();
    let mut server = installation.start()?;
    let api = server.address().await?;
    let (sandbox, through) = Target::in_sandbox(api, &key).await?;
    let app = Direct::start(&folder).await?;
    for _ in 0..ROUNDS {
        let (ours, theirs) = (through.repeat().await?, app.target.repeat().await?);
        let rates = (ours.per_second, theirs.per_second);
        let what = format!("small GETs, {AT_ONCE} connections: rate");
        table.add(&what, AGAINST, "1/s", ours.latencies.len(), rates);
        let (ours, theirs) = (through.latencies().await?, app.target.latencies().await?);
        for (quantile, word) in [(0.5, "p50"), (0.99, "p99")] {
            let pair = (http::quantile(&ours, quantile), http::quantile(&theirs, quantile));
            let pair = (millis(pair.0), millis(pair.1));
            table.add(&format!("small GET, alone: {word}"), AGAINST, "ms", SAMPLES, pair);
        }
        let pair = (through.download().await?, app.target.download().await?);
        table.add("download of 64 MiB: rate", AGAINST, "MiB/s", 1, pair);
    }
    let request = http::request("DELETE", &sandbox, &key, None, None);
    Connection::open(api).await?.call(&request).await?.is(200)?;
    server.stop().await?;
    Ok(())
}

impl Target {
    /// Starts the app in a sandbox, whose path comes first, and makes a preview of it.
    async fn in_sandbox(address: SocketAddr, key: &str) -> Result<(String, Self)> {
        let mut connection = Connection::open(address).await?;
        let mut call = async |method: &str, path: &str, body: Value, status: u16| {
            let request = http::request(method, path, key, None, Some(&body));
            connection.call(&request).await?.is(status)
        };
        let body = json!({ "template": "python", "ttlMs": 3_600_000 });
        let made = call("POST", "/v1/sandboxes", body, 201).await?;
        let path = format!("/v1/sandboxes/{}", made["sandbox"]["id"].as_str().context("an id")?);
        let file = json!({ "path": "app.py", "content": APP });
        call("PUT", &format!("{path}/files"), file, 200).await?;
        let run = json!({ "command": format!("exec python3 app.py {PORT}"), "background": true });
        call("POST", &format!("{path}/commands"), run, 202).await?;
        let body = json!({ "port": PORT, "authMode": "token" });
        let made = call("POST", &format!("{path}/previews"), body, 201).await?;
        let url = made["preview"]["url"].as_str().context("a URL")?;
        let host = url.strip_prefix("http://").context("a plain URL")?.to_owned();
        let port = host.rsplit_once(':').context("a port")?.1.parse()?;
        let token = made["previewToken"].as_str().context("a token")?.to_owned();
        let target = Self { address: SocketAddr::from(([127, 0, 0, 1], port)), host, token };
        target.until_it_answers().await?;
        Ok((path, target))
    }

    async fn until_it_answers(&self) -> Result<()> {
        let begin = Instant::now();
        loop {
            if let Ok(mut connection) = Connection::open(self.address).await
                && connection.call(&self.request("/")).await.is_ok_and(|a| a.status == 200)
            {
                return Ok(());
            }
            ensure!(begin.elapsed() < PATIENCE, "the app does not come up");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn request(&self, path: &str) -> Vec<u8> {
        let Self { host, token, .. } = self;
        let head = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n");
        format!("{head}x-crownest-preview-token: {token}\r\n\r\n").into_bytes()
    }

    async fn repeat(&self) -> Result<http::Measured> {
        http::repeat(self.address, AT_ONCE, self.request("/"), WARM_UP, MEASURED).await
    }

    /// Rising.
    async fn latencies(&self) -> Result<Vec<Duration>> {
        let mut connection = Connection::open(self.address).await?;
        let request = self.request("/");
        connection.call(&request).await?;
        let mut latencies = Vec::with_capacity(SAMPLES);
        for _ in 0..SAMPLES {
            let begin = Instant::now();
            ensure!(connection.call(&request).await?.status == 200, "an app that answers");
            latencies.push(begin.elapsed());
        }
        latencies.sort_unstable();
        Ok(latencies)
    }

    /// MiB a second.
    async fn download(&self) -> Result<f64> {
        let mut stream = TcpStream::connect(self.address).await?;
        let begin = Instant::now();
        stream.write_all(&self.request(&format!("/large/{LARGE}"))).await?;
        let mut buffer = vec![0; 256 << 10];
        let mut read = 0;
        while read < LARGE {
            match stream.read(&mut buffer).await? {
                0 => bail!("the app hung up after {read} bytes"),
                n => read += n,
            }
        }
        Ok((LARGE >> 20) as f64 / begin.elapsed().as_secs_f64())
    }
}

/// The app on this host, without a sandbox; it ends when it is dropped.
struct Direct {
    target: Target,
    app: Child,
}

impl Direct {
    async fn start(folder: &Path) -> Result<Self> {
        let file = folder.join("app.py");
        std::fs::write(&file, APP)?;
        let free = std::net::TcpListener::bind("127.0.0.1:0")?;
        let address = free.local_addr()?;
        drop(free);
        // The interpreter that sandboxes see.
        let app = Command::new("/usr/bin/python3")
            .arg(&file)
            .arg(address.port().to_string())
            .stdin(Stdio::null())
            .spawn()
            .context("python3")?;
        let target = Target { address, host: address.to_string(), token: "none".to_owned() };
        let direct = Self { target, app };
        direct.target.until_it_answers().await?;
        Ok(direct)
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        let _ = self.app.kill();
        let _ = self.app.wait();
    }
}
