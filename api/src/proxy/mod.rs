//! What previews carry: a reverse proxy on a listener and hosts of its own, from browsers and programs
//! to ports inside sandboxes of this host. Whoever sends and whoever answers is trusted with nothing:
//! heads are bounded and written anew, waiting has an end, and neither side sees what is the platform's.
//! Speaks HTTP/1.1; TLS belongs in front.

pub mod address;
mod admit;
mod body;
mod carry;
mod headers;
mod open;
mod page;
mod pool;
mod silence;
mod target;
mod tunnel;

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::{Context, Result};
use domain::{id::SandboxId, preview::Slug};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::{app::App, config::Config, places::Places};
use address::Pattern;
use silence::{Activity, Watched};

/// Connections from clients at a time; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 2048;
/// Requests under way at a time for one organization.
const MAX_REQUESTS: u32 = 256;
/// A client sends the head of its first request, and begins each further one, within this.
const HEAD_DEADLINE: Duration = Duration::from_secs(30);
/// Bytes of a head, from clients and from apps.
const MAX_HEAD: usize = 64 << 10;
/// After a failure to accept, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the requests of all previews share in a process.
#[derive(Debug)]
pub struct Proxy {
    /// Unset while no server of the installation is known to serve previews.
    pattern: OnceLock<Pattern>,
    open: open::Open,
    pool: pool::Pool,
    places: Places,
    /// Connections, of clients and to apps.
    tasks: TaskTracker,
}

impl Proxy {
    /// The proxy of a configuration. It listens once it is started.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self {
            pattern: config.preview_pattern().map_or_else(OnceLock::new, OnceLock::from),
            open: open::Open::default(),
            pool: pool::Pool::default(),
            places: Places::of(MAX_REQUESTS),
            tasks: TaskTracker::new(),
        }
    }

    /// How URLs of previews look, if previews are served.
    #[must_use]
    pub fn pattern(&self) -> Option<&Pattern> {
        self.pattern.get()
    }

    /// Whether something is open into a sandbox through this server, which counts as activity.
    #[must_use]
    pub fn is_used(&self, sandbox: SandboxId) -> bool {
        self.open.has(sandbox)
    }

    /// How many connections are open at present, of clients and to apps.
    #[must_use]
    pub fn n_connections(&self) -> usize {
        self.tasks.len()
    }

    /// The URL of a preview.
    #[must_use]
    pub fn url(&self, slug: &Slug) -> String {
        // One that was made when they were still served has a URL as well.
        self.pattern().map_or_else(|| Pattern::default().origin(slug), |p| p.origin(slug))
    }
}

/// Lets what is under way finish once the server is to end, but not for longer than `grace`. What is
/// left then is cut when `app.shutdown` is cancelled.
pub async fn drain(app: &App, grace: Duration) {
    app.draining.cancelled().await;
    app.proxy.pool.close();
    app.proxy.tasks.close();
    if timeout(grace, app.proxy.tasks.wait()).await.is_err() {
        tracing::info!("requests through previews are cut off");
    }
}

/// Listens if `preview_listen` says where, until the server ends; returns the address.
///
/// # Errors
/// When the address cannot be used.
pub async fn start(app: &Arc<App>) -> Result<Option<SocketAddr>> {
    let Some(address) = app.config.preview_listen else { return Ok(None) };
    let listener = TcpListener::bind(address).await.context("preview_listen")?;
    let address = listener.local_addr().context("preview_listen")?;
    app.proxy.pattern.get_or_init(|| Pattern::on_loopback(address.port()));
    let span = tracing::info_span!("previews");
    app.tasks.spawn(accept(Arc::clone(app), listener).instrument(span.clone()));
    let (shutdown, watching) = (app.shutdown.clone(), open::watch(Arc::clone(app)));
    app.tasks.spawn(
        async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = watching => {}
            }
        }
        .instrument(span),
    );
    Ok(Some(address))
}

async fn accept(app: Arc<App>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let ends = app.draining.clone();
    while let Some(Ok(place)) = ends.run_until_cancelled(Arc::clone(&places).acquire_owned()).await
    {
        match ends.run_until_cancelled(listener.accept()).await {
            None => return,
            Some(Ok((stream, peer))) => {
                let app = Arc::clone(&app);
                app.clone().proxy.tasks.spawn(
                    async move {
                        let _place = place;
                        serve(&app, stream, peer).await;
                    }
                    .in_current_span(),
                );
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
struct Client {
    peer: SocketAddr,
    activity: Activity,
}

/// A connection through which nothing passes for this long is closed.
fn idle_limit(app: &App) -> Duration {
    Duration::from_secs(app.config.preview_idle_seconds.into())
}

/// Serves one connection to its end. How it ends is the client's business.
async fn serve(app: &Arc<App>, stream: TcpStream, peer: SocketAddr) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection was gone at once");
        return;
    }
    let client = Client { peer, activity: Activity::new() };
    let service = service_fn(|request: Request<Incoming>| {
        let (app, client) = (Arc::clone(app), client.clone());
        async move { Ok::<_, Infallible>(carry::answer(&app, &client, request).await) }
    });
    let stream = Watched::new(stream, client.activity.clone());
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_header_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = client.activity.ceases(idle_limit(app)) => {
            tracing::debug!("a connection is closed through which nothing passes");
            Ok(())
        }
        () = app.draining.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = app.shutdown.cancelled() => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}
