//! What was measured and is not settled yet, and the note that it is.

use domain::id::OrganizationId;
use migrations::rows::billing::{CountRow, MeterRow, SpanRow};
use sea_orm::ConnectionTrait;
use uuid::Uuid;

use super::{Billing, CHUNK, values};
use crate::{
    db::{Sql, Tx},
    error::{Error, Result},
    reach::uuids,
};

/// A sandbox is metered to its expiry at most, and to the instant at which what runs of a suspended or
/// closed organization is to end: whoever settles before that was carried out must not go beyond it.
const METER: &str =
    "select m.sandbox_id, m.org_id, m.project_id, m.metric, m.opened_at, m.closed_at,
       m.multiplier_milli, m.pricing_version, m.settled_until, m.settled_quantity,
       m.settled_amount, m.n_parts, s.seen_alive_at,
       case when o.cleanup_at < s.expires_at then o.cleanup_at else s.expires_at end as expires_at
     from meters m join sandboxes s on s.id = m.sandbox_id
       join organizations o on o.id = m.org_id where ";

impl Billing {
    /// The meters of time of these organizations that are open or not settled to their end. Within a
    /// transaction they are locked: none can be closed before an instant that is being settled.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, n = orgs.len()))]
    pub async fn unsettled_meters(
        &self,
        c: &impl ConnectionTrait,
        orgs: &[OrganizationId],
        lock: Lock,
    ) -> Result<Vec<MeterRow>> {
        // The condition of the partial index, with its columns as it names them.
        let sql = Sql::new(METER, [])
            .text("(m.closed_at is null or m.settled_until < m.closed_at) and m.org_id in ")
            .list(uuids(orgs));
        let sql = self.reach.by_project(sql, "m.org_id", "m.project_id");
        let sql = sql.text(" order by m.sandbox_id");
        match lock {
            Lock::Hold => sql.lock(c, "for no key update of m").all(c).await,
            Lock::Look => sql.all(c).await,
        }
    }

    /// The meters of what is counted in these sandboxes.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, n = sandboxes.len()))]
    pub async fn counted_meters(
        &self,
        c: &impl ConnectionTrait,
        sandboxes: &[Uuid],
    ) -> Result<Vec<MeterRow>> {
        let mut meters = Vec::new();
        for part in sandboxes.chunks(CHUNK) {
            let sql = Sql::new(METER, [])
                .text("m.metric <> 'compute_unit_seconds' and m.sandbox_id in ")
                .list(values(part));
            let sql = self.reach.by_project(sql, "m.org_id", "m.project_id");
            meters.extend(sql.all::<MeterRow>(c).await?);
        }
        Ok(meters)
    }

    /// What was counted in these organizations and is not settled, oldest first.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, n = orgs.len()))]
    pub async fn unsettled_counts(
        &self,
        c: &impl ConnectionTrait,
        orgs: &[OrganizationId],
        limit: u32,
    ) -> Result<Vec<CountRow>> {
        let sql = Sql::new(
            "select r.id, r.org_id, r.project_id, r.sandbox_id, r.metric, r.amount, r.at,
               s.pricing_version, s.created_at as sandbox_created_at
             from usage_records r join sandboxes s on s.id = r.sandbox_id
             where not r.settled and r.org_id in ",
            [],
        )
        .list(uuids(orgs));
        let sql = self.reach.by_project(sql, "r.org_id", "r.project_id");
        sql.text(" order by r.org_id, r.id limit ").bind(i64::from(limit)).all(c).await
    }

    /// When commands were active in these sandboxes.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, n = sandboxes.len()))]
    pub async fn active_spans(
        &self,
        c: &impl ConnectionTrait,
        sandboxes: &[Uuid],
    ) -> Result<Vec<SpanRow>> {
        let mut spans = Vec::new();
        for part in sandboxes.chunks(CHUNK) {
            let sql = Sql::new(
                "select c.sandbox_id, c.started_at, c.finished_at from commands c
                 where c.started_at is not null and c.sandbox_id in ",
                [],
            )
            .list(values(part));
            spans.extend(self.reach.by_org(sql, "c.org_id").all::<SpanRow>(c).await?);
        }
        Ok(spans)
    }

    /// Notes how far meters are settled; a meter of counts that is new is made. One statement for a
    /// thousand of them.
    ///
    /// # Errors
    /// [`Error::Stale`] when somebody settled further, or the meter is another organization's.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, n = meters.len()))]
    pub async fn store_meters(&self, tx: &Tx, meters: &[MeterRow]) -> Result<()> {
        for part in meters.chunks(CHUNK) {
            for meter in part {
                self.reach.must_cover(OrganizationId::from_uuid(meter.org_id), None)?;
            }
            let rows = part.iter().map(|m| {
                [
                    m.sandbox_id.into(),
                    m.org_id.into(),
                    m.project_id.into(),
                    m.metric.as_str().into(),
                    m.opened_at.into(),
                    m.closed_at.into(),
                    m.multiplier_milli.into(),
                    m.pricing_version.as_str().into(),
                    m.settled_until.into(),
                    m.settled_quantity.into(),
                    m.settled_amount.into(),
                    m.n_parts.into(),
                ]
            });
            let stored = Sql::new(
                "insert into meters (sandbox_id, org_id, project_id, metric, opened_at, closed_at,
                   multiplier_milli, pricing_version, settled_until, settled_quantity,
                   settled_amount, n_parts) values ",
                [],
            )
            .rows(rows)
            .text(
                " on conflict (sandbox_id, metric, opened_at) do update set
                   settled_until = excluded.settled_until,
                   settled_quantity = excluded.settled_quantity,
                   settled_amount = excluded.settled_amount, n_parts = excluded.n_parts
                 where meters.settled_until <= excluded.settled_until
                   and meters.org_id = excluded.org_id",
            )
            .execute(tx)
            .await?;
            if stored != crate::db::count(part.len()) {
                return Err(Error::Stale);
            }
        }
        Ok(())
    }

    /// Notes that counts are settled.
    ///
    /// # Errors
    /// [`Error::Stale`] when somebody else did before.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, n = counts.len()))]
    pub async fn mark_settled(&self, tx: &Tx, counts: &[Uuid]) -> Result<()> {
        for part in counts.chunks(CHUNK) {
            let sql = Sql::new(
                "update usage_records as r set settled = true where not r.settled and r.id in ",
                [],
            )
            .list(values(part));
            if self.reach.by_org(sql, "r.org_id").execute(tx).await? != crate::db::count(part.len())
            {
                return Err(Error::Stale);
            }
        }
        Ok(())
    }
}

/// Whether a read holds its rows until the transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// It does.
    Hold,
    /// It does not.
    Look,
}
