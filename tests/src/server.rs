//! One server process: an application with its background work and a listener, in a runtime of its
//! own, so that it can be ended the way a kill signal would.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use api::{app::App, config::Config};
use poem::{
    Server as HttpServer,
    listener::{Acceptor, Listener, TcpListener},
};
use store::Db;
use tokio::runtime::Runtime;

use crate::{
    client::Address,
    host::{Host, WorldClock},
    logs::Logs,
    run,
};

const END: Duration = Duration::from_secs(20);

/// What a server is started with.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    pub config: Config,
    pub database_url: String,
    pub host: Host,
    pub clock: WorldClock,
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    runtime: Runtime,
    app: Arc<App>,
    metrics: Option<String>,
}

impl Server {
    pub(crate) async fn start(start: Start, address: &Address) -> Self {
        let runtime = run::runtime(&Logs::here());
        let (app, url, metrics) = runtime.spawn(serve(start)).await.unwrap();
        address.set(url);
        Self { runtime, app, metrics }
    }

    /// The application, for what no request can reach.
    #[must_use]
    pub const fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// Where its metrics are read, if it serves any.
    pub(crate) fn metrics(&self) -> Option<&str> {
        self.metrics.as_deref()
    }

    /// Runs something inside the server.
    pub async fn within<F, T>(&self, work: impl FnOnce(Arc<App>) -> F) -> T
    where
        F: Future<Output = T> + Send + 'static,
        T: Send + 'static,
    {
        let work = work(Arc::clone(&self.app));
        self.runtime.spawn(work).await.unwrap()
    }

    /// Ends it as SIGTERM would, but for the requests that still run.
    pub(crate) async fn stop(self) {
        let finish = self.within(|app| async move {
            api::serve::finish(&app).await;
            // A database cannot be dropped while somebody is connected to it.
            app.db.clone().close().await.unwrap();
        });
        finish.await;
        self.kill().await;
    }

    /// Ends it as SIGKILL would: nothing in it gets to run another step.
    pub(crate) async fn kill(self) {
        let Self { runtime, app, .. } = self;
        drop(app);
        // Waits for the threads, which blocks.
        tokio::task::spawn_blocking(move || runtime.shutdown_timeout(END)).await.unwrap();
    }
}

async fn serve(start: Start) -> (Arc<App>, String, Option<String>) {
    let Start { config, database_url, host, clock } = start;
    let options = store::Options { max_connections: config.database_connections };
    let db = Db::connect(&database_url, options).await.unwrap();
    let app = App::new(config, db, Arc::new(host), Arc::new(clock));
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)));
    let acceptor = listener.into_acceptor().await.unwrap();
    let address = *acceptor.local_addr()[0].as_socket_addr().unwrap();
    let metrics = api::metrics::serve::start(&app).await.unwrap();
    api::proxy::start(&app).await.unwrap();
    api::work::start(&app);
    let endpoint = api::http::endpoint(Arc::clone(&app));
    tokio::spawn(HttpServer::new_with_acceptor(acceptor).run(endpoint));
    let metrics = metrics.map(|address| format!("http://{address}/metrics"));
    (app, format!("http://{address}"), metrics)
}
