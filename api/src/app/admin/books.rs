//! Pages of organizations' books for operators. Decides nothing.

use billing::{credit::Grant, money::minor, period::Period};
use chrono::{DateTime, Utc};
use domain::id::{OrganizationId, StatementId};
use rust_decimal::Decimal;
use store::{
    Page, PageRequest, Scope,
    billing::Billing,
    rows::{NotedRow, StatementRow},
};

use crate::app::{
    App,
    billing::{
        convert::{grant, instant, period},
        journal::{self, Booked},
    },
    error::Result,
};

/// A change of an organization's plan, spend cap or limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TermsChange {
    /// Its number among the organization's.
    pub seq: i64,
    /// `plan`, `spend_cap`, or the name of a limit.
    pub setting: String,
    /// What it was set to; `None` = it was removed.
    pub value: Option<String>,
    /// From when on it holds.
    pub takes_effect_at: DateTime<Utc>,
    /// Why.
    pub reason: String,
    /// When it was made.
    pub made_at: DateTime<Utc>,
}

impl TermsChange {
    fn of(row: &NotedRow) -> Result<Self> {
        Ok(Self {
            seq: row.seq,
            setting: row.setting.clone(),
            value: row.value.clone(),
            takes_effect_at: instant(row.takes_effect_at)?,
            reason: row.reason.clone(),
            made_at: instant(row.made_at)?,
        })
    }
}

/// A statement that is closed, in short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedStatement {
    /// Its id.
    pub id: StatementId,
    /// Its month.
    pub period: Period,
    /// When it was closed.
    pub closed_at: DateTime<Utc>,
    /// ISO 4217.
    pub currency: String,
    /// What is to be paid.
    pub amount_due: Decimal,
}

impl ClosedStatement {
    fn of(row: &StatementRow) -> Result<Self> {
        Ok(Self {
            id: StatementId::from_uuid(row.id),
            period: period(row.period_from)?,
            closed_at: instant(row.closed_at)?,
            currency: row.currency.clone(),
            amount_due: minor(row.due_minor_units),
        })
    }
}

fn books(org: OrganizationId) -> Billing {
    store::billing(Scope::org(org, None))
}

/// An organization that does not exist has no list, not an empty one.
async fn must_exist(app: &App, org: OrganizationId) -> Result<()> {
    store::organizations::get(app.db.read(), org).await?;
    Ok(())
}

/// Lists what was changed of an organization's terms before the number `before`, the last first.
///
/// # Errors
/// `not_found`.
pub async fn terms_changes(
    app: &App,
    org: OrganizationId,
    before: Option<i64>,
    limit: u32,
) -> Result<Page<TermsChange>> {
    must_exist(app, org).await?;
    let page = books(org).changes(app.db.read(), org, before, limit).await?;
    let items = page.items.iter().map(TermsChange::of).collect::<Result<_>>()?;
    Ok(Page { items, has_more: page.has_more })
}

/// Lists an organization's grants, newest first.
///
/// # Errors
/// `not_found`.
pub async fn grants(app: &App, org: OrganizationId, page: PageRequest) -> Result<Page<Grant>> {
    must_exist(app, org).await?;
    let page = books(org).list_grants(app.db.read(), org, page).await?;
    let items = page.items.iter().map(grant).collect::<Result<_>>()?;
    Ok(Page { items, has_more: page.has_more })
}

/// Lists an organization's transactions behind the number `after`, oldest first.
///
/// # Errors
/// `not_found`.
pub async fn transactions(
    app: &App,
    org: OrganizationId,
    after: i64,
    limit: u32,
) -> Result<Page<Booked>> {
    must_exist(app, org).await?;
    journal::list(app.db.read(), org, after, limit).await
}

/// Lists an organization's closed months before `before`, the latest first.
///
/// # Errors
/// `not_found`.
pub async fn statements(
    app: &App,
    org: OrganizationId,
    before: Option<Period>,
    limit: u32,
) -> Result<Page<ClosedStatement>> {
    must_exist(app, org).await?;
    let before = before.map(Period::start);
    let page = books(org).list_statements(app.db.read(), org, before, limit).await?;
    let items = page.items.iter().map(ClosedStatement::of).collect::<Result<_>>()?;
    Ok(Page { items, has_more: page.has_more })
}
