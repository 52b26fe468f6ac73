//! An organization's books as they stand: its account, credit, what its sandboxes have measured since
//! the last settlement, and what it overdrew in the running period.

use std::{collections::BTreeMap, sync::Arc};

use billing::{
    credit::{self, Grant},
    forecast::{Beyond, Room},
    ledger::Account,
    meter::{Count, Meter, Settled, Source, Span, merge},
    money::{CREDIT, Exact},
    period::Period,
    plan::{Mode, terms},
    pricing::PricingVersion,
};
use chrono::{DateTime, Utc};
use domain::{
    id::{OrganizationId, ProjectId, SandboxId},
    limits::Plan,
    metric::Metric,
};
use store::{
    ConnectionTrait,
    billing::{Billing, Lock},
    rows::{AccountRow, ChangeRow, CountRow, MeterRow, TotalRow},
};
use uuid::Uuid;

use super::{
    convert::{grant, instant, period, word},
    history::History,
    prices::PriceLists,
};
use crate::app::error::Result;

/// What is settled of counts at a time; more of them is settled by the next round.
const MAX_COUNTS: u32 = 10_000;

/// A meter with the row that it was read from.
#[derive(Debug, Clone)]
pub struct Measure {
    /// The meter.
    pub meter: Meter,
    /// Its row.
    pub row: MeterRow,
    /// The counts that its source holds.
    pub counts: Vec<(Uuid, DateTime<Utc>)>,
}

/// An organization's books.
#[derive(Debug, Clone)]
pub struct Book {
    /// Whose they are.
    pub org: OrganizationId,
    /// The account's row.
    pub account: AccountRow,
    /// The plan, and the one that is to take effect.
    pub plan: Plan,
    /// See `plan`.
    pub next_plan: Option<(Plan, DateTime<Utc>)>,
    /// Credit that something is left of, in the order in which it is burnt.
    pub grants: Vec<Grant>,
    /// What is not settled.
    pub measures: Vec<Measure>,
    /// The totals of the periods without a statement.
    pub totals: Vec<TotalRow>,
    /// What held when.
    pub terms: History,
}

impl Book {
    /// The meters alone.
    #[must_use]
    pub fn meters(&self) -> Vec<Meter> {
        self.measures.iter().map(|measure| measure.meter.clone()).collect()
    }

    /// The plan at an instant, past or to come.
    #[must_use]
    pub fn plan_at(&self, at: DateTime<Utc>) -> Plan {
        if self.terms.plans.is_empty() {
            return self.next_plan.filter(|(_, from)| *from <= at).map_or(self.plan, |(p, _)| p);
        }
        self.terms.plan_at(at)
    }

    /// Whether a period's statement asks for what no credit paid for: if its plan did at any time.
    #[must_use]
    pub fn invoices_in(&self, period: Period) -> bool {
        let now = || terms(self.plan).mode == Mode::CreditThenInvoice;
        self.terms.invoices_in(period).unwrap_or_else(now)
    }

    /// The first period without a statement.
    ///
    /// # Errors
    /// When the row means nothing.
    pub fn open(&self) -> Result<Period> {
        super::convert::period(self.account.open_from)
    }

    /// How much usage may go beyond credit, and when. Where versions of several prices are in use, the
    /// dearest decides: a cap is never passed.
    ///
    /// # Errors
    /// When a row means nothing.
    pub fn room(&self, prices: &PriceLists, now: DateTime<Utc>) -> Result<Room> {
        let versions = self.measures.iter().map(|measure| &measure.meter.pricing);
        let dearest = versions
            .chain([prices.in_force(now)?])
            .map(|version| version.nano_currency_per_credit)
            .max()
            .unwrap_or(0);
        let beyond = |at: DateTime<Utc>| match terms(self.plan_at(at)).mode {
            Mode::CreditOnly => Beyond::Nothing,
            Mode::CreditThenInvoice => {
                let cap = self.terms.cap_at(at, self.account.spend_cap);
                let room = cap.and_then(|cap| buys(Exact::of(cap, CREDIT).0, dearest));
                room.map_or(Beyond::Unlimited, Beyond::UpTo)
            }
        };
        let changes = self.terms.plans.iter().map(|(at, _)| *at);
        let mut instants: Vec<_> =
            changes.chain(self.terms.caps.iter().map(|(at, _)| *at)).collect();
        instants.extend(self.next_plan.map(|(_, at)| at));
        instants.push(now);
        instants.sort_unstable();
        instants.dedup();
        let mut used = BTreeMap::new();
        for (period, overdrawn) in self.overdrawn(prices)? {
            let credit =
                overdrawn.0.max(0).checked_add(i128::from(dearest) - 1).unwrap_or(i128::MAX);
            used.insert(period, buys(credit, dearest).unwrap_or(0));
        }
        let steps = instants.into_iter().map(|at| (at, beyond(at))).collect();
        Ok(Room { steps, used, open: self.open()? })
    }

