//! Queries of the keys that capability URLs are signed with. They belong to the installation, not to
//! a tenant.

use chrono::{DateTime, Utc};
use domain::id::SigningKeyId;
use migrations::rows::SigningKeyRow;
use sea_orm::ConnectionTrait;

use crate::{db::Sql, error::Result, time};

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

fn from_row(row: SigningKeyRow) -> Result<SigningKey> {
    Ok(SigningKey {
        id: SigningKeyId::from_uuid(row.id),
        secret: row.secret,
        created_at: time::instant(row.created_at)?,
        retired_at: time::optional(row.retired_at)?,
    })
}
