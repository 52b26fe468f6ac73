//! Queries of organizations. Not behind a reach: only sign-in, administration and the locks of use
//! cases that already know their caller's organization come here.

use chrono::{DateTime, Utc};
use domain::{id::OrganizationId, limits::Plan, organization::Organization};
use migrations::rows::OrganizationRow;
use sea_orm::ConnectionTrait;

use crate::{
    db::{Sql, Tx},
    error::{Error, Result},
    time,
};

const SELECT: &str = "select id, name, plan, suspended_at, created_at from organizations where ";

/// The organization.
///
/// # Errors
/// [`Error::Missing`].
#[tracing::instrument(level = "debug", skip_all, fields(org = %id))]
pub async fn get(c: &impl ConnectionTrait, id: OrganizationId) -> Result<Organization> {
    let row = Sql::new(SELECT, []).text("id = ").bind(id.uuid()).one(c).await?;
    from_row(row.ok_or(Error::Missing("organization"))?)
}

/// The organization of this name.
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all)]
pub async fn find_by_name(c: &impl ConnectionTrait, name: &str) -> Result<Option<Organization>> {
    let row = Sql::new(SELECT, []).text("name = ").bind(name).one(c).await?;
    row.map(from_row).transpose()
}

/// All organizations, newest first.
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all)]
pub async fn list(
    c: &impl ConnectionTrait,
    page: crate::PageRequest,
) -> Result<crate::Page<Organization>> {
    let rows = page.apply(Sql::new(SELECT, []).text("true"), "id").all(c).await?;
    page.page(rows, from_row)
}

/// The organization, locked until the transaction ends: whoever counts against its quota does so
/// alone. Rows that point at it may still be written.
///
/// # Errors
/// [`Error::Missing`].
#[tracing::instrument(level = "debug", skip_all, fields(org = %id))]
pub async fn lock(tx: &Tx, id: OrganizationId) -> Result<Organization> {
    let sql = Sql::new(SELECT, []).text("id = ").bind(id.uuid());
    let row = sql.lock(tx, "for no key update").one(tx).await?;
    from_row(row.ok_or(Error::Missing("organization"))?)
}

/// Writes a new organization.
///
/// # Errors
/// [`Error::Taken`] with `organizations_name_key`.
#[tracing::instrument(level = "debug", skip_all, fields(org = %organization.id))]
pub async fn insert(c: &impl ConnectionTrait, organization: &Organization) -> Result<()> {
    Sql::new(
        "insert into organizations (id, name, plan, suspended_at, created_at)
         values ($1, $2, $3, $4, $5)",
        [
            organization.id.uuid().into(),
            organization.name.as_str().into(),
            organization.plan.as_str().into(),
            organization.suspended_at.map(time::micros).into(),
            time::micros(organization.created_at).into(),
        ],
    )
    .execute(c)
    .await?;
    Ok(())
}

/// Sets the plan.
///
/// # Errors
/// [`Error::Missing`].
#[tracing::instrument(level = "debug", skip_all, fields(org = %id))]
pub async fn set_plan(c: &impl ConnectionTrait, id: OrganizationId, plan: Plan) -> Result<()> {
    let values = [id.uuid().into(), plan.as_str().into()];
    one(Sql::new("update organizations set plan = $2 where id = $1", values).execute(c).await?)
}

/// Suspends the organization, or ends that.
///
/// # Errors
/// [`Error::Missing`].
#[tracing::instrument(level = "debug", skip_all, fields(org = %id))]
pub async fn set_suspended(
    c: &impl ConnectionTrait,
    id: OrganizationId,
    suspended_at: Option<DateTime<Utc>>,
) -> Result<()> {
    let values = [id.uuid().into(), suspended_at.map(time::micros).into()];
    let sql = Sql::new("update organizations set suspended_at = $2 where id = $1", values);
    one(sql.execute(c).await?)
}

const fn one(rows: u64) -> Result<()> {
    if rows == 1 { Ok(()) } else { Err(Error::Missing("organization")) }
}

pub(super) fn from_row(row: OrganizationRow) -> Result<Organization> {
    Ok(Organization {
        id: OrganizationId::from_uuid(row.id),
        name: row.name,
        // A name that this version does not know must never open more than the smallest plan.
        plan: row.plan.parse().unwrap_or(Plan::Free),
        suspended_at: time::optional(row.suspended_at)?,
        created_at: time::instant(row.created_at)?,
    })
}