    /// What no credit paid for, in money, by the period that it is booked for; those with a statement
    /// left out.
    ///
    /// # Errors
    /// When a row means nothing.
    pub fn overdrawn(&self, prices: &PriceLists) -> Result<BTreeMap<Period, Exact>> {
        let mut sums: BTreeMap<Period, Exact> = BTreeMap::new();
        for total in &self.totals {
            if total.account == Account::Overage.as_str() && !total.pricing_version.is_empty() {
                let version = prices.get(&total.pricing_version)?;
                let sum = sums.entry(period(total.booked_from)?).or_default();
                sum.0 += Exact::of(-total.amount, version.nano_currency_per_credit).0;
            }
        }
        Ok(sums)
    }
}

/// The nano-credits that so much money buys; none where credit costs nothing.
fn buys(exact: i128, price: i64) -> Option<i64> {
    let credit = exact.max(0).checked_div(i128::from(price))?;
    Some(i64::try_from(credit).unwrap_or(i64::MAX))
}

/// Reads the books of these accounts. Within a transaction that settles, their meters are held.
///
/// # Errors
/// When the database does not answer or a row means nothing.
pub async fn read(
    c: &impl ConnectionTrait,
    billing: &Billing,
    prices: &PriceLists,
    accounts: Vec<AccountRow>,
    now: DateTime<Utc>,
    lock: Lock,
) -> Result<Vec<Book>> {
    let orgs: Vec<_> = accounts.iter().map(|a| OrganizationId::from_uuid(a.org_id)).collect();
    if orgs.is_empty() {
        return Ok(Vec::new());
    }
    let mut grants: BTreeMap<Uuid, Vec<Grant>> = BTreeMap::new();
    for row in billing.grants_left(c, &orgs).await? {
        grants.entry(row.org_id).or_default().push(grant(&row)?);
    }
    let mut measures: BTreeMap<Uuid, Vec<Measure>> = BTreeMap::new();
    for measure in timed(c, billing, prices, &orgs, lock).await? {
        measures.entry(measure.row.org_id).or_default().push(measure);
    }
    for measure in counted(c, billing, prices, &orgs).await? {
        measures.entry(measure.row.org_id).or_default().push(measure);
    }
    let mut totals: BTreeMap<Uuid, Vec<TotalRow>> = BTreeMap::new();
    let open = accounts.iter().map(|account| account.open_from).min();
    let open = period(open.unwrap_or_else(|| now.timestamp_micros()))?.min(Period::of(now));
    for row in billing.totals_since(c, &orgs, open.start()).await? {
        totals.entry(row.org_id).or_default().push(row);
    }
    let mut changes: BTreeMap<Uuid, Vec<ChangeRow>> = BTreeMap::new();
    for row in billing.changes_of_terms(c, &orgs).await? {
        changes.entry(row.org_id).or_default().push(row);
    }
    let mut books = Vec::with_capacity(accounts.len());
    for account in accounts {
        let org = account.org_id;
        let mut grants = grants.remove(&org).unwrap_or_default();
        credit::sort(&mut grants);
        // As everywhere: a plan that this version does not know opens no more than the smallest.
        let plan = |name: &str| name.parse().unwrap_or(Plan::Free);
        let next_plan = account.next_plan.as_deref().zip(account.next_plan_at);
        books.push(Book {
            org: OrganizationId::from_uuid(org),
            plan: plan(&account.plan),
            next_plan: next_plan
                .map(|(name, at)| Ok::<_, crate::app::error::Error>((plan(name), instant(at)?)))
                .transpose()?,
            grants,
            measures: measures.remove(&org).unwrap_or_default(),
            totals: totals.remove(&org).unwrap_or_default(),
            terms: History::of(&changes.remove(&org).unwrap_or_default())?,
            account,
        });
    }
    Ok(books)
}

