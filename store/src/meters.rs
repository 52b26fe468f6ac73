//! Writes of meters: from when to when a sandbox is billed. Whoever changes the phase does so in the
//! same transaction; reading the sums is in `usage`.

use chrono::{DateTime, Utc};
use domain::{id::SandboxId, sandbox::Sandbox};

use crate::{
    db::{Sql, Tx},
    error::Result,
    time,
};

/// Opens the meter of a sandbox. Opened twice, it is one row that keeps its first instant.
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all, fields(sandbox = %sandbox.id))]
pub async fn open(
    tx: &Tx,
    sandbox: &Sandbox,
    at: DateTime<Utc>,
    multiplier_milli: i64,
) -> Result<()> {
    Sql::new(
        "insert into meters (sandbox_id, org_id, project_id, metric, opened_at, closed_at,
           multiplier_milli, pricing_version, settled_until, settled_quantity, settled_amount,
           n_parts)
         values ($1, $2, $3, 'compute_unit_seconds', $4, null, $5, $6, $4, 0, 0, 0)
         on conflict do nothing",
        [
            sandbox.id.uuid().into(),
            sandbox.org_id.uuid().into(),
            sandbox.project_id.uuid().into(),
            time::micros(at).into(),
            multiplier_milli.into(),
            sandbox.pricing_version.as_str().into(),
        ],
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Closes the meter of a sandbox, not before it opened and not before what is settled of it. Closed
/// twice, it keeps its first end; a sandbox that was never ready has none.
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all, fields(sandbox = %sandbox_id))]
pub async fn close(tx: &Tx, sandbox_id: SandboxId, at: DateTime<Utc>) -> Result<()> {
    Sql::new(
        "update meters set closed_at = case when settled_until > $2 then settled_until else $2 end
         where sandbox_id = $1 and metric = 'compute_unit_seconds' and closed_at is null",
        [sandbox_id.uuid().into(), time::micros(at).into()],
    )
    .execute(tx)
    .await?;
    Ok(())
}
