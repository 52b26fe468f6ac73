//! A server from a configuration: database, driver, background work, listener, and the orderly end.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::{Context, Result};
use drivers::{
    Driver,
    cloud_hypervisor::{CloudHypervisor, CloudHypervisorConfig, Start},
    local::{Local, LocalConfig},
    simulated::{Simulated, SimulatedClock},
};
use poem::{
    Server,
    listener::{Acceptor, Listener, TcpListener},
};
use store::{Db, Options};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    app::App,
    clock::{Clock, SystemClock},
    config::{Config, DriverName},
    http,
    metrics::{self, Metrics},
    proxy, work,
};

/// How long background work may take to reach a safe point at the end.
const SETTLE: Duration = Duration::from_secs(10);

/// Opens the database of a configuration and brings its schema up to date.
///
/// # Errors
/// When it cannot be reached or migrated.
pub async fn open_database(config: &Config) -> Result<Db> {
    let options = Options { max_connections: config.database_connections };
    let db = Db::connect(&config.database_url(), options).await.context("opening the database")?;
    db.migrate().await.context("bringing the database's schema up to date")?;
    Ok(db)
}

/// Makes the driver of a configuration, which tells how machines start. Touches nothing of the host yet.
///
/// # Errors
/// When the guest agent cannot be found, or the settings of networks make no sense.
pub(crate) fn open_driver(
    config: &Config,
    started: impl Fn(Start) + Send + Sync + 'static,
) -> Result<Arc<dyn Driver>> {
    Ok(match config.driver {
        DriverName::Simulated => Arc::new(simulated()),
        DriverName::Local => {
            let usual = LocalConfig::new(&config.state_dir, guest_agent(config)?);
            Arc::new(Local::new(LocalConfig {
                bwrap: config.bwrap.clone(),
                first_uid: config.sandbox_uid_base,
                ..usual
            }))
        }
        DriverName::CloudHypervisor => {
            let driver = CloudHypervisor::new(CloudHypervisorConfig {
                vmm: config.cloud_hypervisor.clone(),
                bwrap: config.bwrap.clone(),
                first_uid: config.sandbox_uid_base,
                network: config.network()?,
                warm_start: config.machine_warm_start,
                n_spares: config.machine_spares,
                ..CloudHypervisorConfig::new(&config.state_dir, config.images())
            });
            Arc::new(driver.telling(started))
        }
    })
}

/// A simulated driver whose clock follows the real one, for demonstrations and load tests.
fn simulated() -> Simulated {
    const STEP: Duration = Duration::from_millis(5);
    let clock = SimulatedClock::at(SystemClock.now());
    let driver = Simulated::with_clock(clock.clone());
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(STEP).await;
            clock.set(SystemClock.now());
        }
    });
    driver
}

/// Where the agent's binary is.
///
/// # Errors
/// When it is not there.
pub(crate) fn guest_agent(config: &Config) -> Result<PathBuf> {
    let path = match &config.guest_agent {
        Some(path) => path.clone(),
        None => std::env::current_exe()
            .context("finding this executable")?
            .with_file_name("crownest-guest"),
    };
    let path = std::path::absolute(&path).context("guest_agent")?;
    anyhow::ensure!(
        path.is_file(),
        "the guest agent is not at {}; build it with `cargo build -p guest` or set guest_agent",
        path.display()
    );
    Ok(path)
}

/// Serves until SIGTERM or SIGINT, then finishes what runs. Sandboxes go on running and are adopted
/// by the next server on this host.
///
/// # Errors
/// When the database, the driver or the address cannot be used.
pub async fn serve(config: Config) -> Result<()> {
    let db = open_database(&config).await?;
    // The driver is there before anything that counts.
    let counted = Arc::new(OnceLock::<Arc<Metrics>>::new());
    let counting = Arc::clone(&counted);
    let driver = open_driver(&config, move |start| {
        if let Some(metrics) = counting.get() {
            metrics.starts.count(start);
        }
    })?;
    for limitation in driver.check().await.context("this host cannot run sandboxes")? {
        tracing::warn!(what = limitation.what, remedy = limitation.remedy, "driver limitation");
    }
    let app = App::new(config, db, driver, Arc::new(SystemClock));
    counted.get_or_init(|| Arc::clone(&app.metrics));
    app.blobs.open().await.context("artifact_store cannot be used")?;
    let acceptor = TcpListener::bind(app.config.listen).into_acceptor().await.context("listen")?;
    let address = acceptor.local_addr().remove(0);
    let address = address.as_socket_addr().context("a TCP listener has a socket address")?;
    if let Some(file) = &app.config.listen_file {
        std::fs::write(file, address.to_string()).context("listen_file")?;
    }
    if let Some(address) = metrics::serve::start(&app).await? {
        tracing::info!(%address, "serving metrics");
    }
    if let Some(address) = proxy::start(&app).await? {
        tracing::info!(%address, "serving previews");
    }
    work::start(&app);
    tracing::info!(%address, driver = app.driver.name(), "serving");
    let grace = Duration::from_secs(app.config.shutdown_grace_seconds);
    let serving = Server::new_with_acceptor(acceptor).run_with_graceful_shutdown(
        http::endpoint(Arc::clone(&app)),
        end(&app)?,
        Some(grace),
    );
    let serving = async {
        let served = serving.await;
        // Also when it was the listener that failed.
        app.draining.cancel();
        served
    };
    let (served, ()) = tokio::join!(serving, proxy::drain(&app, grace));
    finish(&app).await;
    served.context("serving")
}

/// Resolves when the process is asked to end, after telling whoever streams.
fn end(app: &Arc<App>) -> Result<impl Future<Output = ()> + use<>> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    let app = Arc::clone(app);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("shutting down: finishing requests, leaving sandboxes running");
        app.draining.cancel();
    })
}

/// Ends background work. Each piece of it may be cut anywhere; waiting only saves a retry.
pub async fn finish(app: &Arc<App>) {
    app.draining.cancel();
    app.shutdown.cancel();
    app.tasks.close();
    if tokio::time::timeout(SETTLE, app.tasks.wait()).await.is_err() {
        tracing::warn!("background work did not settle in time; the next server carries on");
    }
    if tokio::time::timeout(SETTLE, app.driver.close()).await.is_err() {
        tracing::warn!(
            "what was kept for sandboxes to come did not end in time; the next server ends it"
        );
    }
    if let Err(error) = work::housekeeping::write_last_use(app).await {
        tracing::warn!(%error, "the last use of keys was not written down");
    }
}
