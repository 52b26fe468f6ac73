//! When credit or a spend cap ends if everything that runs goes on running, to the microsecond.

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    Result,
    credit::{self, Grant},
    error::narrow,
    meter::{Meter, Source},
    period::Period,
};

/// How much usage may go beyond credit, in nano-credits; `None` = without end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// In the period that `now` lies in.
    pub now: Option<i64>,
    /// In each other period: those after it, and one before it of which not everything is settled.
    pub later: Option<i64>,
}

impl Room {
    /// None at all: credit is all there is.
    pub const NONE: Self = Self { now: Some(0), later: Some(0) };

    fn within(self, current: Period, at: DateTime<Utc>) -> Option<i64> {
        if Period::of(at) == current { self.now } else { self.later }
    }
}

/// What all meters together cost at `at` beyond what is settled.
fn cost(meters: &[Meter], at: DateTime<Utc>) -> Result<i128> {
    let mut sum = 0;
    for meter in meters {
        sum += i128::from(meter.unsettled(at)?);
    }
    Ok(sum)
}

fn covering(grants: &[Grant], from: DateTime<Utc>, until: DateTime<Utc>) -> i128 {
    let covering = grants.iter().filter(|grant| grant.covers(from, until));
    covering.map(|grant| i128::from(grant.remaining)).sum()
}

/// What could still be spent at `now` after everything measured up to then is paid, in nano-credits;
/// `None` = without end. Not below zero.
///
/// # Errors
/// [`crate::Error::Overflow`].
pub fn left(
    grants: &[Grant],
    meters: &[Meter],
    room: Room,
    now: DateTime<Utc>,
) -> Result<Option<i64>> {
    let Some(room) = room.now else { return Ok(None) };
    let (grants, over) = paid(grants, meters, now)?;
    let tick = now + TimeDelta::microseconds(1);
    // Who spent more than the room still has all the credit: overage is not paid by it.
    let left = covering(&grants, now, tick) + (i128::from(room) - over).max(0);
    narrow(left, "what is left").map(Some)
}

/// The credit that is left at `now` after everything measured up to then is paid, whatever may be
/// spent beyond it.
///
/// # Errors
/// [`crate::Error::Overflow`].
pub fn credit_left(grants: &[Grant], meters: &[Meter], now: DateTime<Utc>) -> Result<i64> {
    let (grants, _) = paid(grants, meters, now)?;
    narrow(covering(&grants, now, now + TimeDelta::microseconds(1)), "what is left")
}

/// The grants after they have paid for everything up to `now`, and what they could not pay for in the
/// period that it lies in.
fn paid(grants: &[Grant], meters: &[Meter], now: DateTime<Utc>) -> Result<(Vec<Grant>, i128)> {
    let mut grants = grants.to_vec();
    let (mut from, mut before, mut over) = (start(meters, now), 0, 0);
    for until in instants(&grants, from, now) {
        let (after, unpaid) = spend(&mut grants, meters, from, until, before)?;
        if Period::of(from) == Period::of(now) {
            over += i128::from(unpaid);
        }
        (before, from) = (after, until);
    }
    Ok((grants, over))
}

/// The first instant that is not settled of what runs or was counted; not after `now`.
fn start(meters: &[Meter], now: DateTime<Utc>) -> DateTime<Utc> {
    let first = meters.iter().filter_map(|meter| match &meter.source {
        Source::Time { ends_at, .. } => {
            Some(meter.settled.until).filter(|settled| settled < ends_at)
        }
        Source::Counted(counts) => counts.iter().map(|count| count.at).min(),
    });
    first.min().map_or(now, |first| first.min(now))
}

/// Beginnings of months and of and after grants in `(from, until)`, then `until`.
fn instants(grants: &[Grant], from: DateTime<Utc>, until: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    let mut instants = vec![until];
    let mut month = Period::of(from).next();
    while month.start() < until {
        instants.push(month.start());
        month = month.next();
    }
    for grant in grants {
        instants.push(grant.starts_at);
        instants.extend(grant.expires_at);
    }
    instants.retain(|at| from < *at && *at <= until);
    instants.sort_unstable();
    instants.dedup();
    instants
}

/// The instant at which everything must stop, because the next thing that it would cost is paid by
/// nothing; `None` = not before the end of the next period. Credit is used up exactly at that instant,
/// or what is left of it buys no further second of what runs. `grants` are in the order of
/// [`credit::sort`].
///
/// # Errors
/// [`crate::Error::Overflow`].
pub fn stop(
    grants: &[Grant],
    meters: &[Meter],
    room: Room,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>> {
    let mut grants = grants.to_vec();
    let current = Period::of(now);
    let (mut from, mut before, mut over) = (start(meters, now), 0, 0);
    // Room that was used in a period is gone; each has its own.
    let mut period = Period::of(from);
    for until in instants(&grants, from, current.next().end()) {
        if Period::of(from) > period {
            (period, over) = (Period::of(from), 0);
        }
        let Some(room) = room.within(current, from) else {
            before = spend(&mut grants, meters, from, until, before)?.0;
            from = until;
            continue;
        };
        let affordable = covering(&grants, from, until) + i128::from(room) - over;
        if cost(meters, until)? - before > affordable {
            return exhaustion(meters, from, until, before + affordable.max(0)).map(Some);
        }
        let (after, unpaid) = spend(&mut grants, meters, from, until, before)?;
        over += i128::from(unpaid);
        (before, from) = (after, until);
    }
    Ok(None)
}

fn spend(
    grants: &mut [Grant],
    meters: &[Meter],
    from: DateTime<Utc>,
    until: DateTime<Utc>,
    before: i128,
) -> Result<(i128, i64)> {
    let after = cost(meters, until)?;
    let (_, unpaid) = credit::burn(grants, from, until, narrow(after - before, "a cost")?);
    Ok((after, unpaid))
}

/// The last instant in `[from, until)` at which the cost is not more than `affordable`, or the first
/// at which it is just that.
fn exhaustion(
    meters: &[Meter],
    from: DateTime<Utc>,
    until: DateTime<Utc>,
    affordable: i128,
) -> Result<DateTime<Utc>> {
    let (mut low, mut high) = (from, until);
    if cost(meters, low)? >= affordable {
        return Ok(low);
    }
    // The cost never falls; it is below at `low` and not below at `high`.
    while high - low > TimeDelta::microseconds(1) {
        let middle = low + (high - low) / 2;
        let middle = DateTime::from_timestamp_micros(middle.timestamp_micros()).unwrap_or(middle);
        if cost(meters, middle)? >= affordable { high = middle } else { low = middle }
    }
    if cost(meters, high)? == affordable { Ok(high) } else { Ok(low) }
}
