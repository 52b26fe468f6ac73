//! Pricing versions. They are the installation's, not a tenant's; written once, never changed.

use chrono::{DateTime, Utc};
use migrations::rows::billing::PricingVersionRow;
use sea_orm::{ConnectionTrait, DbBackend};

use crate::{
    db::{Sql, Tx},
    error::Result,
    time,
};

/// Every version, the one that became valid first in front.
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all)]
pub async fn list(c: &impl ConnectionTrait) -> Result<Vec<PricingVersionRow>> {
    Sql::new(
        "select name, currency, compute_unit_seconds_per_credit, nano_currency_per_credit, sizes,
           idle_factor_milli, rates, rounding, valid_from
         from pricing_versions order by valid_from, name",
        [],
    )
    .all(c)
    .await
}

/// Keeps others from writing a version until the transaction ends.
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all)]
pub async fn lock(tx: &Tx) -> Result<()> {
    // SQLite has one writer at a time anyway.
    if tx.get_database_backend() == DbBackend::Postgres {
        Sql::new("lock table pricing_versions in share row exclusive mode", []).execute(tx).await?;
    }
    Ok(())
}

/// Writes a new version.
///
/// # Errors
/// [`crate::Error::Taken`] with its primary key for a name that exists.
#[tracing::instrument(level = "debug", skip_all, fields(name = version.name))]
pub async fn insert(
    c: &impl ConnectionTrait,
    version: &PricingVersionRow,
    published_at: DateTime<Utc>,
) -> Result<()> {
    Sql::new(
        "insert into pricing_versions (name, currency, compute_unit_seconds_per_credit,
           nano_currency_per_credit, sizes, idle_factor_milli, rates, rounding, valid_from,
           published_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        [
            version.name.as_str().into(),
            version.currency.as_str().into(),
            version.compute_unit_seconds_per_credit.into(),
            version.nano_currency_per_credit.into(),
            version.sizes.as_str().into(),
            version.idle_factor_milli.into(),
            version.rates.as_str().into(),
            version.rounding.as_str().into(),
            version.valid_from.into(),
            time::micros(published_at).into(),
        ],
    )
    .execute(c)
    .await?;
    Ok(())
}
