//! Settles usage: cuts what meters measured into windows, pays for them with credit in its order, and
//! writes what nothing paid for as overage. Also the transactions of credit that comes and goes.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    id::{GrantId, ProjectId, SandboxId, TransactionId},
    metric::Metric,
};

use crate::{
    Result,
    credit::{self, Grant},
    error::narrow,
    ledger::{Account, Heading, Kind, Posting, Transaction},
    meter::{Grid, Meter, Piece},
    period::Period,
};

/// A meter, and how far it may be settled now: not past what is known of its sandbox's life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    /// The meter.
    pub meter: Meter,
    /// Up to here.
    pub until: DateTime<Utc>,
}

/// A window of usage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Whose usage it is.
    pub sandbox: SandboxId,
    /// The project of the sandbox.
    pub project: ProjectId,
    /// What was measured.
    pub metric: Metric,
    /// The version that prices it.
    pub pricing: String,
    /// When, how much, for how much.
    pub piece: Piece,
    /// The transaction that books it, by its place; none when it costs nothing.
    pub transaction: Option<usize>,
    /// The period whose statement shows it.
    pub booked: Period,
}

/// What usage is summed up by for statements.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// The period whose statement shows it.
    pub booked: Period,
    /// The period that it happened in: an earlier one makes it an adjustment.
    pub used: Period,
    /// The project.
    pub project: ProjectId,
    /// The metric.
    pub metric: Metric,
    /// The pricing version.
    pub pricing: String,
}

/// How much of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Used {
    /// In thousandths of a unit.
    pub quantity_milli: i64,
    /// In nano-credits.
    pub amount: i64,
}

/// The outcome of a settlement. Grants and meters were changed where they are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settlement {
    /// The windows.
    pub windows: Vec<Window>,
    /// The transactions that book them.
    pub transactions: Vec<Transaction>,
}

impl Settlement {
    /// What it adds to the lines of statements.
    ///
    /// # Errors
    /// [`crate::Error::Overflow`].
    pub fn lines(&self) -> Result<BTreeMap<Line, Used>> {
        let mut lines: BTreeMap<Line, Used> = BTreeMap::new();
        for window in &self.windows {
            let line = Line {
                booked: window.booked,
                used: Period::of(window.piece.from),
                project: window.project,
                metric: window.metric,
                pricing: window.pricing.clone(),
            };
            let used = lines.entry(line).or_default();
            let add = |a: i64, b: i64| narrow(i128::from(a) + i128::from(b), "a total");
            used.quantity_milli = add(used.quantity_milli, window.piece.quantity_milli)?;
            used.amount = add(used.amount, window.piece.amount)?;
        }
        Ok(lines)
    }
}

/// The instants that no window may contain: beginnings of months, and of and after grants.
fn boundaries(grants: &[Grant], from: DateTime<Utc>, until: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    let mut boundaries = Vec::new();
    let mut month = Period::of(from);
    while month.start() <= until {
        boundaries.push(month.start());
        month = month.next();
    }
    for grant in grants {
        boundaries.push(grant.starts_at);
        boundaries.extend(grant.expires_at);
    }
    boundaries.sort_unstable();
    boundaries.dedup();
    boundaries
}