/// Meters of time, with the activity of those whose idle time has a price of its own.
async fn timed(
    c: &impl ConnectionTrait,
    billing: &Billing,
    prices: &PriceLists,
    orgs: &[OrganizationId],
    lock: Lock,
) -> Result<Vec<Measure>> {
    let rows = billing.unsettled_meters(c, orgs, lock).await?;
    let mut with_activity = Vec::new();
    for row in &rows {
        if prices.get(&row.pricing_version)?.idle_factor_milli != 1000 {
            with_activity.push(row.sandbox_id);
        }
    }
    let mut spans: BTreeMap<Uuid, Vec<Span>> = BTreeMap::new();
    if !with_activity.is_empty() {
        for row in billing.active_spans(c, &with_activity).await? {
            let until = row.finished_at.map_or(Ok(DateTime::<Utc>::MAX_UTC), instant)?;
            let span = Span { from: instant(row.started_at)?, until };
            spans.entry(row.sandbox_id).or_default().push(span);
        }
    }
    rows.into_iter()
        .map(|row| {
            let active = merge(spans.remove(&row.sandbox_id).unwrap_or_default());
            let ends_at = row.closed_at.map_or(row.expires_at, |at| at);
            let source = Source::Time {
                opened_at: instant(row.opened_at)?,
                ends_at: instant(ends_at)?,
                multiplier_milli: row.multiplier_milli,
                active,
            };
            let pricing = Arc::clone(prices.get(&row.pricing_version)?);
            Ok(Measure { meter: meter(&row, pricing, source)?, row, counts: Vec::new() })
        })
        .collect()
}

/// Meters of counts that have something to settle.
async fn counted(
    c: &impl ConnectionTrait,
    billing: &Billing,
    prices: &PriceLists,
    orgs: &[OrganizationId],
) -> Result<Vec<Measure>> {
    let mut counts: BTreeMap<(Uuid, String), Vec<CountRow>> = BTreeMap::new();
    for row in billing.unsettled_counts(c, orgs, MAX_COUNTS).await? {
        counts.entry((row.sandbox_id, row.metric.clone())).or_default().push(row);
    }
    if counts.is_empty() {
        return Ok(Vec::new());
    }
    let mut sandboxes: Vec<Uuid> = counts.keys().map(|(sandbox, _)| *sandbox).collect();
    sandboxes.dedup();
    let known = billing.counted_meters(c, &sandboxes).await?;
    let mut known: BTreeMap<_, _> =
        known.into_iter().map(|row| ((row.sandbox_id, row.metric.clone()), row)).collect();
    let mut measures = Vec::with_capacity(counts.len());
    for (key, rows) in counts {
        let Some(first) = rows.first() else { continue };
        let row = known.remove(&key).unwrap_or_else(|| new_counter(first));
        let mut source = Vec::with_capacity(rows.len());
        let mut ids = Vec::with_capacity(rows.len());
        for row in &rows {
            let at = instant(row.at)?;
            source.push(Count { at, amount: row.amount });
            ids.push((row.id, at));
        }
        let pricing: Arc<PricingVersion> = Arc::clone(prices.get(&row.pricing_version)?);
        let meter = meter(&row, pricing, Source::Counted(source))?;
        measures.push(Measure { meter, row, counts: ids });
    }
    Ok(measures)
}

/// The meter of something that is counted in a sandbox for the first time.
fn new_counter(first: &CountRow) -> MeterRow {
    let at = first.sandbox_created_at;
    MeterRow {
        sandbox_id: first.sandbox_id,
        org_id: first.org_id,
        project_id: first.project_id,
        metric: first.metric.clone(),
        opened_at: at,
        // It is never waited for: what it counts says itself that it is not settled.
        closed_at: Some(at),
        multiplier_milli: 1000,
        pricing_version: first.pricing_version.clone(),
        settled_until: at,
        settled_quantity: 0,
        settled_amount: 0,
        n_parts: 0,
        expires_at: at,
        seen_alive_at: None,
    }
}

fn meter(row: &MeterRow, pricing: Arc<PricingVersion>, source: Source) -> Result<Meter> {
    Ok(Meter {
        sandbox: SandboxId::from_uuid(row.sandbox_id),
        project: ProjectId::from_uuid(row.project_id),
        metric: word::<Metric>(&row.metric, "a meter's metric")?,
        pricing,
        source,
        settled: Settled {
            until: instant(row.settled_until)?,
            quantity_milli: row.settled_quantity,
            amount: row.settled_amount,
            n_parts: row.n_parts,
        },
    })
}
