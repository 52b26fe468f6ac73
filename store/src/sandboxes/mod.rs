//! Queries of sandboxes: reads, then writes. Phases are decided in `domain`; here a change is a
//! compare-and-set on the generation, and nothing else.

mod filter;
mod row;
mod workers;

use chrono::{DateTime, Utc};
use domain::{
    id::{OrganizationId, SandboxId},
    sandbox::Sandbox,
};
use sea_orm::{ConnectionTrait, FromQueryResult};

pub use filter::SandboxFilter;
pub(crate) use filter::statuses;
use row::{from_row, select};

use crate::{
    Page, PageRequest, Reach,
    db::{Sql, Tx, signed, unsigned},
    error::{Error, Result},
    time,
};

/// The phases of sandboxes that take work or will, as the partial indexes spell them.
pub(crate) const LIVE: &str = "('creating', 'starting', 'ready')";
/// The phases that are not final, as the partial index spells them. SQLite uses that only when its
/// own condition is in the query word for word.
pub(crate) const CURRENT: &str = "('creating', 'starting', 'ready', 'expiring')";

/// The sandboxes within reach.
#[must_use]
pub const fn sandboxes(reach: Reach) -> Sandboxes {
    Sandboxes { reach }
}

/// The sandboxes within a reach.
#[derive(Debug, Clone)]
pub struct Sandboxes {
    reach: Reach,
}

