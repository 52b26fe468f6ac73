//! Queries of the keys that capability URLs are signed with. They belong to the installation, not to
//! a tenant.

use chrono::{DateTime, Utc};
use domain::id::SigningKeyId;
use migrations::rows::SigningKeyRow;
use sea_orm::ConnectionTrait;

use crate::{
    db::{Db, Sql},
    error::{Error, Result},
    time,
};

/// The secret bytes of a signing key.
pub type Secret = [u8; 32];

const SELECT: &str = "select id, secret from signing_keys where ";

/// The newest key that is not retired.
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all)]
pub async fn current(c: &impl ConnectionTrait) -> Result<Option<(SigningKeyId, Secret)>> {
    let sql = Sql::new(SELECT, []).text("retired_at is null order by id desc limit 1");
    sql.one(c).await?.map(from_row).transpose()
}

/// The newest key that is not retired, or else this one, which is written then. Two processes that
/// do so at the same time may write one each; both verify, and soon both sign with the newer.
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all)]
pub async fn current_or_insert(
    db: &Db,
    id: SigningKeyId,
    secret: Secret,
    now: DateTime<Utc>,
) -> Result<(SigningKeyId, Secret)> {
    if let Some(current) = current(db.read()).await? {
        return Ok(current);
    }
    insert(db.read_write(), id, secret, now).await?;
    Ok((id, secret))
}

/// The secret of a key, retired or not.
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all, fields(signing_key = %id))]
pub async fn get(c: &impl ConnectionTrait, id: SigningKeyId) -> Result<Option<Secret>> {
    let row = Sql::new(SELECT, []).text("id = ").bind(id.uuid()).one(c).await?;
    Ok(row.map(from_row).transpose()?.map(|(_, secret)| secret))
}

/// Writes a new key.
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all, fields(signing_key = %id))]
pub async fn insert(
    c: &impl ConnectionTrait,
    id: SigningKeyId,
    secret: Secret,
    now: DateTime<Utc>,
) -> Result<()> {
    Sql::new(
        "insert into signing_keys (id, secret, created_at, retired_at) values ($1, $2, $3, null)",
        [id.uuid().into(), secret.to_vec().into(), time::micros(now).into()],
    )
    .execute(c)
    .await?;
    Ok(())
}

/// Stops signing with a key; it still verifies. Retired twice, it keeps its first instant.
///
/// # Errors
/// [`Error::Missing`].
#[tracing::instrument(level = "debug", skip_all, fields(signing_key = %id))]
pub async fn retire(c: &impl ConnectionTrait, id: SigningKeyId, now: DateTime<Utc>) -> Result<()> {
    let sql = Sql::new(
        "update signing_keys set retired_at = coalesce(retired_at, $2) where id = $1",
        [id.uuid().into(), time::micros(now).into()],
    );
    if sql.execute(c).await? == 1 { Ok(()) } else { Err(Error::Missing("signing key")) }
}

fn from_row(row: SigningKeyRow) -> Result<(SigningKeyId, Secret)> {
    let id = SigningKeyId::from_uuid(row.id);
    let length = row.secret.len();
    let secret = Secret::try_from(row.secret)
        .map_err(|_| Error::Corrupt(format!("the secret of {id} has {length} bytes")))?;
    Ok((id, secret))
}
