//! Windows of usage as they are exported. Decides nothing.

use billing::money::decimal;
use chrono::{DateTime, Utc};
use domain::id::{OrganizationId, ProjectId, SandboxId, TransactionId};
use rust_decimal::Decimal;
use serde::Serialize;
use store::{Db, Reach, billing::WindowPlace, rows::WindowRow};

use super::convert::{instant, period};
use crate::app::error::Result;

const PAGE: u32 = 1_000;

/// A window of usage. Amounts and quantities are decimal numbers in strings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WindowItem {
    /// The sandbox.
    pub sandbox_id: SandboxId,
    /// Its project.
    pub project_id: ProjectId,
    /// What was measured.
    pub metric: String,
    /// Its first instant.
    pub from: DateTime<Utc>,
    /// The first instant after it.
    pub until: DateTime<Utc>,
    /// Tells windows of one beginning apart: 0, or more for counts that came late; below 0 for what a
    /// correction added or took away.
    pub part: i64,
    /// How much, in units of the metric.
    pub quantity: String,
    /// Its price in credits.
    pub credits: String,
    /// The version that priced it.
    pub pricing_version: String,
    /// The period whose statement shows it.
    pub statement: String,
    /// The transaction that books it; none for what cost nothing.
    pub transaction_id: Option<TransactionId>,
}

impl WindowItem {
    pub(in crate::app) fn of(row: &WindowRow) -> Result<Self> {
        Ok(Self {
            sandbox_id: SandboxId::from_uuid(row.sandbox_id),
            project_id: ProjectId::from_uuid(row.project_id),
            metric: row.metric.clone(),
            from: instant(row.started_at)?,
            until: instant(row.ended_at)?,
            part: row.part,
            quantity: Decimal::new(row.quantity, 3).normalize().to_string(),
            credits: decimal(row.amount).to_string(),
            pricing_version: row.pricing_version.clone(),
            statement: period(row.booked_from)?.to_string(),
            transaction_id: row.transaction_id.map(TransactionId::from_uuid),
        })
    }
}

/// Hands an organization's windows that begin in `[from, until)` to `write`, one by one, in the order of
/// their beginnings.
///
/// # Errors
/// When the database does not answer, or `write` fails.
pub async fn export(
    db: &Db,
    org: OrganizationId,
    range: (DateTime<Utc>, DateTime<Utc>),
    mut write: impl FnMut(&WindowItem) -> std::io::Result<()>,
) -> anyhow::Result<()> {
    let billing = store::billing(Reach::Tenant { org, projects: None });
    let mut last = None;
    loop {
        let page = billing.windows(db.read(), org, range, last.as_ref(), PAGE).await?;
        for row in &page {
            write(&WindowItem::of(row)?)?;
        }
        last = page.last().map(WindowPlace::from);
        if last.is_none() {
            return Ok(());
        }
    }
}