/// Settles an organization's meters with its grants, which must be in the order of
/// [`credit::sort`]. `open` is its first period without a statement.
///
/// # Errors
/// [`crate::Error::Overflow`].
pub fn settle(
    grants: &mut [Grant],
    meters: &mut [Measured],
    open: Period,
    grid: Grid,
) -> Result<Settlement> {
    let first = meters.iter().map(|measured| earliest(&measured.meter)).min();
    let last = meters.iter().map(|measured| measured.until).max();
    let (Some(first), Some(last)) = (first, last) else { return Ok(Settlement::default()) };
    let boundaries = boundaries(grants, first, last);
    // Windows that no boundary divides from each other and that have one price list are paid together.
    let mut groups: BTreeMap<(usize, DateTime<Utc>, String), Vec<Window>> = BTreeMap::new();
    for Measured { meter, until } in meters {
        for piece in meter.settle(*until, &boundaries, grid)? {
            let segment = boundaries.partition_point(|boundary| *boundary <= piece.from);
            let key = (segment, meter.pricing.valid_from, meter.pricing.name.clone());
            groups.entry(key).or_default().push(Window {
                sandbox: meter.sandbox,
                project: meter.project,
                metric: meter.metric,
                pricing: meter.pricing.name.clone(),
                booked: Period::of(piece.from).max(open),
                piece,
                transaction: None,
            });
        }
    }
    let mut settlement = Settlement::default();
    for ((_, _, pricing), mut windows) in groups {
        windows.sort_by_key(|w| (w.sandbox, w.metric, w.piece.from, w.piece.part));
        if let Some(transaction) = pay(grants, &windows, pricing)? {
            let place = settlement.transactions.len();
            for window in windows.iter_mut().filter(|window| window.piece.amount > 0) {
                window.transaction = Some(place);
            }
            settlement.transactions.push(transaction);
        }
        settlement.windows.append(&mut windows);
    }
    Ok(settlement)
}

fn earliest(meter: &Meter) -> DateTime<Utc> {
    match &meter.source {
        crate::meter::Source::Time { .. } => meter.settled.until,
        crate::meter::Source::Counted(counts) => {
            counts.iter().map(|count| count.at).min().unwrap_or(meter.settled.until)
        }
    }
}

/// Books windows that are paid together; none when they cost nothing.
fn pay(grants: &mut [Grant], windows: &[Window], pricing: String) -> Result<Option<Transaction>> {
    let total: i128 = windows.iter().map(|window| i128::from(window.piece.amount)).sum();
    let total = narrow(total, "a total")?;
    let first = windows.iter().find(|window| window.piece.amount > 0);
    let (Some(first), true) = (first, total > 0) else { return Ok(None) };
    // What is free of charge has no say in when this happened.
    let paid = || windows.iter().filter(|window| window.piece.amount > 0);
    let from = paid().map(|window| window.piece.from).min().unwrap_or(first.piece.from);
    let until = paid().map(|window| window.piece.until).max().unwrap_or(first.piece.until);
    let heading = Heading {
        kind: Kind::Usage,
        key: format!(
            "usage:{}:{}:{}:{}",
            first.sandbox,
            first.metric.as_str(),
            first.piece.from.timestamp_micros(),
            first.piece.part
        ),
        at: until,
        booked: first.booked,
        pricing: Some(pricing),
        corrects: None,
        reason: None,
    };
    let (mut postings, left) = burn(grants, from, until, total);
    if left > 0 {
        postings.push(Posting::to(Account::Overage, -left));
    }
    postings.push(Posting::to(Account::Usage, total));
    Transaction::new(heading, postings).map(Some)
}

fn burn(
    grants: &mut [Grant],
    from: DateTime<Utc>,
    until: DateTime<Utc>,
    amount: i64,
) -> (Vec<Posting>, i64) {
    let (draws, left) = credit::burn(grants, from, until, amount);
    let paid = |draw: credit::Draw| {
        let grant = &grants[draw.grant];
        Posting::credit(grant.kind, grant.id, -draw.amount)
    };
    (draws.into_iter().map(paid).collect(), left)
}

/// The transaction with which a grant's credit comes.
///
/// # Errors
/// [`crate::Error::Empty`] for a grant of nothing.
pub fn grant(
    grant: &Grant,
    key: String,
    at: DateTime<Utc>,
    open: Period,
    reason: Option<String>,
) -> Result<Transaction> {
    let heading = Heading {
        kind: Kind::Grant,
        key,
        at,
        booked: Period::of(at).max(open),
        pricing: None,
        corrects: None,
        reason,
    };
    let postings = vec![
        Posting::to(Account::Issued, -grant.amount),
        Posting::credit(grant.kind, grant.id, grant.amount),
    ];
    Transaction::new(heading, postings)
}

