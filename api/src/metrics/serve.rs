//! The listener that metrics are read from. It has an address of its own, so that whoever opens the API to
//! the world does not open this with it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use poem::{
    Endpoint, EndpointExt, Response, Route, Server, get,
    http::{StatusCode, header},
    listener::{Acceptor, Listener, TcpListener},
};

use super::{UPKEEP, scrape};
use crate::app::App;

/// The text format of Prometheus.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// How long a scrape may go on when the server ends.
const GRACE: Duration = Duration::from_secs(1);

/// Listens if `metrics_listen` says where, until `app.shutdown` is cancelled; returns the address.
///
/// # Errors
/// When the address cannot be used.
pub async fn start(app: &Arc<App>) -> Result<Option<SocketAddr>> {
    let Some(address) = app.config.metrics_listen else { return Ok(None) };
    let acceptor = TcpListener::bind(address).into_acceptor().await.context("metrics_listen")?;
    let address = acceptor.local_addr().remove(0);
    let address = *address.as_socket_addr().context("a TCP listener has a socket address")?;
    let (shutdown, metrics) = (app.shutdown.clone(), Arc::clone(&app.metrics));
    let server = Server::new_with_acceptor(acceptor).run_with_graceful_shutdown(
        endpoint(Arc::clone(app)),
        shutdown.clone().cancelled_owned(),
        Some(GRACE),
    );
    app.tasks.spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "metrics cannot be read any more");
        }
    });
    app.tasks.spawn(async move {
        let mut ticks = tokio::time::interval(UPKEEP);
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            metrics.keep_up();
        }
    });
    Ok(Some(address))
}

fn endpoint(app: Arc<App>) -> impl Endpoint {
    let scrape = poem::endpoint::make(move |_| {
        let app = Arc::clone(&app);
        async move {
            Response::builder()
                .header(header::CONTENT_TYPE, CONTENT_TYPE)
                .body(scrape::text(&app).await)
        }
    });
    let nothing = |_: poem::Error| async { Response::from(StatusCode::NOT_FOUND) };
    Route::new().at("/metrics", get(scrape)).catch_all_error(nothing)
}
