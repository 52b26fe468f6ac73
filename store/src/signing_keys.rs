//! Queries of the keys that capability URLs are signed with. They belong to the installation, not to
//! a tenant.

use chrono::{DateTime, Utc};
use domain::id::SigningKeyId;
use migrations::rows::SigningKeyRow;
use sea_orm::ConnectionTrait;

use crate::{
    db::{Sql, Tx},
    error::Result,
    time,
};

/// A signing key. Its `Debug` does not print the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey {
    /// Its id, which goes into what it signs.
    pub id: SigningKeyId,
    /// The secret bytes.
    pub secret: Vec<u8>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it stopped signing; it may still verify.
    pub retired_at: Option<DateTime<Utc>>,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.id).finish_non_exhaustive()
    }
}

const SELECT: &str = "select id, secret, created_at, retired_at from signing_keys where ";

/// The newest key that is not retired.
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all)]
pub async fn current(c: &impl ConnectionTrait) -> Result<Option<SigningKey>> {
    let sql = Sql::new(SELECT, []).text("retired_at is null order by id desc limit 1");
    sql.one(c).await?.map(from_row).transpose()
}

/// The key with this id, retired or not.
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all, fields(signing_key = %id))]
pub async fn get(c: &impl ConnectionTrait, id: SigningKeyId) -> Result<Option<SigningKey>> {
    Sql::new(SELECT, []).text("id = ").bind(id.uuid()).one(c).await?.map(from_row).transpose()
}

/// Writes a new key.
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all, fields(signing_key = %key.id))]
pub async fn insert(c: &impl ConnectionTrait, key: &SigningKey) -> Result<()> {
    Sql::new(
        "insert into signing_keys (id, secret, created_at, retired_at) values ($1, $2, $3, $4)",
        [
            key.id.uuid().into(),
            key.secret.clone().into(),
            time::micros(key.created_at).into(),
            key.retired_at.map(time::micros).into(),
        ],
    )
    .execute(c)
    .await?;
    Ok(())
}

/// Every key, newest first.
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all)]
pub async fn list(c: &impl ConnectionTrait) -> Result<Vec<SigningKey>> {
    let rows = Sql::new(SELECT, []).text("true order by id desc").all(c).await?;
    rows.into_iter().map(from_row).collect()
}

/// Retires every key but one and says how many that were: they sign nothing more.
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all, fields(signing_key = %but))]
pub async fn retire(tx: &Tx, but: SigningKeyId, now: DateTime<Utc>) -> Result<u64> {
    let values = [but.uuid().into(), time::micros(now).into()];
    let text = "update signing_keys set retired_at = $2 where id <> $1 and retired_at is null";
    Sql::new(text, values).execute(tx).await
}

/// Removes the keys that were retired before an instant, and says how many that were.
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all)]
pub async fn purge(c: &impl ConnectionTrait, retired_before: DateTime<Utc>) -> Result<u64> {
    let text = "delete from signing_keys where retired_at < ";
    Sql::new(text, []).bind(time::micros(retired_before)).execute(c).await
}

/// Removes every key but one: what they signed opens nothing more.
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all, fields(signing_key = %but))]
pub async fn remove(tx: &Tx, but: SigningKeyId) -> Result<u64> {
    Sql::new("delete from signing_keys where id <> ", []).bind(but.uuid()).execute(tx).await
}

fn from_row(row: SigningKeyRow) -> Result<SigningKey> {
    Ok(SigningKey {
        id: SigningKeyId::from_uuid(row.id),
        secret: row.secret,
        created_at: time::instant(row.created_at)?,
        retired_at: time::optional(row.retired_at)?,
    })
}
