//! What is being written: noted before the first byte, and closed together with the artifact. Whoever
//! writes has a lease; what has none any more is taken to be swept, and is nobody's from then on.

use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::id::{ArtifactId, OrganizationId};
use migrations::rows::ArtifactWriteRow;
use sea_orm::ConnectionTrait;
use uuid::Uuid;

use super::Artifacts;
use crate::{
    db::{Sql, Tx},
    error::{Error, Result},
    idempotency::RecordId,
    time,
};

/// Who writes, and until when nobody else may sweep.
#[derive(Debug, Clone, Copy)]
pub struct Lease<'a> {
    /// The host of the server that writes.
    pub host: &'a str,
    /// Until when.
    pub until: DateTime<Utc>,
}

/// Something that was begun and is to be swept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The artifact that it would have become.
    pub id: ArtifactId,
    /// Whose.
    pub org_id: OrganizationId,
    /// The unanswered request that it was for.
    pub record: Option<RecordId>,
    /// What the store calls its upload in parts, if it was begun.
    pub upload_id: Option<String>,
    /// Whether it was swept before, so that this is the last time.
    pub is_last: bool,
}

impl Artifacts {
    /// Notes that something is about to be written.
    ///
    /// # Errors
    /// [`Error::Missing`] for another organization's.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, artifact = %id))]
    pub async fn begin_write(
        &self,
        tx: &Tx,
        id: ArtifactId,
        org_id: OrganizationId,
        record: Option<RecordId>,
        lease: Lease<'_>,
    ) -> Result<()> {
        self.reach.must_cover(org_id, None)?;
        Sql::new(
            "insert into artifact_writes (id, org_id, record_id, upload_id, host, lease_until, sweeps)
             values ($1, $2, $3, null, $4, $5, 0)",
            [
                id.uuid().into(),
                org_id.uuid().into(),
                record.map(RecordId::uuid).into(),
                lease.host.into(),
                time::micros(lease.until).into(),
            ],
        )
        .execute(tx)
        .await?;
        Ok(())
    }

    /// Notes what the store calls an upload in parts, before the first part is sent.
    ///
    /// # Errors
    /// [`Error::Stale`] when it is no longer its writer's.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, artifact = %id))]
    pub async fn note_upload(
        &self,
        c: &impl ConnectionTrait,
        id: ArtifactId,
        upload_id: &str,
    ) -> Result<()> {
        let sql = Sql::new(
            "update artifact_writes as w set upload_id = $2 where w.id = $1 and w.sweeps = 0",
            [id.uuid().into(), upload_id.into()],
        );
        match self.reach.by_org(sql, "w.org_id").execute(c).await? {
            0 => Err(Error::Stale),
            _ => Ok(()),
        }
    }

    /// Extends the lease of what is being written.
    ///
    /// # Errors
    /// [`Error::Stale`] when it is no longer its writer's.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, artifact = %id))]
    pub async fn renew_write(
        &self,
        c: &impl ConnectionTrait,
        id: ArtifactId,
        until: DateTime<Utc>,
    ) -> Result<()> {
        let sql = Sql::new(
            "update artifact_writes as w set lease_until = $2 where w.id = $1 and w.sweeps = 0",
            [id.uuid().into(), time::micros(until).into()],
        );
        match self.reach.by_org(sql, "w.org_id").execute(c).await? {
            0 => Err(Error::Stale),
            _ => Ok(()),
        }
    }

    /// Takes something that its writer gives up, to be swept at once, unless it is closed or taken. Its
    /// request is not for whoever sweeps it any more.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, artifact = %id))]
    pub async fn give_up_write(
        &self,
        c: &impl ConnectionTrait,
        id: ArtifactId,
        until: DateTime<Utc>,
    ) -> Result<Option<Write>> {
        let sql = Sql::new(
            "update artifact_writes as w set sweeps = 1, lease_until = $2, record_id = null
             where w.id = $1 and w.sweeps = 0",
            [id.uuid().into(), time::micros(until).into()],
        );
        let sql = self.reach.by_org(sql, "w.org_id");
        let sql = sql.text(" returning id, org_id, record_id, upload_id, sweeps");
        Ok(sql.one(c).await?.map(from_row))
    }

    /// Takes the request away from a write that somebody else has taken to sweep, so that its writer may
    /// begin again; false = it is closed or forgotten.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, artifact = %id))]
    pub async fn disown_write(&self, tx: &Tx, id: ArtifactId) -> Result<bool> {
        let sql = Sql::new(
            "update artifact_writes as w set record_id = null where w.sweeps > 0 and w.id = ",
            [],
        );
        Ok(self.reach.by_org(sql.bind(id.uuid()), "w.org_id").execute(tx).await? == 1)
    }

    /// Forgets what was swept.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, artifact = %id))]
    pub async fn forget_write(&self, tx: &Tx, id: ArtifactId) -> Result<()> {
        let sql = Sql::new("delete from artifact_writes as w where w.sweeps > 0 and w.id = ", []);
        self.reach.by_org(sql.bind(id.uuid()), "w.org_id").execute(tx).await?;
        Ok(())
    }
}

/// Takes up to `limit` writes whose lease ran out before `now`, for `lease`: then whoever sweeps them
/// is taken for dead, too. Who wrote them cannot close them any more.
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all)]
pub async fn claim_writes(
    c: &impl ConnectionTrait,
    now: DateTime<Utc>,
    lease: Duration,
    limit: u32,
) -> Result<Vec<Write>> {
    let sql = Sql::new(
        "with lost as materialized (select w.id from artifact_writes w where w.lease_until <= $1
           order by w.lease_until limit ",
        [time::micros(now).into()],
    );
    let claimed: Vec<Uuid> = sql
        .bind(i64::from(limit))
        .lock(c, "for no key update skip locked")
        .text(") update artifact_writes set sweeps = sweeps + 1, lease_until = ")
        .bind(time::micros(now + lease))
        .text(" where id in (select id from lost) returning id")
        .column(c)
        .await?;
    let sql = Sql::new(
        "select id, org_id, record_id, upload_id, sweeps from artifact_writes where id in ",
        [],
    );
    let rows: Vec<ArtifactWriteRow> = sql.list(claimed).text(" order by id").all(c).await?;
    Ok(rows.into_iter().map(from_row).collect())
}

/// Ends the leases of what a host's last server was writing when it died.
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all, fields(host))]
pub async fn take_over_writes(
    c: &impl ConnectionTrait,
    host: &str,
    now: DateTime<Utc>,
) -> Result<u64> {
    let values = [host.into(), time::micros(now).into()];
    Sql::new("update artifact_writes set lease_until = $2 where host = $1 and sweeps = 0", values)
        .execute(c)
        .await
}

/// Closes what is written: it becomes an artifact in the same transaction.
pub(super) async fn close(tx: &Tx, id: ArtifactId) -> Result<()> {
    let sql = Sql::new("delete from artifact_writes where sweeps = 0 and id = ", []);
    match sql.bind(id.uuid()).execute(tx).await? {
        0 => Err(Error::Stale),
        _ => Ok(()),
    }
}

fn from_row(row: ArtifactWriteRow) -> Write {
    Write {
        id: ArtifactId::from_uuid(row.id),
        org_id: OrganizationId::from_uuid(row.org_id),
        record: row.record_id.map(RecordId::from_uuid),
        upload_id: row.upload_id,
        is_last: row.sweeps > 1,
    }
}
