//! What background workers ask of sandboxes. Any number of processes may ask at the same time.

use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::{
    id::{OrganizationId, SandboxId},
    sandbox::Sandbox,
};
use sea_orm::ConnectionTrait;
use uuid::Uuid;

use super::{
    CURRENT, LIVE, Sandboxes,
    row::{from_row, select},
};
use crate::{db::Sql, error::Result, reach::uuids, time};

impl Sandboxes {
    /// Takes up to `limit` sandboxes of a host whose `reconcile_at` has come, the most overdue first,
    /// and moves that to `now + lease`: until then no other worker gets them. The generation stays,
    /// so a claim makes no reader's compare-and-set fail.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, host))]
    pub async fn claim_due(
        &self,
        c: &impl ConnectionTrait,
        host: &str,
        now: DateTime<Utc>,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<Sandbox>> {
        let sql = Sql::new(
            "with due as materialized (select s.id from sandboxes s
               where s.host = $1 and s.reconcile_at <= $2",
            [host.into(), time::micros(now).into()],
        );
        let claimed: Vec<Uuid> = self
            .within(sql)
            .text(" order by s.reconcile_at limit ")
            .bind(i64::from(limit))
            .lock(c, "for no key update skip locked")
            .text(") update sandboxes set reconcile_at = ")
            .bind(time::micros(now + lease))
            .text(" where id in (select id from due) returning id")
            .column(c)
            .await?;
        if claimed.is_empty() {
            return Ok(Vec::new());
        }
        let rows = select("s.id in ").list(claimed).text(" order by s.id").all(c).await?;
        rows.into_iter().map(from_row).collect()
    }

    /// When the next sandbox of a host is due; `None` = nothing is planned.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, host))]
    pub async fn next_due(
        &self,
        c: &impl ConnectionTrait,
        host: &str,
    ) -> Result<Option<DateTime<Utc>>> {
        let sql = Sql::new(
            "select min(s.reconcile_at) from sandboxes s
             where s.reconcile_at is not null and s.host = $1",
            [host.into()],
        );
        time::optional(self.within(sql).value(c).await?)
    }

    /// Plans the next look at a sandbox, or none; the generation stays. Does nothing when somebody
    /// else changed the row since it was read: they have planned their own.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, sandbox = %sandbox.id))]
    pub async fn reschedule(
        &self,
        c: &impl ConnectionTrait,
        sandbox: &Sandbox,
        reconcile_at: Option<DateTime<Utc>>,
    ) -> Result<()> {
        let sql = Sql::new(
            "update sandboxes as s set reconcile_at = $3 where s.id = $1 and s.generation = $2",
            [
                sandbox.id.uuid().into(),
                sandbox.generation.into(),
                reconcile_at.map(time::micros).into(),
            ],
        );
        self.within(sql).execute(c).await?;
        Ok(())
    }

    /// Notes that the driver has removed a sandbox whose phase does not change with that, such as a
    /// failed one. Noted twice, the first instant stays.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, sandbox = %id))]
    pub async fn mark_removed(
        &self,
        c: &impl ConnectionTrait,
        id: SandboxId,
        now: DateTime<Utc>,
    ) -> Result<()> {
        let sql = Sql::new(
            "update sandboxes as s
             set removed_at = $2, reconcile_at = null, generation = generation + 1
             where s.id = $1 and s.removed_at is null and s.phase in ('failed', 'destroyed')",
            [id.uuid().into(), time::micros(now).into()],
        );
        self.within(sql).execute(c).await?;
        Ok(())
    }

    /// The sandboxes of a host that its driver may run or has left-overs of, ended or not.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, host))]
    pub async fn on_host(&self, c: &impl ConnectionTrait, host: &str) -> Result<Vec<Sandbox>> {
        self.unremoved(c, host, "").await
    }

    /// The sandboxes of a host that are ready.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, host))]
    pub async fn ready_on(&self, c: &impl ConnectionTrait, host: &str) -> Result<Vec<Sandbox>> {
        self.unremoved(c, host, " and s.phase = 'ready'").await
    }

    /// The sandboxes of an organization that take work or will, on whatever host.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, org = %org))]
    pub async fn live_of(
        &self,
        c: &impl ConnectionTrait,
        org: OrganizationId,
    ) -> Result<Vec<Sandbox>> {
        // The partial index of current sandboxes, in its own words.
        let sql = select("s.org_id = ").bind(org.uuid());
        let sql = sql.text(&format!(" and s.phase in {CURRENT} and s.phase in {LIVE}"));
        let rows = self.within(sql).text(" order by s.id").all(c).await?;
        rows.into_iter().map(from_row).collect()
    }

    /// The sandboxes of a host that take work or will.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, host))]
    pub async fn live_on(&self, c: &impl ConnectionTrait, host: &str) -> Result<Vec<Sandbox>> {
        self.unremoved(c, host, &format!(" and s.phase in {LIVE}")).await
    }

    async fn unremoved(
        &self,
        c: &impl ConnectionTrait,
        host: &str,
        condition: &str,
    ) -> Result<Vec<Sandbox>> {
        let sql = select("s.removed_at is null and s.host = ").bind(host).text(condition);
        let rows = self.within(sql).text(" order by s.id").all(c).await?;
        rows.into_iter().map(from_row).collect()
    }

    /// Notes that a host's driver was seen running these sandboxes; the generation stays. Rows that
    /// somebody else is changing are skipped: it is noted the next time, and waiting for many rows at
    /// once could deadlock.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, host, n = ids.len()))]
    pub async fn mark_seen_alive(
        &self,
        c: &impl ConnectionTrait,
        host: &str,
        ids: &[SandboxId],
        now: DateTime<Utc>,
    ) -> Result<()> {
        // One statement, unless there are more than a statement may have parameters.
        for part in ids.chunks(10_000) {
            let sql = Sql::new(
                "with free as materialized (select s.id from sandboxes s where s.host = $1
                   and (s.seen_alive_at is null or s.seen_alive_at < $2) and s.phase in ",
                [host.into(), time::micros(now).into()],
            );
            let sql = sql.text(LIVE).text(" and s.id in ").list(uuids(part));
            self.within(sql)
                .lock(c, "for no key update skip locked")
                .text(") update sandboxes set seen_alive_at = $2 where id in (select id from free)")
                .execute(c)
                .await?;
        }
        Ok(())
    }
}
