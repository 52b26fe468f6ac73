//! The usage summary of contract section 8.2.

use std::sync::Arc;

use ::billing::{forecast, money, period::Period};
use chrono::{DateTime, TimeDelta, Utc};
use domain::sandbox::Sandbox;
use rust_decimal::Decimal;
use store::{
    Reach, Tx,
    usage::{Metric, UsageRecord, UsageRecordId},
};

use super::{
    App, Caller,
    billing::{self, book::Book},
    error::Result,
};

/// Events in a summary.
const RECENT: u32 = 20;

/// A quota's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// How much is taken.
    pub current: u64,
    /// How much there is.
    pub limit: u64,
}

/// What an organization used in the running period.
#[derive(Debug, Clone)]
pub struct UsageSummary {
    /// The calendar month, UTC, half open.
    pub period: (DateTime<Utc>, DateTime<Utc>),
    /// The pricing version in force.
    pub pricing_version: String,
    /// Compute unit seconds that one credit buys.
    pub compute_unit_seconds_per_credit: u32,
    /// Price of a credit.
    pub currency_per_credit: Decimal,
    /// Whole compute unit seconds metered so far.
    pub compute_unit_seconds_used: i64,
    /// The same in credits.
    pub credits_used: Decimal,
    /// Credits left; `None` = without limit.
    pub credits_remaining: Option<Decimal>,
    /// Live sandboxes against the plan.
    pub active_sandboxes: Quota,
    /// Active previews likewise.
    pub active_previews: Quota,
    /// The latest counted events, newest first.
    pub events: Vec<UsageRecord>,
}

/// Sums up the organization's usage: what is settled, and what was measured since.
///
/// # Errors
/// When the database does not answer.
pub async fn summary(app: &Arc<App>, caller: &Caller) -> Result<UsageSummary> {
    let now = app.clock.now();
    let org = caller.org_id();
    let prices = app.prices.get(app.db.read(), now).await?;
    // What is settled moves from the one to the other while it is read.
    let snapshot = app.db.snapshot().await?;
    let db = &snapshot;
    let book = billing::tick::look(db, &prices, org, now).await?;
    let pricing = prices.in_force(now)?;
    let period = Period::of(now);
    let used = used(db, caller, &book, period, now).await?;
    // Quotas and credit are the organization's, whatever projects the key is restricted to; what it
    // used and what is listed of single events is not.
    let room = book.room(&prices, now)?;
    let after = now + TimeDelta::microseconds(1);
    let left = forecast::left(&book.grants, &book.meters(), &room, after);
    let reach = Reach::Tenant { org, projects: None };
    let live = store::sandboxes(reach.clone()).count_live(db, org).await?;
    let (open, _) = store::previews(reach).count_active(db, org, None).await?;
    Ok(UsageSummary {
        period: (period.start(), period.end()),
        pricing_version: pricing.name.clone(),
        compute_unit_seconds_per_credit: pricing.compute_unit_seconds_per_credit,
        currency_per_credit: pricing.currency_per_credit(),
        compute_unit_seconds_used: used.0 / 1000,
        credits_used: money::decimal(used.1),
        credits_remaining: left.map_err(billing::settle::sum)?.map(money::decimal),
        active_sandboxes: Quota {
            current: live,
            limit: u64::from(caller.limits.max_concurrent_sandboxes),
        },
        active_previews: Quota {
            current: open,
            limit: u64::from(caller.limits.max_active_previews),
        },
        events: store::usage(caller.reach()).recent(db, RECENT).await?,
    })
}

/// What the caller's projects used in a period: thousandths of compute unit seconds, and the
/// nano-credits that everything cost.
async fn used(
    db: &Tx,
    caller: &Caller,
    book: &Book,
    period: Period,
    now: DateTime<Utc>,
) -> Result<(i64, i64)> {
    let (mut quantity, mut amount) = (0_i64, 0_i64);
    let mut add = |metric: Metric, (more, price): (i64, i64)| {
        if metric == Metric::ComputeUnitSeconds {
            quantity = quantity.saturating_add(more);
        }
        amount = amount.saturating_add(price);
    };
    let settled = store::billing(caller.reach());
    for line in settled.used_lines(db, caller.org_id(), period.start()).await? {
        let metric = line.metric.parse().unwrap_or(Metric::SandboxCreates);
        add(metric, (line.quantity, line.amount));
    }
    for measure in book.measures.iter().filter(|m| caller.sees_project(m.meter.project)) {
        let unsettled = billing::settle::unsettled_in(&measure.meter, period, now)?;
        add(measure.meter.metric, unsettled);
    }
    Ok((quantity, amount))
}

/// Counts something that happens in a sandbox, once per `resource_id`, if it can be paid.
///
/// # Errors
/// `credit_exhausted`, `billing_spend_cap_reached`; when the database does not answer.
pub async fn count(
    app: &App,
    tx: &Tx,
    sandbox: &Sandbox,
    metric: Metric,
    resource_id: String,
    amount: i64,
    at: DateTime<Utc>,
) -> Result<()> {
    billing::admission::reserve(app, tx, sandbox, metric, amount, at).await?;
    let record = UsageRecord {
        id: UsageRecordId::generate(at),
        org_id: sandbox.org_id,
        project_id: sandbox.project_id,
        sandbox_id: sandbox.id,
        metric,
        resource_id,
        amount,
        at,
    };
    let reach = Reach::Tenant { org: sandbox.org_id, projects: None };
    Ok(store::usage(reach).record(tx, &record).await?)
}
