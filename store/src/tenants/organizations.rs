//! Queries of organizations. Not behind a reach: only sign-in, administration and the locks of use
//! cases that already know their caller's organization come here.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use domain::{
    id::OrganizationId,
    limits::Plan,
    organization::{Organization, Standing},
};
use migrations::rows::OrganizationRow;
use sea_orm::{ConnectionTrait, FromQueryResult, QueryResult};

use crate::{
    db::{Sql, Tx},
    error::{Error, Result},
    time,
};

const SELECT: &str = "select id, name, plan, next_plan, next_plan_at, limit_overrides, standing, \
     standing_since, standing_reason, cleanup_at, created_at from organizations where ";

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

/// From when on an organization may begin nothing new, and the error code that says why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// The instant; it may lie ahead.
    pub at: DateTime<Utc>,
    /// `credit_exhausted` or `billing_spend_cap_reached`.
    pub code: String,
}

/// An organization whose row is locked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locked {
    /// The organization.
    pub organization: Organization,
    /// What its billing account says.
    pub stop: Option<Stop>,
}

/// The organization, locked until the transaction ends: whoever counts against its quota does so
/// alone. Rows that point at it may still be written.
///
/// # Errors
/// [`Error::Missing`].
#[tracing::instrument(level = "debug", skip_all, fields(org = %id))]
pub async fn lock(tx: &Tx, id: OrganizationId) -> Result<Locked> {
    let sql = Sql::new(
        "select o.id, o.name, o.plan, o.next_plan, o.next_plan_at, o.limit_overrides,
           o.standing, o.standing_since, o.standing_reason, o.cleanup_at, o.created_at, a.stops_at, a.stop_code
         from organizations o left join billing_accounts a on a.org_id = o.id where o.id = ",
        [],
    );
    let row = sql.bind(id.uuid()).lock(tx, "for no key update of o").one::<LockedRow>(tx).await?;
    let LockedRow(organization, stop) = row.ok_or(Error::Missing("organization"))?;
    let stop = stop.stops_at.zip(stop.stop_code);
    Ok(Locked {
        organization: from_row(organization)?,
        stop: stop
            .map(|(at, code)| Ok::<_, Error>(Stop { at: time::instant(at)?, code }))
            .transpose()?,
    })
}

struct LockedRow(OrganizationRow, StopRow);

#[derive(FromQueryResult)]
struct StopRow {
    stops_at: Option<i64>,
    stop_code: Option<String>,
}

impl FromQueryResult for LockedRow {
    fn from_query_result(
        row: &QueryResult,
        prefix: &str,
    ) -> std::result::Result<Self, sea_orm::DbErr> {
        let organization = OrganizationRow::from_query_result(row, prefix)?;
        Ok(Self(organization, StopRow::from_query_result(row, prefix)?))
    }
}

/// Writes a new organization.
///
/// # Errors
/// [`Error::Taken`] with `organizations_name_key`.
#[tracing::instrument(level = "debug", skip_all, fields(org = %organization.id))]
pub async fn insert(c: &impl ConnectionTrait, organization: &Organization) -> Result<()> {
    let since = organization.standing.since();
    Sql::new(
        "insert into organizations (id, name, plan, next_plan, next_plan_at, limit_overrides,
           standing, standing_since, standing_reason, cleanup_at, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        [
            organization.id.uuid().into(),
            organization.name.as_str().into(),
            organization.plan.as_str().into(),
            organization.next_plan.map(|(plan, _)| plan.as_str()).into(),
            organization.next_plan.map(|(_, at)| time::micros(at)).into(),
            serde_json::json!(organization.limit_overrides).to_string().into(),
            organization.standing.as_str().into(),
            since.map(|(since, _)| time::micros(since)).into(),
            since.map(|(_, reason)| reason).into(),
            organization.cleanup_at.map(time::micros).into(),
            time::micros(organization.created_at).into(),
        ],
    )
    .execute(c)
    .await?;
    Ok(())
}

/// Sets the plan, and the one that is to take effect later.
///
/// # Errors
/// [`Error::Missing`].
#[tracing::instrument(level = "debug", skip_all, fields(org = %id))]
pub async fn set_plan(
    c: &impl ConnectionTrait,
    id: OrganizationId,
    plan: Plan,
    next: Option<(Plan, DateTime<Utc>)>,
) -> Result<()> {
    let values = [
        id.uuid().into(),
        plan.as_str().into(),
        next.map(|(plan, _)| plan.as_str()).into(),
        next.map(|(_, at)| time::micros(at)).into(),
    ];
    let text =
        "update organizations set plan = $2, next_plan = $3, next_plan_at = $4 where id = $1";
    one(Sql::new(text, values).execute(c).await?)
}

