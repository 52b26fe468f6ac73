//! Brings an organization's books up to date: plan credit, usage up to what is known of its sandboxes,
//! expired credit, the instant at which everything must stop, alerts, and when to look again.

use std::collections::BTreeMap;

use billing::{
    credit::{self, Grant, GrantKind},
    forecast,
    ledger::Account,
    meter::{Meter, Source, Span, merge},
    money::{CREDIT, Exact, decimal},
    period::Period,
    plan::{self, Granted, Mode, terms},
    pricing::BASE_SIZE,
    settle::{self, Measured},
};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    code::Code,
    id::{GrantId, OrganizationId},
    metric::Metric,
};
use serde_json::json;
use store::{
    Everyone, Tx,
    billing::{Billing, Lock},
    rows::AlertRow,
};

use super::{
    Rules,
    book::{self, Book, Measure},
    convert::{from_of, instant, period},
    entry::Entry,
    prices::PriceLists,
    statements,
};
use crate::app::{
    audit::Act,
    error::{Error, Result},
    events::{
        Event, Payload,
        payload::{CreditExhausted, PlanChanged},
    },
};

/// Windows are cut this long after their end: by then it is known who was alive.
const LAG: TimeDelta = TimeDelta::seconds(10);
/// Usage that is not known this long after credit expired finds it gone.
const EXPIRY_GRACE: TimeDelta = TimeDelta::hours(24);
/// A statement does not wait for usage of lost hosts for longer than this.
const STATEMENT_PATIENCE: TimeDelta = TimeDelta::hours(24);
/// When to look again at what should have ended by now.
const RETRY: TimeDelta = TimeDelta::seconds(1);

/// The instant at which an organization's sandboxes must stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// The instant.
    pub at: DateTime<Utc>,
    /// Why: `credit_exhausted` or `billing_spend_cap_reached`.
    pub code: Code,
}

/// Settles one organization in a transaction of the caller's, who holds no other account. What the
/// caller is to write down of it goes to `acts`.
///
/// # Errors
/// `Missing` without an account; when the database refuses.
pub async fn organization(
    tx: &Tx,
    rules: &Rules,
    prices: &PriceLists,
    org: OrganizationId,
    now: DateTime<Utc>,
    acts: &mut Vec<Act>,
) -> Result<Option<Stop>> {
    let billing = store::billing(Everyone::for_worker("billing"));
    let account = billing.lock_account(tx, org).await?;
    let books = book::read(tx, &billing, prices, vec![account], now, Lock::Hold).await?;
    let mut entry = Entry::default();
    let mut stop = None;
    for book in books {
        stop = one(tx, &billing, rules, prices, book, &mut entry, now).await?;
    }
    let written = entry.write(tx, &billing, now).await?;
    announce(&written.alerts);
    acts.extend(written.acts.into_values().flatten());
    Ok(stop)
}

/// Settles one book; what comes of it is in the entry.
///
/// # Errors
/// When a number does not fit or a row means nothing; then nothing of this organization is in the
/// entry that was not before, and the others' can be written.
pub(super) async fn one(
    tx: &Tx,
    billing: &Billing,
    rules: &Rules,
    prices: &PriceLists,
    mut book: Book,
    entry: &mut Entry,
    now: DateTime<Utc>,
) -> Result<Option<Stop>> {
    let stop = up_to_date(rules, prices, &mut book, entry, now)?;
    // More than one when nobody has looked for months.
    while may_close(rules, &book, now)? {
        statements::close(tx, billing, prices, &mut book, entry, now).await?;
    }
    let soonest = soonest_stop(prices, &book, now)?;
    book.account.due_at = due_at(rules, &book, stop, soonest, now)?.timestamp_micros();
    entry.accounts.push(book.account);
    Ok(stop)
}

fn up_to_date(
    rules: &Rules,
    prices: &PriceLists,
    book: &mut Book,
    entry: &mut Entry,
    now: DateTime<Utc>,
) -> Result<Option<Stop>> {
    plan_credit(prices, book, entry, now)?;
    let before: BTreeMap<GrantId, i64> = book.grants.iter().map(|g| (g.id, g.remaining)).collect();
    let stop = stop(prices, book, now)?;
    usage(rules, book, entry, stop, now)?;
    let open = book.open()?;
    let settled = settled_until(book, now).max(looked_at(book, now) - EXPIRY_GRACE);
    for (_, transaction) in settle::expire(&mut book.grants, settled, open, "").map_err(sum)? {
        entry.book(book.org, &mut book.account, &transaction, now);
    }
    for grant in book.grants.iter().filter(|g| before.get(&g.id) != Some(&g.remaining)) {
        entry.left(grant);
    }
    // What was booked just now is used, too.
    book.totals.extend(entry.totals_of(book.org));
    note_stop(prices, book, entry, stop, now)?;
    alerts(rules, prices, book, entry, now)?;
    Ok(stop)
}

