//! Queries of idempotency records: what was answered to a request that may come again. What counts
//! as the same request is decided by the caller.

use chrono::{DateTime, Utc};
use domain::id::{AdminKeyId, ApiKeyId, CommandId, Id, Named, OrganizationId};
use migrations::rows::IdempotencyRow;
use sea_orm::{ConnectionTrait, Value};
use uuid::Uuid;

use crate::{
    db::{Sql, Tx},
    error::{Error, Result},
    time,
};

/// Whose request it is. Nobody gets an answer that was given to another credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// A key of an organization.
    Tenant(OrganizationId, ApiKeyId),
    /// An operator's key, of no organization.
    Operator(AdminKeyId),
}

/// What a record is found by (contract, section 5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyScope {
    /// The credential, and the organization if it belongs to one.
    pub asker: Asker,
    /// The HTTP method.
    pub method: String,
    /// The path with its ids.
    pub path: String,
    /// What the client sent.
    pub key: String,
}

/// A stored record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its id.
    pub id: RecordId,
    /// Of the request it was made for.
    pub fingerprint: String,
    /// The command that the request runs, if it runs one.
    pub command_id: Option<CommandId>,
    /// Status and body of the answer; `None` while the request is executing.
    pub outcome: Option<(u16, Vec<u8>)>,
    /// When the request came first.
    pub created_at: DateTime<Utc>,
    /// From when on the key is as good as new. A reader must look: expired records stay for a while.
    pub expires_at: DateTime<Utc>,
}

impl Named for Record {
    const PREFIX: &'static str = "idm";
}
/// An id of a record.
pub type RecordId = Id<Record>;

/// A record to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRecord {
    /// Its id.
    pub id: RecordId,
    /// What it is found by.
    pub scope: IdempotencyScope,
    /// Of the request.
    pub fingerprint: String,
    /// The command that the request runs, if it runs one.
    pub command_id: Option<CommandId>,
    /// Status and body of the answer, if it is known already.
    pub outcome: Option<(u16, Vec<u8>)>,
    /// Now.
    pub created_at: DateTime<Utc>,
    /// From when on the key is as good as new.
    pub expires_at: DateTime<Utc>,
}

impl IdempotencyScope {
    fn values(&self) -> [Value; 5] {
        let (org, key) = match self.asker {
            Asker::Tenant(org, key) => (org.uuid(), key.uuid()),
            Asker::Operator(key) => (Uuid::nil(), key.uuid()),
        };
        [
            org.into(),
            key.into(),
            self.method.as_str().into(),
            self.path.as_str().into(),
            self.key.as_str().into(),
        ]
    }
}

/// The record of this scope, expired or not.
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all)]
pub async fn find(c: &impl ConnectionTrait, scope: &IdempotencyScope) -> Result<Option<Record>> {
    let sql = Sql::new(
        "select id, fingerprint, command_id, status, body, created_at, expires_at
         from idempotency_records
         where org_id = $1 and key_id = $2 and method = $3 and path = $4 and idempotency_key = $5",
        scope.values(),
    );
    sql.one(c).await?.map(from_row).transpose()
}

/// Writes a record, or says that there is one already. An expired one is replaced.
/// On PostgreSQL it waits for a transaction that is writing the same, so only one is ever told true.
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all)]
pub async fn insert(tx: &Tx, record: &NewRecord) -> Result<bool> {
    let (status, body) = record.outcome.as_ref().map(|(s, b)| (i64::from(*s), b.clone())).unzip();
    let sql = Sql::new(
        "insert into idempotency_records (org_id, key_id, method, path, idempotency_key,
           id, fingerprint, command_id, status, body, created_at, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
         on conflict (org_id, key_id, method, path, idempotency_key) do update
           set id = excluded.id, fingerprint = excluded.fingerprint,
             command_id = excluded.command_id, status = excluded.status, body = excluded.body,
             created_at = excluded.created_at, expires_at = excluded.expires_at
           where idempotency_records.expires_at <= excluded.created_at",
        record.scope.values().into_iter().chain([
            record.id.uuid().into(),
            record.fingerprint.as_str().into(),
            record.command_id.map(Id::uuid).into(),
            status.into(),
            body.into(),
            time::micros(record.created_at).into(),
            time::micros(record.expires_at).into(),
        ]),
    );
    Ok(sql.execute(tx).await? == 1)
}

/// Stores the answer of a record that has none.
///
/// # Errors
/// [`Error::Stale`] when it has one, was replaced after its expiry, or is gone.
#[tracing::instrument(level = "debug", skip_all, fields(record = %id, status))]
pub async fn finish(tx: &Tx, id: RecordId, status: u16, body: &[u8]) -> Result<()> {
    let sql = Sql::new(
        "update idempotency_records set status = $2, body = $3 where id = $1 and status is null",
        [id.uuid().into(), i64::from(status).into(), body.to_vec().into()],
    );
    if sql.execute(tx).await? == 1 { Ok(()) } else { Err(Error::Stale) }
}

/// Removes a record, so that the request may come again. Removed twice, it is gone.
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all, fields(record = %id))]
pub async fn remove(tx: &Tx, id: RecordId) -> Result<()> {
    let sql = Sql::new("delete from idempotency_records where id = $1", [id.uuid().into()]);
    sql.execute(tx).await?;
    Ok(())
}

/// Removes up to `limit` records that have expired and says how many it removed.
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all)]
pub async fn purge(c: &impl ConnectionTrait, now: DateTime<Utc>, limit: u32) -> Result<u64> {
    Sql::new(
        "with expired as materialized (
           select id from idempotency_records where expires_at <= $1 order by expires_at limit $2",
        [time::micros(now).into(), i64::from(limit).into()],
    )
    .lock(c, "for update skip locked")
    .text(") delete from idempotency_records where id in (select id from expired)")
    .execute(c)
    .await
}

fn from_row(row: IdempotencyRow) -> Result<Record> {
    let outcome = match (row.status, row.body) {
        (Some(status), Some(body)) => {
            let status = u16::try_from(status).map_err(|_| {
                Error::Corrupt(format!("the stored status of a request is {status}"))
            })?;
            Some((status, body))
        }
        (None, None) => None,
        _ => return Err(Error::Corrupt("an outcome has only half its parts".to_owned())),
    };
    Ok(Record {
        id: RecordId::from_uuid(row.id),
        fingerprint: row.fingerprint,
        command_id: row.command_id.map(CommandId::from_uuid),
        outcome,
        created_at: time::instant(row.created_at)?,
        expires_at: time::instant(row.expires_at)?,
    })
}