/// Sets the limits that hold whatever the plan says.
///
/// # Errors
/// [`Error::Missing`].
#[tracing::instrument(level = "debug", skip_all, fields(org = %id))]
pub async fn set_limit_overrides(
    c: &impl ConnectionTrait,
    id: OrganizationId,
    overrides: &BTreeMap<String, u64>,
) -> Result<()> {
    let values = [id.uuid().into(), serde_json::json!(overrides).to_string().into()];
    let sql = Sql::new("update organizations set limit_overrides = $2 where id = $1", values);
    one(sql.execute(c).await?)
}

/// Sets whether its keys open anything, and when what still runs of it is to end.
///
/// # Errors
/// [`Error::Missing`].
#[tracing::instrument(level = "debug", skip_all, fields(org = %id))]
pub async fn set_standing(
    c: &impl ConnectionTrait,
    id: OrganizationId,
    standing: &Standing,
    cleanup_at: Option<DateTime<Utc>>,
) -> Result<()> {
    let since = standing.since();
    let values = [
        id.uuid().into(),
        standing.as_str().into(),
        since.map(|(since, _)| time::micros(since)).into(),
        since.map(|(_, reason)| reason).into(),
        cleanup_at.map(time::micros).into(),
    ];
    let text = "update organizations set standing = $2, standing_since = $3, standing_reason = $4,
                  cleanup_at = $5 where id = $1";
    one(Sql::new(text, values).execute(c).await?)
}

/// Up to `limit` organizations of which everything that runs is to end by now, the most overdue first.
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all)]
pub async fn due_for_cleanup(
    c: &impl ConnectionTrait,
    now: DateTime<Utc>,
    limit: u32,
) -> Result<Vec<Organization>> {
    let sql = Sql::new(SELECT, []).text("cleanup_at <= ").bind(time::micros(now));
    let rows = sql.text(" order by cleanup_at limit ").bind(i64::from(limit)).all(c).await?;
    rows.into_iter().map(from_row).collect()
}

/// Notes that nothing of it runs any more, unless it was resumed or another end was set meanwhile.
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all, fields(org = %id))]
pub async fn note_cleaned(
    c: &impl ConnectionTrait,
    id: OrganizationId,
    cleanup_at: DateTime<Utc>,
) -> Result<()> {
    let values = [id.uuid().into(), time::micros(cleanup_at).into()];
    let text = "update organizations set cleanup_at = null where id = $1 and cleanup_at = $2";
    Sql::new(text, values).execute(c).await?;
    Ok(())
}

const fn one(rows: u64) -> Result<()> {
    if rows == 1 { Ok(()) } else { Err(Error::Missing("organization")) }
}

pub(super) fn from_row(row: OrganizationRow) -> Result<Organization> {
    // A name that this version does not know must never open more than the smallest plan.
    let plan = |name: &str| name.parse().unwrap_or(Plan::Free);
    let limit_overrides = serde_json::from_str(&row.limit_overrides).map_err(|_| {
        Error::Corrupt(format!("the limit_overrides of organization {} are no map", row.id))
    })?;
    Ok(Organization {
        id: OrganizationId::from_uuid(row.id),
        name: row.name,
        plan: plan(&row.plan),
        next_plan: row
            .next_plan
            .as_deref()
            .zip(row.next_plan_at)
            .map(|(name, at)| Ok::<_, Error>((plan(name), time::instant(at)?)))
            .transpose()?,
        limit_overrides,
        standing: standing(row.id, &row.standing, row.standing_since, row.standing_reason)?,
        cleanup_at: time::optional(row.cleanup_at)?,
        created_at: time::instant(row.created_at)?,
    })
}

fn standing(
    id: uuid::Uuid,
    word: &str,
    since: Option<i64>,
    reason: Option<String>,
) -> Result<Standing> {
    match (word, since, reason) {
        ("active", None, None) => Ok(Standing::Active),
        ("suspended", Some(since), Some(reason)) => {
            Ok(Standing::Suspended { since: time::instant(since)?, reason })
        }
        ("closed", Some(since), Some(reason)) => {
            Ok(Standing::Closed { since: time::instant(since)?, reason })
        }
        _ => Err(Error::Corrupt(format!("the standing of organization {id} is {word:?}"))),
    }
}
