//! Queries of operators' keys. Not behind a reach: they are no tenant's. The hash of a secret is read by
//! the look-up for sign-in only.

use chrono::{DateTime, Utc};
use domain::{admin::AdminKey, id::AdminKeyId};
use migrations::rows::AdminKeyRow;
use sea_orm::{ConnectionTrait, FromQueryResult, QueryResult};

use crate::{
    Page, PageRequest,
    db::{Sql, Tx, word},
    error::{Error, Result},
    last_use, time,
};

/// What sign-in needs of an admin key.
#[derive(Clone)]
pub struct Credential {
    /// The key.
    pub key: AdminKey,
    /// The hash of its secret.
    pub secret_hash: String,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("key", &self.key.id).finish_non_exhaustive()
    }
}

/// The key with this look-up part, revoked or not. One query.
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all)]
pub async fn by_lookup(c: &impl ConnectionTrait, lookup: &str) -> Result<Option<Credential>> {
    let sql = Sql::new("select ", []).text(COLUMNS).text(", k.secret_hash from admin_keys k");
    let row = sql.text(" where k.lookup = ").bind(lookup).one::<KeyAndHash>(c).await?;
    row.map(|KeyAndHash(key, secret_hash)| Ok(Credential { key: from_row(key)?, secret_hash }))
        .transpose()
}

/// Writes when keys were last used, many at a time.
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all, fields(keys = used.len()))]
pub async fn touch(c: &impl ConnectionTrait, used: &[(AdminKeyId, DateTime<Utc>)]) -> Result<()> {
    last_use::write(c, "admin_keys", used).await
}

/// The key.
///
/// # Errors
/// [`Error::Missing`].
#[tracing::instrument(level = "debug", skip_all, fields(key = %id))]
pub async fn get(c: &impl ConnectionTrait, id: AdminKeyId) -> Result<AdminKey> {
    let row = select().text("k.id = ").bind(id.uuid()).one(c).await?;
    from_row(row.ok_or(Error::Missing("admin key"))?)
}

/// A page of keys, revoked ones too.
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all)]
pub async fn list(c: &impl ConnectionTrait, page: PageRequest) -> Result<Page<AdminKey>> {
    page.page(page.apply(select().text("true"), "k.id").all(c).await?, from_row)
}

/// Writes a new key.
///
/// # Errors
/// [`Error::Taken`] with `admin_keys_lookup_key`.
#[tracing::instrument(level = "debug", skip_all, fields(key = %key.id))]
pub async fn insert(tx: &Tx, key: &AdminKey, secret_hash: &str) -> Result<()> {
    Sql::new(
        "insert into admin_keys (id, name, lookup, secret_hash, last_four, role, created_by,
           created_at, revoked_at, last_used_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        [
            key.id.uuid().into(),
            key.name.as_str().into(),
            key.lookup.as_str().into(),
            secret_hash.into(),
            key.last_four.as_str().into(),
            key.role.as_str().into(),
            key.created_by.map(AdminKeyId::uuid).into(),
            time::micros(key.created_at).into(),
            key.revoked_at.map(time::micros).into(),
            key.last_used_at.map(time::micros).into(),
        ],
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Revokes a key and says how many were not before: 1, or 0 for one that was or that does not exist.
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all, fields(key = %id))]
pub async fn revoke(tx: &Tx, id: AdminKeyId, now: DateTime<Utc>) -> Result<u64> {
    let sql = Sql::new(
        "update admin_keys set revoked_at = $2 where id = $1 and revoked_at is null",
        [id.uuid().into(), time::micros(now).into()],
    );
    sql.execute(tx).await
}

const COLUMNS: &str = "k.id, k.name, k.lookup, k.last_four, k.role, k.created_by, k.created_at, \
     k.revoked_at, k.last_used_at";

fn select() -> Sql {
    Sql::new("select ", []).text(COLUMNS).text(" from admin_keys k where ")
}

struct KeyAndHash(AdminKeyRow, String);

impl FromQueryResult for KeyAndHash {
    fn from_query_result(
        row: &QueryResult,
        prefix: &str,
    ) -> std::result::Result<Self, sea_orm::DbErr> {
        Ok(Self(AdminKeyRow::from_query_result(row, prefix)?, row.try_get(prefix, "secret_hash")?))
    }
}

fn from_row(row: AdminKeyRow) -> Result<AdminKey> {
    Ok(AdminKey {
        id: AdminKeyId::from_uuid(row.id),
        name: row.name,
        lookup: row.lookup,
        last_four: row.last_four,
        role: word(&row.role, "an admin key's role")?,
        created_by: row.created_by.map(AdminKeyId::from_uuid),
        created_at: time::instant(row.created_at)?,
        revoked_at: time::optional(row.revoked_at)?,
        last_used_at: time::optional(row.last_used_at)?,
    })
}
