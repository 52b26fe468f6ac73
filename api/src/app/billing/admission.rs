//! Whether new work may begin: not when credit or the spend cap is used up. What is counted and costs
//! something is checked against what is left before it happens, under the account's lock, so that any
//! number of requests at the same time spend no more than there is.

use billing::{
    forecast,
    period::Period,
    pricing::{PricingVersion, Rounding},
};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{Code, Refused, metric::Metric, sandbox::Sandbox};
use store::{Everyone, Tx, billing::Lock, rows::AlertRow};

use super::{book, settle::sum};
use crate::app::{App, error::Result, events};

/// Refuses new work of an organization whose account says that everything stops.
///
/// # Errors
/// `credit_exhausted` or `billing_spend_cap_reached`.
pub fn check(stop: Option<&store::organizations::Stop>, now: DateTime<Utc>) -> Result<()> {
    match stop.filter(|stop| stop.at <= now) {
        None => Ok(()),
        Some(stop) => Err(refusal(&stop.code).into()),
    }
}

/// Whether a refusal is one of [`check`].
#[must_use]
pub fn may_be_over(refused: &Refused) -> bool {
    matches!(refused.code, Code::CreditExhausted | Code::BillingSpendCapReached)
}

fn refusal(code: &str) -> Refused {
    if code == Code::BillingSpendCapReached.as_str() {
        Refused::new(
            Code::BillingSpendCapReached,
            "the organization's spend cap for this month is reached",
        )
    } else {
        Refused::new(Code::CreditExhausted, "the organization's credit is used up")
    }
}

/// Raises the alerts of thresholds of the quota that one more live sandbox reaches.
///
/// # Errors
/// When the database refuses.
pub async fn note_quota(
    app: &App,
    tx: &Tx,
    sandbox: &Sandbox,
    live: u64,
    limit: u64,
) -> Result<()> {
    let reached = |n: u64, percent: u32| n * 100 >= limit * u64::from(percent);
    let percents = app.config.alert_percents.iter().copied();
    let alerts: Vec<_> = percents
        .filter(|percent| reached(live + 1, *percent) && !reached(live, *percent))
        .map(|percent| AlertRow {
            org_id: sandbox.org_id.uuid(),
            period_from: Period::of(sandbox.created_at).start().timestamp_micros(),
            subject: "quota".to_owned(),
            percent: i64::from(percent),
            raised_at: sandbox.created_at.timestamp_micros(),
        })
        .collect();
    if !alerts.is_empty() {
        let billing = store::billing(Everyone::for_worker("admission"));
        let raised = billing.raise_alerts(tx, &alerts).await?;
        super::settle::announce(&raised);
        let told =
            raised.iter().map(super::entry::threshold_reached).collect::<Result<Vec<_>>>()?;
        events::emit(tx, &told, sandbox.created_at).await?;
    }
    Ok(())
}

/// Holds the account until the transaction ends if a sandbox's creation costs something. Whoever locks
/// an account and its organization locks the account first; a create locks the organization, so it
/// begins with this.
///
/// # Errors
/// When the database does not answer.
pub async fn hold_if_priced(app: &App, tx: &Tx, sandbox: &Sandbox) -> Result<()> {
    let prices = app.prices.get(app.db.read(), sandbox.created_at).await?;
    let version = prices.get(&sandbox.pricing_version)?;
    if version.rate(Metric::SandboxCreates).nano_credits > 0 {
        let billing = store::billing(Everyone::for_worker("admission"));
        billing.lock_account(tx, sandbox.org_id).await?;
    }
    Ok(())
}

/// Makes sure that something that is about to be counted in a sandbox can be paid. Free of charge, it
/// asks nothing; else it holds the account until the transaction ends, in which the caller writes the
/// count.
///
/// # Errors
/// `credit_exhausted` or `billing_spend_cap_reached`.
pub async fn reserve(
    app: &App,
    tx: &Tx,
    sandbox: &Sandbox,
    metric: Metric,
    amount: i64,
    now: DateTime<Utc>,
) -> Result<()> {
    let prices = app.prices.get(app.db.read(), now).await?;
    let version = prices.get(&sandbox.pricing_version)?;
    // A price telescopes: what comes on top of others may cost a nano-credit more than it would alone.
    let dearest = PricingVersion { rounding: Rounding::Up, ..PricingVersion::clone(version) };
    let price = dearest.price(metric, amount.saturating_mul(1000)).map_err(sum)?;
    if price == 0 {
        return Ok(());
    }
    let billing = store::billing(Everyone::for_worker("admission"));
    let account = billing.lock_account(tx, sandbox.org_id).await?;
    let books = book::read(tx, &billing, &prices, vec![account], now, Lock::Look).await?;
    for book in books {
        let room = book.room(&prices, now)?;
        // What was counted is spent, even at this very instant or by a server whose clock is ahead.
        let counted = book.measures.iter().flat_map(|measure| &measure.counts);
        let last = counted.map(|(_, at)| *at).max().map_or(now, |at| at.max(now));
        let after = last + TimeDelta::microseconds(1);
        let left = forecast::left(&book.grants, &book.meters(), &room, after).map_err(sum)?;
        if left.is_some_and(|left| left < price) {
            let code = match billing::plan::terms(book.plan_at(now)).mode {
                billing::plan::Mode::CreditOnly => Code::CreditExhausted,
                billing::plan::Mode::CreditThenInvoice => Code::BillingSpendCapReached,
            };
            return Err(refusal(code.as_str()).into());
        }
    }
    // The prediction of the stop changes with every charge.
    billing.wake(tx, sandbox.org_id, now).await?;
    Ok(())
}