/// A computation without a result is a row that no rule of ours would have written.
pub(in crate::app) fn sum(error: billing::Error) -> Error {
    super::convert::corrupt(error.to_string())
}

fn plan_credit(
    prices: &PriceLists,
    book: &mut Book,
    entry: &mut Entry,
    now: DateTime<Utc>,
) -> Result<()> {
    let open = book.open()?;
    let mut granted = Granted {
        period: period(book.account.plan_period)?,
        in_period: book.account.plan_granted,
        once: book.account.free_granted,
    };
    for due in plan::due(&mut granted, book.plan, book.next_plan, now) {
        let amount = prices.in_force(due.starts_at)?.credit_for(due.worth).unwrap_or(0);
        if amount == 0 {
            continue;
        }
        let kind = if due.expires_at.is_some() { GrantKind::Plan } else { GrantKind::Free };
        let grant = Grant {
            id: GrantId::generate(now),
            kind,
            priority: kind.priority(),
            amount,
            remaining: amount,
            starts_at: due.starts_at,
            expires_at: due.expires_at,
        };
        let from = due.starts_at.timestamp_micros();
        let key = format!("grant:{}:{}:{from}", kind.as_str(), due.plan.as_str());
        let coming = settle::grant(&grant, key, due.starts_at, open, None).map_err(sum)?;
        entry.grant(book.org, &mut book.account, &grant, &coming, now);
        let details = json!({
            "kind": kind.as_str(),
            "credits": decimal(amount).to_string(),
            "plan": due.plan.as_str(),
            "startsAt": due.starts_at,
            "expiresAt": due.expires_at,
        });
        entry.act(book.org, "credit.grant", grant.id, details);
        book.grants.push(grant);
    }
    credit::sort(&mut book.grants);
    book.account.plan_period = from_of(granted.period);
    book.account.plan_granted = granted.in_period;
    book.account.free_granted = granted.once;
    if let Some((plan, at)) = book.next_plan
        && at <= now
    {
        let payload = Payload::PlanChanged(PlanChanged {
            plan: plan.as_str(),
            previous_plan: book.plan.as_str(),
            takes_effect_at: at,
        });
        entry.events.push(Event::of_organization(book.org, payload, at));
        let details = json!({
            "plan": plan.as_str(),
            "previousPlan": book.plan.as_str(),
            "takesEffectAt": at,
        });
        entry.act(book.org, "plan.take_effect", book.org, details);
        (book.plan, book.next_plan) = (plan, None);
        entry.plans.push((book.org, plan));
    }
    Ok(())
}

/// When everything must stop, if it must before the end of the next period.
fn stop(prices: &PriceLists, book: &Book, now: DateTime<Utc>) -> Result<Option<Stop>> {
    if book.measures.is_empty() {
        return Ok(None);
    }
    let room = book.room(prices, now)?;
    let at = forecast::stop(&book.grants, &book.meters(), &room, now).map_err(sum)?;
    Ok(at.map(|at| Stop { at, code: code(book, at) }))
}

