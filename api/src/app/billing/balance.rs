//! What an organization has and owes at an instant, for operators. Decides nothing.

use std::collections::BTreeMap;

use billing::{
    forecast,
    money::{CREDIT, Exact, decimal, minor},
    period::Period,
    plan::{Mode, terms},
};
use chrono::{DateTime, Utc};
use domain::id::{GrantId, OrganizationId};
use rust_decimal::Decimal;
use serde::Serialize;
use store::Scope;

use super::{book::Book, convert, settle::sum, tick};
use crate::app::{App, error::Result};

/// What an organization has and owes. Amounts are decimal numbers in strings.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Balance {
    /// Whose it is.
    pub org_id: OrganizationId,
    /// The organization's name.
    pub organization: String,
    /// The plan now.
    pub plan: String,
    /// The plan that is to take effect.
    pub next_plan: Option<NextPlan>,
    /// `credit_only`: everything stops when credit ends; `credit_then_invoice`: the rest is invoiced.
    pub mode: String,
    /// Limits that hold whatever the plan says.
    pub limits: BTreeMap<String, u64>,
    /// The running period.
    pub period: String,
    /// The first period without a statement.
    pub open_since: String,
    /// The pricing version in force.
    pub pricing_version: String,
    /// ISO 4217.
    pub currency: String,
    /// Price of a credit.
    pub currency_per_credit: String,
    /// Credits left, everything paid that was measured up to now.
    pub credits: String,
    /// The same in money, at the price in force, rounded.
    pub worth: String,
    /// What was measured and is not booked yet, in credits.
    pub unsettled_credits: String,
    /// Grants that something is left of in the books, in the order in which they are burnt.
    pub grants: Vec<Left>,
    /// What no credit paid for in the running period as far as it is booked, in money, exactly.
    pub overage: String,
    /// How much of that a period may have; none = without end.
    pub spend_cap: Option<String>,
    /// From when on everything stops if all goes on as it does.
    pub stops_at: Option<DateTime<Utc>>,
    /// Why: `credit_exhausted` or `billing_spend_cap_reached`.
    pub stop_code: Option<String>,
}

/// A plan to come.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NextPlan {
    /// The plan.
    pub plan: String,
    /// When it takes effect.
    pub at: DateTime<Utc>,
}

/// A grant that something is left of.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Left {
    /// The grant.
    pub id: GrantId,
    /// `plan`, `adjustment`, `free` or `purchased`.
    pub kind: String,
    /// Smaller is burnt first.
    pub priority: i64,
    /// What was granted, in credits.
    pub granted: String,
    /// What is left of it in the books, in credits.
    pub left: String,
    /// From when on it pays.
    pub starts_at: DateTime<Utc>,
    /// When it is lost.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Sums up an organization's account as it stands.
///
/// # Errors
/// `Missing` when the organization has no account.
pub async fn get(app: &App, org: OrganizationId) -> Result<Balance> {
    let now = app.clock.now();
    let prices = app.prices.get(app.db.read(), now).await?;
    let snapshot = app.db.snapshot().await?;
    let organization = store::organizations::get(&snapshot, org).await?;
    let book = tick::look(&snapshot, &prices, org, now).await?;
    let pricing = prices.in_force(now)?;
    let credits = forecast::credit_left(&book.grants, &book.meters(), now).map_err(sum)?;
    let mut unsettled = 0_i64;
    for meter in book.meters() {
        unsettled = unsettled.saturating_add(meter.unsettled(now).map_err(sum)?);
    }
    let overdrawn = book.overdrawn(&prices)?;
    let worth = Exact::of(credits, pricing.nano_currency_per_credit).minor_units().map_err(sum)?;
    Ok(Balance {
        org_id: org,
        organization: organization.name,
        plan: book.plan_at(now).as_str().to_owned(),
        next_plan: book
            .next_plan
            .filter(|(_, at)| *at > now)
            .map(|(plan, at)| NextPlan { plan: plan.as_str().to_owned(), at }),
        mode: mode(terms(book.plan_at(now)).mode).to_owned(),
        limits: organization.limit_overrides,
        period: Period::of(now).to_string(),
        open_since: book.open()?.to_string(),
        pricing_version: pricing.name.clone(),
        currency: pricing.currency.to_string(),
        currency_per_credit: pricing.currency_per_credit().to_string(),
        credits: decimal(credits).to_string(),
        worth: minor(worth).to_string(),
        unsettled_credits: decimal(unsettled).to_string(),
        overage: exact(overdrawn.get(&Period::of(now)).copied().unwrap_or_default())?.to_string(),
        spend_cap: book.account.spend_cap.map(|cap| decimal(cap).to_string()),
        stops_at: book.account.stops_at.map(convert::instant).transpose()?,
        stop_code: book.account.stop_code.clone(),
        grants: left(&book),
    })
}

/// How much an organization may be invoiced in a month, in billionths of the currency's unit; `None` =
/// without end.
///
/// # Errors
/// `Missing` when the organization has no account.
pub async fn spend_cap(app: &App, org: OrganizationId) -> Result<Option<i64>> {
    let billing = store::billing(Scope::org(org, None));
    Ok(billing.account(app.db.read(), org).await?.spend_cap)
}

const fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::CreditOnly => "credit_only",
        Mode::CreditThenInvoice => "credit_then_invoice",
    }
}

fn left(book: &Book) -> Vec<Left> {
    let grants = book.grants.iter().map(|grant| Left {
        id: grant.id,
        kind: grant.kind.as_str().to_owned(),
        priority: grant.priority,
        granted: decimal(grant.amount).to_string(),
        left: decimal(grant.remaining).to_string(),
        starts_at: grant.starts_at,
        expires_at: grant.expires_at,
    });
    grants.collect()
}

/// An exact amount of money with all its digits.
fn exact(amount: Exact) -> Result<Decimal> {
    let places = 2 * CREDIT.ilog10();
    let value = Decimal::try_from_i128_with_scale(amount.0, places);
    Ok(value.map_err(|_| convert::corrupt("an amount of money is too large"))?.normalize())
}
