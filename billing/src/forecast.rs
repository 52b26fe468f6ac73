//! When credit or a spend cap ends if everything that runs goes on running, to the microsecond.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    Result,
    credit::{self, Grant},
    error::narrow,
    meter::{Meter, Source},
    period::Period,
};

/// What may go beyond credit from an instant on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beyond {
    /// Nothing: credit is all there is.
    Nothing,
    /// So many nano-credits in each period.
    UpTo(i64),
    /// Whatever is used.
    Unlimited,
}

/// How much usage may go beyond credit, and when. Plans and caps change, and what is not settled yet
/// is judged by what held when it was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// What holds from an instant on, in order. Before the first holds what it says, too.
    pub steps: Vec<(DateTime<Utc>, Beyond)>,
    /// What is settled and went beyond credit, in nano-credits, by the period that it is booked for.
    pub used: BTreeMap<Period, i64>,
    /// The first period without a statement: what happened earlier is booked for it.
    pub open: Period,
}

/// What went beyond credit on top of what is settled, by period.
type Over = BTreeMap<Period, i128>;

impl Room {
    /// The same room at all times, of which nothing is used.
    #[must_use]
    pub fn always(beyond: Beyond) -> Self {
        let used = BTreeMap::new();
        let open = Period::of(DateTime::UNIX_EPOCH);
        Self { steps: vec![(DateTime::UNIX_EPOCH, beyond)], used, open }
    }

    fn beyond(&self, at: DateTime<Utc>) -> Beyond {
        let begun = self.steps.iter().rev().find(|(from, _)| *from <= at);
        begun.or(self.steps.first()).map_or(Beyond::Nothing, |(_, beyond)| *beyond)
    }

    fn booked(&self, at: DateTime<Utc>) -> Period {
        Period::of(at).max(self.open)
    }

    /// What is left at an instant; `None` = without end.
    fn left(&self, at: DateTime<Utc>, over: &Over) -> Option<i128> {
        match self.beyond(at) {
            Beyond::Nothing => Some(0),
            Beyond::Unlimited => None,
            Beyond::UpTo(cap) => {
                let period = self.booked(at);
                let used = i128::from(self.used.get(&period).copied().unwrap_or(0));
                let over = over.get(&period).copied().unwrap_or(0);
                Some((i128::from(cap) - used - over).max(0))
            }
        }
    }

    fn is_endless(&self) -> bool {
        self.steps.iter().all(|(_, beyond)| *beyond == Beyond::Unlimited) && !self.steps.is_empty()
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
    room: &Room,
    now: DateTime<Utc>,
) -> Result<Option<i64>> {
    let (grants, over) = paid(grants, meters, room, now)?;
    let Some(room) = room.left(now, &over) else { return Ok(None) };
    // Who spent more than the room still has all the credit: overage is not paid by it.
    let left = covering(&grants, now, now + TimeDelta::microseconds(1)) + room;
    narrow(left, "what is left").map(Some)
}

/// The credit that is left at `now` after everything measured up to then is paid, whatever may be
/// spent beyond it.
///
/// # Errors
/// [`crate::Error::Overflow`].
pub fn credit_left(grants: &[Grant], meters: &[Meter], now: DateTime<Utc>) -> Result<i64> {
    let (grants, _) = paid(grants, meters, &Room::always(Beyond::Unlimited), now)?;
    narrow(covering(&grants, now, now + TimeDelta::microseconds(1)), "what is left")
}

/// The grants after they have paid for everything up to `now`, and what they could not pay for.
fn paid(
    grants: &[Grant],
    meters: &[Meter],
    room: &Room,
    now: DateTime<Utc>,
) -> Result<(Vec<Grant>, Over)> {
    let mut grants = grants.to_vec();
    let (mut from, mut before, mut over) = (start(meters, now), 0, Over::new());
    for until in instants(&grants, room, from, now) {
        before = spend(&mut grants, meters, (from, until), before, room, &mut over)?;
        from = until;
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

/// Beginnings of months, of steps, and of and after grants in `(from, until)`, then `until`.
fn instants(
    grants: &[Grant],
    room: &Room,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Vec<DateTime<Utc>> {
    let mut instants = vec![until];
    instants.extend(room.steps.iter().map(|(at, _)| *at));
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
    room: &Room,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>> {
    if room.is_endless() {
        return Ok(None);
    }
    let mut grants = grants.to_vec();
    let (mut from, mut before, mut over) = (start(meters, now), 0, Over::new());
    for until in instants(&grants, room, from, Period::of(now).next().end()) {
        if let Some(left) = room.left(from, &over) {
            let affordable = covering(&grants, from, until) + left;
            if cost(meters, until)? - before > affordable {
                return exhaustion(meters, from, until, before + affordable).map(Some);
            }
        }
        before = spend(&mut grants, meters, (from, until), before, room, &mut over)?;
        from = until;
    }
    Ok(None)
}

/// Burns what is spent in a span of time that nothing divides, notes what no credit pays for, and
/// returns what is spent at its end in all.
fn spend(
    grants: &mut [Grant],
    meters: &[Meter],
    (from, until): (DateTime<Utc>, DateTime<Utc>),
    before: i128,
    room: &Room,
    over: &mut Over,
) -> Result<i128> {
    let after = cost(meters, until)?;
    let (_, unpaid) = credit::burn(grants, from, until, narrow(after - before, "a cost")?);
    *over.entry(room.booked(from)).or_default() += i128::from(unpaid);
    Ok(after)
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
