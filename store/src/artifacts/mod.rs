//! Queries of artifacts: reads, then writes. What is being written is beside this file. Where bytes are
//! and how they get there is the caller's.

mod row;
mod writing;

use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::{
    artifact::Artifact,
    id::{ArtifactId, CommandId, SandboxId},
};
use sea_orm::ConnectionTrait;
use uuid::Uuid;

use crate::{
    Page, PageRequest, Reach,
    db::{Sql, Tx},
    error::{Error, Result},
    time,
};
use row::{from_row, select};
pub use writing::{Lease, Write, claim_writes, take_over_writes};

/// The artifacts within reach.
#[must_use]
pub const fn artifacts(reach: Reach) -> Artifacts {
    Artifacts { reach }
}

/// The artifacts within a reach.
#[derive(Debug, Clone)]
pub struct Artifacts {
    reach: Reach,
}

/// A collected artifact's command, and its place in what that was asked for.
pub type Collected = (CommandId, u32);

impl Artifacts {
    /// The artifact, if it is still there.
    ///
    /// # Errors
    /// [`Error::Missing`], also for what was deleted or is past its retention.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, artifact = %id))]
    pub async fn get(
        &self,
        c: &impl ConnectionTrait,
        id: ArtifactId,
        now: DateTime<Utc>,
    ) -> Result<Artifact> {
        let sql = there(select("a.id = ").bind(id.uuid()), now);
        from_row(self.within(sql).one(c).await?.ok_or(Error::Missing("artifact"))?)
    }

    /// A page of a sandbox's artifacts that are still there.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, sandbox = %sandbox_id))]
    pub async fn list(
        &self,
        c: &impl ConnectionTrait,
        sandbox_id: SandboxId,
        page: PageRequest,
        now: DateTime<Utc>,
    ) -> Result<Page<Artifact>> {
        let sql = there(select("a.sandbox_id = ").bind(sandbox_id.uuid()), now);
        page.page(page.apply(self.within(sql), "a.id").all(c).await?, from_row)
    }

    /// Which of the files that a command was asked for are artifacts already, deleted or not.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, command = %id))]
    pub async fn collected_of(&self, c: &impl ConnectionTrait, id: CommandId) -> Result<Vec<u32>> {
        let sql = Sql::new("select a.collect_index from artifacts a where a.command_id = ", []);
        let places: Vec<i64> = self.within(sql.bind(id.uuid())).column(c).await?;
        let place = |place: i64| {
            u32::try_from(place).map_err(|_| Error::Corrupt(format!("collect_index is {place}")))
        };
        places.into_iter().map(place).collect()
    }

    /// Makes what was written an artifact.
    ///
    /// # Errors
    /// [`Error::Stale`] when it is no longer its writer's, [`Error::Taken`] when the same file of the
    /// same command is one already, [`Error::Missing`] for another organization's or project's.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, artifact = %artifact.id))]
    pub async fn insert(
        &self,
        tx: &Tx,
        artifact: &Artifact,
        collected: Option<Collected>,
    ) -> Result<()> {
        self.reach.must_cover(artifact.org_id, Some(artifact.project_id))?;
        writing::close(tx, artifact.id).await?;
        Sql::new("insert into artifacts (", [])
            .text(row::STORED)
            .text(") values ")
            .rows([row::to_row(artifact, collected)])
            .execute(tx)
            .await?;
        Ok(())
    }

    /// Deletes an artifact; its bytes are to go from then on. Returns its tombstone.
    ///
    /// # Errors
    /// [`Error::Missing`] when it is not there, or no longer.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, artifact = %id))]
    pub async fn delete(&self, tx: &Tx, id: ArtifactId, now: DateTime<Utc>) -> Result<Artifact> {
        let sql = Sql::new(
            "update artifacts as a set deleted_at = $2, remove_at = $2 where a.id = $1",
            [id.uuid().into(), time::micros(now).into()],
        );
        if self.within(there(sql, now)).execute(tx).await? == 0 {
            return Err(Error::Missing("artifact"));
        }
        let row = self.within(select("a.id = ").bind(id.uuid())).one(tx).await?;
        from_row(row.ok_or(Error::Missing("artifact"))?)
    }

    /// Takes up to `limit` artifacts whose bytes are to go, for `lease`: then they are looked at again.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach))]
    pub async fn claim_removals(
        &self,
        c: &impl ConnectionTrait,
        now: DateTime<Utc>,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<Artifact>> {
        let sql = Sql::new(
            "with due as materialized (select a.id from artifacts a where a.remove_at <= $1",
            [time::micros(now).into()],
        );
        let claimed: Vec<Uuid> = self
            .within(sql)
            .text(" order by a.remove_at limit ")
            .bind(i64::from(limit))
            .lock(c, "for no key update skip locked")
            .text(") update artifacts set remove_at = ")
            .bind(time::micros(now + lease))
            .text(" where id in (select id from due) returning id")
            .column(c)
            .await?;
        if claimed.is_empty() {
            return Ok(Vec::new());
        }
        let rows = select("a.id in ").list(claimed).text(" order by a.id").all(c).await?;
        rows.into_iter().map(from_row).collect()
    }

    /// Notes that the bytes are gone.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, artifact = %id))]
    pub async fn note_removal(&self, c: &impl ConnectionTrait, id: ArtifactId) -> Result<()> {
        let sql = Sql::new("update artifacts as a set remove_at = null where a.id = ", []);
        self.within(sql.bind(id.uuid())).execute(c).await?;
        Ok(())
    }

    fn within(&self, sql: Sql) -> Sql {
        self.reach.by_project(sql, "a.org_id", "a.project_id")
    }
}

/// Only what was not deleted and is not past its retention.
fn there(sql: Sql, now: DateTime<Utc>) -> Sql {
    sql.text(" and a.deleted_at is null and a.retention_expires_at > ").bind(time::micros(now))
}
