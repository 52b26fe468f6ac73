//! Queries of users. Every one names the organization.

use domain::{
    id::{OrganizationId, UserId},
    organization::User,
};
use migrations::rows::UserRow;
use sea_orm::ConnectionTrait;

use crate::{
    db::Sql,
    error::{Error, Result},
    time,
};

const SELECT: &str = "select id, org_id, email, created_at from users where org_id = $1 and ";

/// The user.
///
/// # Errors
/// [`Error::Missing`].
#[tracing::instrument(level = "debug", skip_all, fields(org = %org, user = %id))]
pub async fn get(c: &impl ConnectionTrait, org: OrganizationId, id: UserId) -> Result<User> {
    let row = Sql::new(SELECT, [org.uuid().into()]).text("id = ").bind(id.uuid()).one(c).await?;
    from_row(row.ok_or(Error::Missing("user"))?)
}

/// The user with this address.
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all, fields(org = %org))]
pub async fn find_by_email(
    c: &impl ConnectionTrait,
    org: OrganizationId,
    email: &str,
) -> Result<Option<User>> {
    let row = Sql::new(SELECT, [org.uuid().into()]).text("email = ").bind(email).one(c).await?;
    row.map(from_row).transpose()
}

/// Writes a new user.
///
/// # Errors
/// [`Error::Taken`] with `users_email_key`.
#[tracing::instrument(level = "debug", skip_all, fields(org = %user.org_id, user = %user.id))]
pub async fn insert(c: &impl ConnectionTrait, user: &User) -> Result<()> {
    Sql::new(
        "insert into users (id, org_id, email, created_at) values ($1, $2, $3, $4)",
        [
            user.id.uuid().into(),
            user.org_id.uuid().into(),
            user.email.as_str().into(),
            time::micros(user.created_at).into(),
        ],
    )
    .execute(c)
    .await?;
    Ok(())
}

fn from_row(row: UserRow) -> Result<User> {
    Ok(User {
        id: UserId::from_uuid(row.id),
        org_id: OrganizationId::from_uuid(row.org_id),
        email: row.email,
        created_at: time::instant(row.created_at)?,
    })
}
