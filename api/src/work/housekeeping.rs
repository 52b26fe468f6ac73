//! What only has to happen now and then: writing down when keys were used, dropping expired
//! idempotency records, old logs, old signing keys and what is left of artifacts, shrinking memory.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;

use super::repeat;
use crate::app::{App, artifacts, command_logs, error::Result, signing_keys};

const PAUSE: Duration = Duration::from_secs(15);
const BATCH: u32 = 1000;

/// Keeps house for ever.
pub async fn run(app: Arc<App>) {
    if let Err(error) = artifacts::sweep::take_over(&app).await {
        tracing::warn!(%error, "what the last server was writing waits until its leases run out");
    }
    repeat(PAUSE, &app.metrics.failures.housekeeping, || round(&app)).await;
}

/// One round; `true` when a batch was full and there may be more.
///
/// # Errors
/// When the database does not answer.
pub async fn round(app: &App) -> Result<bool> {
    write_last_use(app).await?;
    let now = app.clock.now();
    let purged = store::idempotency::purge(app.db.write(), now, BATCH).await?;
    let full = purge_logs(app).await?;
    let retention = TimeDelta::days(i64::from(app.config.outbox_retention_days));
    let outbox = store::outbox(store::Everyone::for_worker("housekeeping"));
    let trimmed = outbox.trim(app.db.write(), now - retention, BATCH).await?;
    signing_keys::purge(app).await?;
    app.rate_limits.shrink();
    // Last, because the store of artifacts may be away while all else is well.
    let swept = artifacts::sweep::round(app).await?;
    Ok(purged >= u64::from(BATCH) || trimmed >= u64::from(BATCH) || full || swept)
}

/// Deletes old logs of every organization; `true` when there are more of some.
async fn purge_logs(app: &App) -> Result<bool> {
    let (mut full, mut after) = (false, None);
    loop {
        let (purged, next) = command_logs::purge(app, after).await?;
        full |= purged >= u64::from(command_logs::PURGE);
        if next.is_none() {
            return Ok(full);
        }
        after = next;
    }
}

/// Writes down when keys were last used. Also the last thing a server does.
///
/// # Errors
/// When the database does not answer.
pub async fn write_last_use(app: &App) -> Result<()> {
    let used = app.auth.take_used();
    if !used.tenants.is_empty() {
        store::api_keys::touch(app.db.write(), &used.tenants).await?;
    }
    if !used.operators.is_empty() {
        store::admin_keys::touch(app.db.write(), &used.operators).await?;
    }
    Ok(())
}
