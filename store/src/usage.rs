//! What tenants used: seconds from meters, and additive counters keyed by what was counted. Prices
//! nothing.

use chrono::{DateTime, Utc};
use domain::id::{Id, Named, OrganizationId, ProjectId};
use migrations::rows::UsageRow;
use sea_orm::ConnectionTrait;

use crate::{
    Reach,
    db::{Sql, Tx, unsigned, word},
    error::Result,
    sandboxes::{CURRENT, LIVE},
    time,
};

/// What a counter counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the contract's words, section 7.2")]
pub enum Metric {
    SandboxCreates,
    CommandInvocations,
    CodeRunInvocations,
    PreviewMinutes,
    ArtifactBytesStored,
    FileBytesWritten,
}

impl Metric {
    /// Every metric.
    pub const ALL: [Self; 6] = [
        Self::SandboxCreates,
        Self::CommandInvocations,
        Self::CodeRunInvocations,
        Self::PreviewMinutes,
        Self::ArtifactBytesStored,
        Self::FileBytesWritten,
    ];

    /// The wire and storage form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SandboxCreates => "sandbox_creates",
            Self::CommandInvocations => "command_invocations",
            Self::CodeRunInvocations => "code_run_invocations",
            Self::PreviewMinutes => "preview_minutes",
            Self::ArtifactBytesStored => "artifact_bytes_stored",
            Self::FileBytesWritten => "file_bytes_written",
        }
    }
}

impl std::str::FromStr for Metric {
    type Err = ();
    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        Self::ALL.into_iter().find(|metric| metric.as_str() == text).ok_or(())
    }
}

/// Something that was counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRecord {
    /// Its id.
    pub id: UsageRecordId,
    /// Whose it is.
    pub org_id: OrganizationId,
    /// The project it lies in, if it does in one.
    pub project_id: Option<ProjectId>,
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
    /// The compute unit seconds in `[from, until)`, as far as they have passed at `now`. A meter's
    /// whole seconds are counted from its opening, so periods that follow each other lose none and
    /// count none twice; thousandths of the multiplier are cut off once, after the sum.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach))]
    pub async fn compute_unit_seconds(
        &self,
        c: &impl ConnectionTrait,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<i64> {
        // `ended`: an open meter runs to now, but never past its sandbox's expiry. Only for open ones
        // are sandboxes looked up; a join would read them all.
        let metered = Sql::new(
            "select m.opened_at, m.multiplier_milli, coalesce(m.closed_at,
               (select case when s.expires_at < $3 then s.expires_at else $3 end
                from sandboxes s where s.id = m.sandbox_id)) as ended
             from meters m
             where m.metric = 'compute_unit_seconds' and m.opened_at < $2
               and (m.closed_at is null or m.closed_at > $1)",
            [time::micros(from).into(), time::micros(until).into(), time::micros(now).into()],
        );
        let metered = self.reach.by_project(metered, "m.org_id", "m.project_id");
        let sql = metered.wrap(
            "select cast(coalesce(sum((
                 (case when ended < $2 then ended else $2 end - opened_at) / 1000000
                 - (case when opened_at > $1 then opened_at else $1 end - opened_at) / 1000000
               ) * multiplier_milli), 0) as bigint)
             from (",
            ") metered where ended > opened_at and ended > $1",
        );
        Ok(sql.value::<i64>(c).await? / 1_000)
    }

    /// Writes a record; the same metric of the same resource is kept once, as it was first.
    ///
    /// # Errors
    /// [`crate::Error::Missing`] for another organization's or project's.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach))]
    pub async fn record(&self, tx: &Tx, record: &UsageRecord) -> Result<()> {
        self.reach.must_cover(record.org_id, record.project_id)?;
        Sql::new(
            "insert into usage_records (id, org_id, project_id, metric, resource_id, amount, at)
             values ($1, $2, $3, $4, $5, $6, $7)
             on conflict (metric, resource_id) do nothing",
            [
                record.id.uuid().into(),
                record.org_id.uuid().into(),
                record.project_id.map(Id::uuid).into(),
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
            "select r.id, r.org_id, r.project_id, r.metric, r.resource_id, r.amount, r.at
             from usage_records r where true",
            [],
        );
        let sql = self.reach.by_project(sql, "r.org_id", "r.project_id");
        let rows =
            sql.text(" order by r.id desc nulls last limit ").bind(i64::from(limit)).all(c).await?;
        rows.into_iter().map(from_row).collect()
    }

    /// How many sandboxes are live.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach))]
    pub async fn live_sandboxes(&self, c: &impl ConnectionTrait) -> Result<u64> {
        let sql = Sql::new(
            format!(
                "select count(*) from sandboxes s where s.phase in {CURRENT} and s.phase in {LIVE}"
            ),
            [],
        );
        let sql = self.reach.by_project(sql, "s.org_id", "s.project_id");
        unsigned(sql.value(c).await?, "a count")
    }
}

fn from_row(row: UsageRow) -> Result<UsageRecord> {
    Ok(UsageRecord {
        id: UsageRecordId::from_uuid(row.id),
        org_id: OrganizationId::from_uuid(row.org_id),
        project_id: row.project_id.map(ProjectId::from_uuid),
        metric: word(&row.metric, "a usage record's metric")?,
        resource_id: row.resource_id,
        amount: row.amount,
        at: time::instant(row.at)?,
    })
}