impl Sandboxes {
    /// The sandbox, ended or not. One query.
    ///
    /// # Errors
    /// [`Error::Missing`].
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, sandbox = %id))]
    pub async fn get(&self, c: &impl ConnectionTrait, id: SandboxId) -> Result<Sandbox> {
        let sql = self.within(select("s.id = ").bind(id.uuid()));
        from_row(sql.one(c).await?.ok_or(Error::Missing("sandbox"))?)
    }

    /// The sandbox, its row held as it is until the transaction ends: it cannot end meanwhile, and
    /// others may hold it, too.
    ///
    /// # Errors
    /// [`Error::Missing`].
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, sandbox = %id))]
    pub async fn hold(&self, tx: &Tx, id: SandboxId) -> Result<Sandbox> {
        let sql = self.within(select("s.id = ").bind(id.uuid())).lock(tx, "for share of s");
        from_row(sql.one(tx).await?.ok_or(Error::Missing("sandbox"))?)
    }

    /// Locks a sandbox's row until the transaction ends; waits for whoever holds it. What is read of
    /// it after this, and of its commands, is what they left.
    ///
    /// # Errors
    /// [`Error::Missing`].
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, sandbox = %id))]
    pub async fn lock(&self, tx: &Tx, id: SandboxId) -> Result<()> {
        let sql = Sql::new("select s.id from sandboxes s where s.id = ", []).bind(id.uuid());
        let sql = self.within(sql).lock(tx, "for no key update of s");
        let found: Vec<uuid::Uuid> = sql.column(tx).await?;
        if found.is_empty() { Err(Error::Missing("sandbox")) } else { Ok(()) }
    }

    /// A page of the sandboxes that the filter lets through.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach))]
    pub async fn list(
        &self,
        c: &impl ConnectionTrait,
        filter: &SandboxFilter,
        page: PageRequest,
    ) -> Result<Page<Sandbox>> {
        let Some(sql) = filter.apply(self.within(select("true"))) else {
            return Ok(Page { items: Vec::new(), has_more: false });
        };
        // An organization's are read from an index of its own, everybody's from the primary key.
        let sql = match self.reach {
            Reach::Tenant { .. } => page.apply(sql, "s.id"),
            Reach::Everyone { .. } => page.apply_by_key(sql, "s.id"),
        };
        page.page(sql.all(c).await?, from_row)
    }

    /// How many sandboxes of the organization count against its quota: those of all its projects,
    /// whatever projects the reach is restricted to.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, org = %org))]
    pub async fn count_live(&self, c: &impl ConnectionTrait, org: OrganizationId) -> Result<u64> {
        let sql = Sql::new("select count(*) from sandboxes s where s.org_id = ", []);
        let sql =
            sql.bind(org.uuid()).text(&format!(" and s.phase in {CURRENT} and s.phase in {LIVE}"));
        unsigned(self.reach.by_org(sql, "s.org_id").value(c).await?, "a count")
    }

    /// Writes a new sandbox with its labels; `reconcile_at` is when a worker looks at it first.
    ///
    /// # Errors
    /// [`Error::Missing`] for another organization's or project's.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, sandbox = %sandbox.id))]
    pub async fn insert(
        &self,
        tx: &Tx,
        sandbox: &Sandbox,
        reconcile_at: impl Into<Option<DateTime<Utc>>>,
    ) -> Result<()> {
        self.reach.must_cover(sandbox.org_id, Some(sandbox.project_id))?;
        let labels = sandbox.metadata.as_map();
        Sql::new("insert into sandboxes (", [])
            .text(row::STORED)
            .text(") values ")
            .rows([row::to_row(sandbox, reconcile_at.into())])
            .execute(tx)
            .await?;
        if !labels.is_empty() {
            let (org, id) = (sandbox.org_id.uuid(), sandbox.id.uuid());
            let rows = labels.iter().map(|(key, value)| {
                [org.into(), id.into(), key.as_str().into(), value.as_str().into()]
            });
            let sql = Sql::new(
                "insert into sandbox_metadata (org_id, sandbox_id, key, value) values ",
                [],
            );
            sql.rows(rows).execute(tx).await?;
        }
        Ok(())
    }

    /// Stores the new values of a sandbox whose row still has its generation, and returns it with the
    /// next one. What is frozen at creation is not written; `last_activity_at` and `seen_alive_at`
    /// never go back, because they are also written without counting the generation.
    ///
    /// # Errors
    /// [`Error::Stale`] when somebody else changed the row, or it is not within reach.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, sandbox = %sandbox.id))]
    pub async fn update(
        &self,
        tx: &Tx,
        sandbox: &Sandbox,
        reconcile_at: impl Into<Option<DateTime<Utc>>>,
    ) -> Result<Sandbox> {
        let sql = Sql::new(
            "update sandboxes as s set generation = generation + 1, phase = $3, host = $4,
               ttl_ms = $5, ready_at = $6, expires_at = $7, ended_at = $8, end_reason = $9,
               removed_at = $10, reconcile_at = $11,
               last_activity_at =
                 case when last_activity_at > $12 then last_activity_at else $12 end,
               seen_alive_at = case when seen_alive_at > $13 or $13 is null
                 then seen_alive_at else $13 end
             where s.id = $1 and s.generation = $2",
            [
                sandbox.id.uuid().into(),
                sandbox.generation.into(),
                sandbox.phase.as_str().into(),
                sandbox.host.as_str().into(),
                signed(sandbox.ttl_ms).into(),
                sandbox.ready_at.map(time::micros).into(),
                time::micros(sandbox.expires_at).into(),
                sandbox.ended_at.map(time::micros).into(),
                sandbox.end_reason.map(domain::sandbox::EndReason::as_str).into(),
                sandbox.removed_at.map(time::micros).into(),
                reconcile_at.into().map(time::micros).into(),
                time::micros(sandbox.last_activity_at).into(),
                sandbox.seen_alive_at.map(time::micros).into(),
            ],
        );
        let sql = self.within(sql).text(" returning last_activity_at, seen_alive_at");
        let merged: Merged = sql.one(tx).await?.ok_or(Error::Stale)?;
        let mut stored = row::truncated(sandbox);
        stored.generation += 1;
        stored.last_activity_at = time::instant(merged.last_activity_at)?;
        stored.seen_alive_at = time::optional(merged.seen_alive_at)?;
        Ok(stored)
    }

    /// Notes why a sandbox failed, for operators. No tenant sees it.
    ///
    /// # Errors
    /// [`Error::Missing`].
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, sandbox = %id))]
    pub async fn note_failure(
        &self,
        c: &impl ConnectionTrait,
        id: SandboxId,
        reason: &str,
    ) -> Result<()> {
        let values = [id.uuid().into(), reason.replace('\0', "\u{fffd}").into()];
        let sql = Sql::new("update sandboxes as s set failure = $2 where s.id = $1", values);
        match self.within(sql).execute(c).await? {
            0 => Err(Error::Missing("sandbox")),
            _ => Ok(()),
        }
    }

    /// Why a sandbox failed, for operators.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, sandbox = %id))]
    pub async fn failure(&self, c: &impl ConnectionTrait, id: SandboxId) -> Result<Option<String>> {
        let sql = Sql::new("select s.failure from sandboxes s where s.id = ", []).bind(id.uuid());
        Ok(self.within(sql).column::<Option<String>>(c).await?.pop().flatten())
    }

    /// Notes that a sandbox was used; the generation stays. An earlier instant is dropped.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, sandbox = %id))]
    pub async fn touch_activity(
        &self,
        c: &impl ConnectionTrait,
        id: SandboxId,
        now: DateTime<Utc>,
    ) -> Result<()> {
        let sql = Sql::new(
            "update sandboxes as s set last_activity_at = $2
             where s.id = $1 and s.last_activity_at < $2",
            [id.uuid().into(), time::micros(now).into()],
        );
        self.within(sql).execute(c).await?;
        Ok(())
    }

    fn within(&self, sql: Sql) -> Sql {
        self.reach.by_project(sql, "s.org_id", "s.project_id")
    }
}

#[derive(FromQueryResult)]
struct Merged {
    last_activity_at: i64,
    seen_alive_at: Option<i64>,
}

#[cfg(test)]
mod tests {
    use domain::sandbox::Phase;

    #[test]
    fn the_lists_of_phases_are_those_of_the_domain() {
        let list = |phases: &[Phase]| {
            let words: Vec<_> = phases.iter().map(|p| format!("'{}'", p.as_str())).collect();
            format!("({})", words.join(", "))
        };
        assert_eq!(super::LIVE, list(&Phase::LIVE));
        let current: Vec<_> =
            Phase::ALL.into_iter().filter(|phase| !Phase::FINAL.contains(phase)).collect();
        assert_eq!(super::CURRENT, list(&current));
    }
}
