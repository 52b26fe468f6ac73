//! The usage summary of contract section 8.2.

use std::sync::Arc;

use billing::{money, pricing::PricingVersion};
use chrono::{DateTime, Datelike, Months, TimeZone, Utc};
use domain::sandbox::Sandbox;
use rust_decimal::Decimal;
use store::{
    Reach, Tx,
    usage::{Metric, UsageRecord, UsageRecordId},
};

use super::{App, Caller, error::Result};

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
    /// The latest counted events, newest first.
    pub events: Vec<UsageRecord>,
}

/// Sums up the organization's usage.
///
/// # Errors
/// When the database does not answer.
pub async fn summary(app: &Arc<App>, caller: &Caller) -> Result<UsageSummary> {
    let now = app.clock.now();
    let period = month_of(now);
    let db = app.db.read();
    // Quotas and credit are the organization's, whatever projects the key is restricted to; what it
    // lists of single events is not.
    let whole = Reach::Tenant { org: caller.org_id(), projects: None };
    let used =
        store::usage(caller.reach()).compute_unit_seconds(db, period.0, period.1, now).await?;
    let live = store::sandboxes(whole).count_live(db, caller.org_id()).await?;
    let pricing = PricingVersion::built_in();
    let price = pricing.price(domain::metric::Metric::ComputeUnitSeconds, used * 1000);
    Ok(UsageSummary {
        period,
        compute_unit_seconds_per_credit: pricing.compute_unit_seconds_per_credit,
        currency_per_credit: pricing.currency_per_credit(),
        compute_unit_seconds_used: used,
        credits_used: money::decimal(price.unwrap_or(i64::MAX)),
        pricing_version: pricing.name,
        credits_remaining: None,
        active_sandboxes: Quota {
            current: live,
            limit: u64::from(caller.limits.max_concurrent_sandboxes),
        },
        events: store::usage(caller.reach()).recent(db, RECENT).await?,
    })
}

/// Counts something that happened in a sandbox, once per `resource_id`.
///
/// # Errors
/// When the database does not answer.
pub async fn count(
    tx: &Tx,
    sandbox: &Sandbox,
    metric: Metric,
    resource_id: String,
    amount: i64,
    at: DateTime<Utc>,
) -> Result<()> {
    let record = UsageRecord {
        id: UsageRecordId::generate(at),
        org_id: sandbox.org_id,
        project_id: Some(sandbox.project_id),
        metric,
        resource_id,
        amount,
        at,
    };
    let reach = Reach::Tenant { org: sandbox.org_id, projects: None };
    Ok(store::usage(reach).record(tx, &record).await?)
}

fn month_of(now: DateTime<Utc>) -> (DateTime<Utc>, DateTime<Utc>) {
    let start = Utc.with_ymd_and_hms(now.year(), now.month(), 1, 0, 0, 0).single().unwrap_or(now);
    (start, start.checked_add_months(Months::new(1)).unwrap_or(DateTime::<Utc>::MAX_UTC))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_the_calendar_month() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        for (now, start, end) in [
            ("2031-12-31T23:59:59.999Z", "2031-12-01T00:00:00Z", "2032-01-01T00:00:00Z"),
            ("2032-02-01T00:00:00Z", "2032-02-01T00:00:00Z", "2032-03-01T00:00:00Z"),
        ] {
            assert_eq!(month_of(at(now)), (at(start), at(end)), "{now}");
        }
    }
}
