//! What only has to happen now and then: writing down when keys were used, dropping expired
//! idempotency records and old logs, shrinking memory.

use std::{sync::Arc, time::Duration};

use super::repeat;
use crate::app::{App, command_logs, error::Result};

const PAUSE: Duration = Duration::from_secs(15);
const BATCH: u32 = 1000;

/// Keeps house for ever.
pub async fn run(app: Arc<App>) {
    repeat(PAUSE, || round(&app)).await;
}

/// One round; `true` when a batch was full and there may be more.
///
/// # Errors
/// When the database does not answer.
pub async fn round(app: &App) -> Result<bool> {
    write_last_use(app).await?;
    let now = app.clock.now();
    let purged = store::idempotency::purge(app.db.write(), now, BATCH).await?;
    let logs = command_logs::purge(app).await?;
    app.rate_limits.shrink();
    Ok(purged >= u64::from(BATCH) || logs >= u64::from(command_logs::PURGE))
}

/// Writes down when keys were last used. Also the last thing a server does.
///
/// # Errors
/// When the database does not answer.
pub async fn write_last_use(app: &App) -> Result<()> {
    let used = app.auth.take_used();
    if !used.is_empty() {
        store::api_keys::touch(app.db.write(), &used).await?;
    }
    Ok(())
}
