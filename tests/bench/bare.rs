//! The baseline of `GET`: the web framework alone, with one route that answers the same bytes, in a
//! process and a runtime like the server's.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use poem::{
    EndpointExt, Response, Route, Server, get, handler,
    listener::{Acceptor, Listener, TcpListener},
    web::Data,
};
use tokio::process::{Child, Command};

const START: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A running baseline. Ends when it is dropped.
#[derive(Debug)]
pub struct Bare {
    child: Child,
    pub address: SocketAddr,
}

impl Bare {
    /// Starts this program once more, to serve `body`.
    pub async fn start(folder: &Path, body: &[u8]) -> Result<Self> {
        let file = folder.join("bare.json");
        fs::write(&file, body)?;
        let mut command = Command::new(std::env::current_exe()?);
        let child = command.arg("bare").arg(&file).kill_on_drop(true).spawn()?;
        let deadline = tokio::time::Instant::now() + START;
        loop {
            let text = fs::read_to_string(address_file(&file)).unwrap_or_default();
            if let Ok(address) = text.parse() {
                return Ok(Self { child, address });
            }
            ensure!(tokio::time::Instant::now() < deadline, "the bare route does not come up");
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id().unwrap_or(0)
    }
}

fn address_file(body: &Path) -> PathBuf {
    body.with_extension("address")
}

/// Serves a file for ever.
pub fn serve(file: &Path) -> Result<()> {
    let body = Bytes::from(fs::read(file)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let acceptor = TcpListener::bind("127.0.0.1:0").into_acceptor().await?;
        let address = acceptor.local_addr().remove(0);
        let address = address.as_socket_addr().context("a TCP listener has a socket address")?;
        fs::write(address_file(file), address.to_string())?;
        let route = Route::new().at("/", get(fixed)).data(body);
        Server::new_with_acceptor(acceptor).run(route).await.context("serving the bare route")
    })
}

#[handler]
fn fixed(body: Data<&Bytes>) -> Response {
    Response::builder().content_type("application/json").body(body.0.clone())
}