/// When everything would have to stop if from now on no sandbox were idle: nobody says when one begins
/// to work, so the account is looked at again by then.
fn soonest_stop(
    prices: &PriceLists,
    book: &Book,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>> {
    let mut meters = book.meters();
    let mut found = false;
    for meter in &mut meters {
        if let Source::Time { active, .. } = &mut meter.source
            && meter.pricing.idle_factor_milli != 1000
        {
            found = true;
            let mut spans = std::mem::take(active);
            spans.push(Span { from: now, until: DateTime::<Utc>::MAX_UTC });
            *active = merge(spans);
        }
    }
    if !found {
        return Ok(None);
    }
    let room = book.room(prices, now)?;
    let at = forecast::stop(&book.grants, &meters, &room, now).map_err(sum)?;
    Ok(at.map(|at| at.max(now + RETRY)))
}

fn code(book: &Book, at: DateTime<Utc>) -> Code {
    match terms(book.plan_at(at)).mode {
        Mode::CreditOnly => Code::CreditExhausted,
        Mode::CreditThenInvoice => Code::BillingSpendCapReached,
    }
}

/// Settles what is known: of a meter that is closed everything, of an open one whole windows up to
/// the last instant at which its sandbox was seen alive, so that no window has to be taken back.
fn usage(
    rules: &Rules,
    book: &mut Book,
    entry: &mut Entry,
    stop: Option<Stop>,
    now: DateTime<Utc>,
) -> Result<()> {
    let stopped = stop.map(|stop| stop.at).filter(|at| *at <= now);
    let open = book.open()?;
    let mut measured = Vec::with_capacity(book.measures.len());
    for measure in &mut book.measures {
        // What is ended late is paid for up to the stop.
        if let (Source::Time { ends_at, .. }, Some(at)) = (&mut measure.meter.source, stopped) {
            *ends_at = at.min(*ends_at);
        }
        let until = until(rules, measure, stopped, now)?;
        measured.push(Measured { meter: measure.meter.clone(), until });
    }
    let settlement =
        settle::settle(&mut book.grants, &mut measured, open, rules.grid).map_err(sum)?;
    for (measure, Measured { meter, until }) in book.measures.iter_mut().zip(measured) {
        let counted = measure.counts.iter().filter(|(_, at)| *at < until).map(|(id, _)| *id);
        entry.counts.extend(counted);
        measure.counts.retain(|(_, at)| *at >= until);
        if meter.settled != measure.meter.settled {
            measure.row.settled_until = meter.settled.until.timestamp_micros();
            measure.row.settled_quantity = meter.settled.quantity_milli;
            measure.row.settled_amount = meter.settled.amount;
            measure.row.n_parts = meter.settled.n_parts;
            entry.meters.push(measure.row.clone());
        }
        measure.meter = meter;
    }
    entry.settled(book.org, &mut book.account, &settlement, now)
}

fn until(
    rules: &Rules,
    measure: &Measure,
    stopped: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<DateTime<Utc>> {
    let row = &measure.row;
    if measure.meter.metric != Metric::ComputeUnitSeconds {
        return Ok(now.max(measure.meter.settled.until));
    }
    if let Some(closed_at) = row.closed_at {
        return instant(closed_at);
    }
    let seen = instant(row.seen_alive_at.unwrap_or(row.opened_at))?;
    let known = now.min(seen).min(instant(row.expires_at)?);
    Ok(rules.grid.floor(stopped.map_or(known, |at| known.min(at))))
}

/// Up to when everything is settled.
fn settled_until(book: &Book, now: DateTime<Utc>) -> DateTime<Utc> {
    let unsettled = book.measures.iter().filter(|measure| !is_settled(measure));
    unsettled.map(|measure| measure.meter.settled.until).min().map_or(now, |at| at.min(now))
}

fn is_settled(measure: &Measure) -> bool {
    match measure.meter.source {
        Source::Counted(_) => measure.counts.is_empty(),
        Source::Time { .. } => {
            measure.row.closed_at.is_some_and(|at| at <= measure.row.settled_until)
        }
    }
}

/// Since when this account could have been looked at: after an outage nothing is late yet that is only
/// now being found out.
fn looked_at(book: &Book, now: DateTime<Utc>) -> DateTime<Utc> {
    instant(book.account.due_at).map_or(now, |due_at| due_at.min(now))
}

/// Whether nothing of a period is still to be settled.
pub(super) fn is_complete(book: &Book, period: Period) -> bool {
    let late =
        |measure: &&Measure| !is_settled(measure) && measure.meter.settled.until < period.end();
    book.measures.iter().filter(late).count() == 0
}

/// Writes down from when on nothing new may begin: from the stop on, or from now on if what is left
/// buys no second of the smallest sandbox.
fn note_stop(
    prices: &PriceLists,
    book: &mut Book,
    entry: &mut Entry,
    stop: Option<Stop>,
    now: DateTime<Utc>,
) -> Result<()> {
    let at = match stop {
        Some(stop) => Some(stop.at),
        None if is_spent(prices, book, now)? => {
            let since = book.account.stops_at.map(instant).transpose()?;
            Some(since.map_or(now, |since| since.min(now)))
        }
        None => None,
    };
    let reached = |at: Option<DateTime<Utc>>| at.is_some_and(|at| at <= now);
    let before = book.account.stops_at.map(instant).transpose()?;
    // A prediction that has come true was told of only as one: it is news all the same.
    let known = reached(before) && book.account.stop_told;
    let code = stop.map_or_else(|| code(book, now), |stop| stop.code);
    if let Some(since) = at.filter(|at| *at <= now && !known) {
        let code = code.as_str().to_owned();
        let payload = Payload::CreditExhausted(CreditExhausted { code, since });
        entry.events.push(Event::of_organization(book.org, payload, since));
    }
    book.account.stop_told = reached(at);
    book.account.stops_at = at.map(|at| at.timestamp_micros());
    book.account.stop_code = at.map(|_| code.as_str().to_owned());
    Ok(())
}

fn is_spent(prices: &PriceLists, book: &Book, now: DateTime<Utc>) -> Result<bool> {
    let room = book.room(prices, now)?;
    let after = now + TimeDelta::microseconds(1);
    let left = forecast::left(&book.grants, &book.meters(), &room, after).map_err(sum)?;
    let version = prices.in_force(now)?;
    let second = version.multiplier_milli(BASE_SIZE);
    let second = version.price(Metric::ComputeUnitSeconds, second).map_err(sum)?;
    Ok(left.is_some_and(|left| left < second))
}

/// Raises the alerts whose threshold is reached; those of this period that were raised before stay
/// as they are.
fn alerts(
    rules: &Rules,
    prices: &PriceLists,
    book: &Book,
    entry: &mut Entry,
    now: DateTime<Utc>,
) -> Result<()> {
    let running = from_of(Period::of(now));
    let mut used = 0_i128;
    for total in book.totals.iter().filter(|t| t.booked_from == running) {
        let account = total.account.parse::<Account>();
        if matches!(account, Ok(Account::Credit(_))) && !total.pricing_version.is_empty() {
            used -= i128::from(total.amount);
        }
    }
    let overdrawn = book.overdrawn(prices)?.remove(&Period::of(now)).unwrap_or_default();
    let left = forecast::credit_left(&book.grants, &book.meters(), now).map_err(sum)?;
    let cap = book.account.spend_cap.map(|cap| Exact::of(cap, CREDIT).0);
    for percent in &rules.alert_percents {
        let mut raise = |subject: &str| {
            entry.alerts.push(AlertRow {
                org_id: book.org.uuid(),
                period_from: running,
                subject: subject.to_owned(),
                percent: i64::from(*percent),
                raised_at: now.timestamp_micros(),
            });
        };
        let reached =
            |part: i128, whole: i128| part > 0 && part * 100 >= whole * i128::from(*percent);
        if reached(used, used + i128::from(left)) {
            raise("credit");
        }
        if cap.is_some_and(|cap| reached(overdrawn.0, cap)) {
            raise("spend_cap");
        }
    }
    Ok(())
}

/// Tells the log about new alerts.
pub(super) fn announce(alerts: &[AlertRow]) {
    for alert in alerts {
        let org = OrganizationId::from_uuid(alert.org_id);
        tracing::info!(%org, subject = alert.subject, percent = alert.percent, "threshold reached");
    }
}

fn due_at(
    rules: &Rules,
    book: &Book,
    stop: Option<Stop>,
    soonest: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<DateTime<Utc>> {
    let open = book.open()?;
    let mut due = vec![period(book.account.plan_period)?.end()];
    if book.account.live || !book.measures.iter().all(is_settled) {
        due.push(rules.grid.after(now) + LAG);
    }
    due.extend(stop.map(|stop| if stop.at <= now { now + RETRY } else { stop.at }));
    due.extend(soonest);
    due.extend(book.next_plan.map(|(_, at)| at));
    for grant in book.grants.iter().filter(|grant| grant.remaining > 0) {
        due.extend([Some(grant.starts_at), grant.expires_at].into_iter().flatten());
    }
    due.push(open.end() + rules.statement_delay);
    let first = due.into_iter().filter(|at| *at > now).min();
    // A statement that waits for late usage is looked at with it.
    Ok(first.unwrap_or(now + TimeDelta::seconds(60)))
}

/// Whether a period's statement is to be written now.
pub(super) fn may_close(rules: &Rules, book: &Book, now: DateTime<Utc>) -> Result<bool> {
    let open = book.open()?;
    let ended = now >= open.end() + rules.statement_delay;
    let waited = looked_at(book, now) >= open.end() + STATEMENT_PATIENCE;
    Ok(ended && (is_complete(book, open) || waited))
}

/// What a meter measured in a period up to `now`, settled or not, in thousandths, less what is
/// settled; and its price.
///
/// # Errors
/// When a number does not fit.
pub fn unsettled_in(meter: &Meter, period: Period, now: DateTime<Utc>) -> Result<(i64, i64)> {
    let at = |at: DateTime<Utc>| {
        let quantity = meter.quantity_milli(at)?;
        Ok::<_, billing::Error>((quantity, meter.pricing.price(meter.metric, quantity)?))
    };
    let (from, until) = (at(period.start()).map_err(sum)?, at(now.min(period.end())).map_err(sum)?);
    Ok(((until.0 - from.0).max(0), (until.1 - from.1).max(0)))
}
