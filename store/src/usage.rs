//! What tenants did, counted: additive, and keyed by what was counted. Prices nothing; time is
//! measured by meters.

use chrono::{DateTime, Utc};
use domain::id::{Id, Named, OrganizationId, ProjectId, SandboxId};
use migrations::rows::UsageRow;
use sea_orm::ConnectionTrait;

use crate::{
    Reach,
    db::{Sql, Tx, word},
    error::Result,
    time,
};

pub use domain::metric::Metric;

/// Something that was counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRecord {
    /// Its id.
    pub id: UsageRecordId,
    /// Whose it is.
    pub org_id: OrganizationId,
    /// The project it lies in.
    pub project_id: ProjectId,
    /// The sandbox that it was counted in, whose pricing version prices it.
    pub sandbox_id: SandboxId,
    /// What was counted.
    pub metric: Metric,
    /// What it was counted of, such as a command's id. A metric is counted once of each.
    pub resource_id: String,
    /// How much.
    pub amount: i64,
    /// When.
    pub at: DateTime<Utc>,
}

impl Named for UsageRecord {
    const PREFIX: &'static str = "use";
}
/// An id of a usage record.
pub type UsageRecordId = Id<UsageRecord>;

/// The usage within reach.
#[must_use]
pub const fn usage(reach: Reach) -> Usage {
    Usage { reach }
}

/// The usage within a reach.
#[derive(Debug, Clone)]
pub struct Usage {
    reach: Reach,
}

impl Usage {
    /// Writes a record; the same metric of the same resource is kept once, as it was first.
    ///
    /// # Errors
    /// [`crate::Error::Missing`] for another organization's or project's.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach))]
    pub async fn record(&self, tx: &Tx, record: &UsageRecord) -> Result<()> {
        self.reach.must_cover(record.org_id, Some(record.project_id))?;
        Sql::new(
            "insert into usage_records (id, org_id, project_id, sandbox_id, metric, resource_id, amount,
               at, settled)
             values ($1, $2, $3, $4, $5, $6, $7, $8, false)
             on conflict (metric, resource_id) do nothing",
            [
                record.id.uuid().into(),
                record.org_id.uuid().into(),
                record.project_id.uuid().into(),
                record.sandbox_id.uuid().into(),
                record.metric.as_str().into(),
                record.resource_id.as_str().into(),
                record.amount.into(),
                time::micros(record.at).into(),
            ],
        )
        .execute(tx)
        .await?;
        Ok(())
    }

    /// The newest records, newest first.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach))]
    pub async fn recent(&self, c: &impl ConnectionTrait, limit: u32) -> Result<Vec<UsageRecord>> {
        let sql = Sql::new(
            "select r.id, r.org_id, r.project_id, r.sandbox_id, r.metric, r.resource_id, r.amount, r.at
             from usage_records r where true",
            [],
        );
        let sql = self.reach.by_project(sql, "r.org_id", "r.project_id");
        let rows =
            sql.text(" order by r.id desc nulls last limit ").bind(i64::from(limit)).all(c).await?;
        rows.into_iter().map(from_row).collect()
    }
}

fn from_row(row: UsageRow) -> Result<UsageRecord> {
    Ok(UsageRecord {
        id: UsageRecordId::from_uuid(row.id),
        org_id: OrganizationId::from_uuid(row.org_id),
        project_id: ProjectId::from_uuid(row.project_id),
        sandbox_id: SandboxId::from_uuid(row.sandbox_id),
        metric: word(&row.metric, "a usage record's metric")?,
        resource_id: row.resource_id,
        amount: row.amount,
        at: time::instant(row.at)?,
    })
}
