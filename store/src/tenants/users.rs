//! Queries of users. Every one names the organization.

use domain::{
    id::{OrganizationId, UserId},
    organization::User,
};
use migrations::rows::UserRow;
use sea_orm::ConnectionTrait;

use crate::{
    Page, PageRequest,
    db::{Sql, word},
    error::{Error, Result},
    time,
};

const SELECT: &str =
    "select id, org_id, email, role, created_at, removed_at from users where org_id = $1 and ";

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
        "insert into users (id, org_id, email, role, created_at, removed_at)
         values ($1, $2, $3, $4, $5, $6)",
        [
            user.id.uuid().into(),
            user.org_id.uuid().into(),
            user.email.as_str().into(),
            user.role.as_str().into(),
            time::micros(user.created_at).into(),
            user.removed_at.map(time::micros).into(),
        ],
    )
    .execute(c)
    .await?;
    Ok(())
}

/// A page of the people who are in the organization, newest first.
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all, fields(org = %org))]
pub async fn list(
    c: &impl ConnectionTrait,
    org: OrganizationId,
    page: PageRequest,
) -> Result<Page<User>> {
    let sql = Sql::new(SELECT, [org.uuid().into()]).text("removed_at is null");
    page.page(page.apply(sql, "id").all(c).await?, from_row)
}

/// Who has been in the organization for longest.
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all, fields(org = %org))]
pub async fn find_first(c: &impl ConnectionTrait, org: OrganizationId) -> Result<Option<User>> {
    let sql = Sql::new(SELECT, [org.uuid().into()]);
    let row = sql.text("removed_at is null order by id limit 1").one(c).await?;
    row.map(from_row).transpose()
}

/// Sets what a user is there for, and whether they are there.
///
/// # Errors
/// [`Error::Missing`].
#[tracing::instrument(level = "debug", skip_all, fields(org = %user.org_id, user = %user.id))]
pub async fn update(c: &impl ConnectionTrait, user: &User) -> Result<()> {
    let values = [
        user.org_id.uuid().into(),
        user.id.uuid().into(),
        user.role.as_str().into(),
        user.removed_at.map(time::micros).into(),
    ];
    let text = "update users set role = $3, removed_at = $4 where org_id = $1 and id = $2";
    let n = Sql::new(text, values).execute(c).await?;
    if n == 1 { Ok(()) } else { Err(Error::Missing("user")) }
}

fn from_row(row: UserRow) -> Result<User> {
    Ok(User {
        id: UserId::from_uuid(row.id),
        org_id: OrganizationId::from_uuid(row.org_id),
        email: row.email,
        role: word(&row.role, "a user's role")?,
        created_at: time::instant(row.created_at)?,
        removed_at: time::optional(row.removed_at)?,
    })
}