/// Takes back what is left of grants whose time was over at `settled`, an instant up to which all
/// their usage is settled. `again` tells the transactions from earlier ones of the same grants, which
/// got credit back after they had ended; else it is empty.
///
/// # Errors
/// None that can be provoked: what is left of a grant is more than nothing.
pub fn expire(
    grants: &mut [Grant],
    settled: DateTime<Utc>,
    open: Period,
    again: &str,
) -> Result<Vec<(GrantId, Transaction)>> {
    let mut expired = Vec::new();
    for grant in grants {
        let Some(at) = grant.expires_at.filter(|at| *at <= settled && grant.remaining > 0) else {
            continue;
        };
        let heading = Heading {
            kind: Kind::Expiry,
            key: format!("expiry:{}{again}", grant.id),
            at,
            booked: Period::of(at).max(open),
            pricing: None,
            corrects: None,
            reason: None,
        };
        let postings = vec![
            Posting::credit(grant.kind, grant.id, -grant.remaining),
            Posting::to(Account::Expired, grant.remaining),
        ];
        grant.remaining = 0;
        expired.push((grant.id, Transaction::new(heading, postings)?));
    }
    Ok(expired)
}

/// Takes back `amount` of what is left of a grant. The heading says which transaction its credit came
/// with: that is what is corrected.
///
/// # Errors
/// [`crate::Error::Empty`] for nothing; [`crate::Error::Overflow`] when less is left. Then the grant is
/// as it was.
pub fn take_back(grant: &mut Grant, amount: i64, heading: Heading) -> Result<Transaction> {
    let left = grant.remaining.checked_sub(amount).filter(|left| *left >= 0);
    let left = left.ok_or(crate::Error::Overflow("a correction"))?;
    let postings =
        vec![Posting::credit(grant.kind, grant.id, -amount), Posting::to(Account::Issued, amount)];
    let transaction = Transaction::new(heading, postings)?;
    grant.remaining = left;
    Ok(transaction)
}

/// A transaction that is to be corrected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong<'a> {
    /// Its id.
    pub id: TransactionId,
    /// Its postings.
    pub postings: &'a [Posting],
    /// The version that priced it.
    pub pricing: Option<String>,
}

/// Gives back `amount` of what a usage transaction took: overage first, then the credit that was
/// burnt last. Credit whose time is over comes back, too; [`expire`] takes it again.
///
/// # Errors
/// [`crate::Error::Empty`] for nothing; [`crate::Error::Overflow`] when it took less. Then no grant was
/// changed.
pub fn give_back(
    grants: &mut [Grant],
    wrong: &Wrong<'_>,
    amount: i64,
    heading: Heading,
) -> Result<Transaction> {
    let taken: Vec<Posting> =
        wrong.postings.iter().rev().filter(|posting| posting.amount < 0).copied().collect();
    if taken.iter().map(|posting| -i128::from(posting.amount)).sum::<i128>() < i128::from(amount) {
        return Err(crate::Error::Overflow("a correction"));
    }
    let mut left = amount;
    let mut postings = Vec::new();
    for posting in taken {
        let back = left.min(-posting.amount);
        if back == 0 {
            break;
        }
        left -= back;
        if let Some(grant) = grants.iter_mut().find(|grant| Some(grant.id) == posting.grant) {
            grant.remaining += back;
        }
        postings.push(Posting { amount: back, ..posting });
    }
    postings.push(Posting::to(Account::Usage, -amount));
    Transaction::new(Heading { corrects: Some(wrong.id), ..heading }, postings)
}

/// Takes `amount` more for usage that a transaction booked too low, from the credit of `now`.
///
/// # Errors
/// [`crate::Error::Empty`] for nothing.
pub fn take_more(
    grants: &mut [Grant],
    wrong: &Wrong<'_>,
    amount: i64,
    heading: Heading,
    now: DateTime<Utc>,
) -> Result<Transaction> {
    // The shortest time there is: credit that begins now pays, credit that ends now does not.
    let (mut postings, left) = burn(grants, now, now + TimeDelta::microseconds(1), amount);
    if left > 0 {
        postings.push(Posting::to(Account::Overage, -left));
    }
    postings.push(Posting::to(Account::Usage, amount));
    Transaction::new(Heading { corrects: Some(wrong.id), ..heading }, postings)
}
