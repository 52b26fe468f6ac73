//! What a scrape reads: everything that was counted, and what the database says of the whole installation
//! at this moment. A database that is away, or slow, is said to be so; the rest is told all the same, and
//! nothing is told that is no longer known to be true.

use std::time::Duration;

use chrono::TimeDelta;
use domain::sandbox::Status;
use store::{Everyone, vitals::Signs};
use tokio::{sync::Mutex, time::timeout};

use super::{Registry, table};
use crate::app::App;

/// For everything that a scrape asks the database, its turn included; below the usual patience of
/// scrapers, which is 10 s.
const DEADLINE: Duration = Duration::from_secs(3);

/// One scrape at a time asks the database: many scrapers are no reason for many queries.
#[derive(Debug, Default)]
pub(super) struct Scrapes(Mutex<()>);

/// Everything in the text format.
pub(super) async fn text(app: &App) -> String {
    let asking = async {
        let _turn = app.metrics.scrapes.0.lock().await;
        let vitals = store::vitals(Everyone::for_worker("metrics"));
        vitals.signs(app.db.read(), app.clock.now()).await
    };
    let signs = match timeout(DEADLINE, asking).await {
        Ok(Ok(signs)) => Some(signs),
        Ok(Err(error)) => {
            tracing::debug!(%error, "the database does not answer a scrape");
            None
        }
        Err(_) => {
            tracing::debug!("the database does not answer a scrape in time");
            None
        }
    };
    let mut text = app.metrics.registry.render();
    text.push_str(&now(app, signs.as_ref()).render());
    text
}

/// What is true now and may not be at the next scrape, in a registry of its own.
fn now(app: &App, signs: Option<&Signs>) -> Registry {
    let registry = Registry::new();
    let gauge = |name, labels: &[_], value: f64| registry.gauge(name, labels).set(value);
    let build = [("version", env!("CARGO_PKG_VERSION")), ("driver", app.driver.name())];
    gauge(table::BUILD_INFO, &build, 1.0);
    let connections = app.db.connections();
    gauge(table::CONNECTIONS, &[("state", "used")], connections.used.into());
    gauge(table::CONNECTIONS, &[("state", "idle")], connections.idle.into());
    gauge(table::DATABASE_UP, &[], if signs.is_some() { 1.0 } else { 0.0 });
    let Some(signs) = signs else { return registry };
    gauge(table::OUTBOX_EVENTS, &[], count(signs.outbox.depth));
    gauge(table::OUTBOX_LAG, &[], seconds(signs.outbox_lag));
    gauge(table::METER_LAG, &[], seconds(signs.meter_lag));
    gauge(table::ACCOUNT_LAG, &[], seconds(signs.account_lag));
    for status in Status::ALL.into_iter().filter(|status| !OVER.contains(status)) {
        let found = signs.sandboxes.iter().find(|(found, _)| *found == status);
        let n = found.map_or(0, |(_, n)| *n);
        gauge(table::SANDBOXES, &[("status", status.as_str())], count(n));
    }
    registry
}

/// Statuses of sandboxes that are over.
const OVER: [Status; 2] = [Status::Destroyed, Status::Failed];

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn count(n: i64) -> f64 {
    n as f64
}

fn seconds(span: TimeDelta) -> f64 {
    span.as_seconds_f64()
}
