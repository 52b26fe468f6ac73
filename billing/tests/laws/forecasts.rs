//! Forecasts: what is said about the future is what comes, to the microsecond.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

use billing::{
    credit::Grant,
    forecast::{Beyond, Room, credit_left, left, stop},
    ledger::Account,
    meter::{Grid, Meter, Settled, Source},
    period::Period,
};
use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;

use crate::given::{at, cases, end, grants, grid_of, instant, meters, settle};

/// After the end of the last period that a forecast looks at.
fn late() -> DateTime<Utc> {
    at(0) + TimeDelta::days(70)
}

/// An organization at an instant: what it has, what runs, and up to when that is settled.
#[derive(Debug, Clone)]
struct Org {
    grants: Vec<Grant>,
    meters: Vec<Meter>,
}

impl Org {
    /// Settles, and says what no credit paid for: before, in and after the period of `now`.
    fn settle(&mut self, until: DateTime<Utc>, now: DateTime<Utc>) -> [i64; 3] {
        let settlement = settle(&mut self.grants, &mut self.meters, until, daily());
        let mut over = [0; 3];
        for transaction in &settlement.transactions {
            let place = place(transaction.heading().booked.start(), now);
            let postings = transaction.postings().iter().filter(|p| p.account == Account::Overage);
            over[place] -= postings.map(|posting| posting.amount).sum::<i64>();
        }
        over
    }

    fn credit(&self, now: DateTime<Utc>) -> i64 {
        let valid = self.grants.iter().filter(|g| g.starts_at <= now);
        let valid = valid.filter(|g| g.expires_at.is_none_or(|at| now < at));
        valid.map(|grant| grant.remaining).sum()
    }
}

/// Lets every second of a meter cost a nano-credit or more, from its first on.
fn costs_each_second(meter: &mut Meter) {
    let Source::Time { multiplier_milli, opened_at, .. } = &mut meter.source else { return };
    meter.settled = Settled { until: *opened_at, quantity_milli: 0, amount: 0, n_parts: 0 };
    *multiplier_milli = 1000.max(*multiplier_milli);
    let pricing = Arc::make_mut(&mut meter.pricing);
    pricing.idle_factor_milli = pricing.idle_factor_milli.max(1);
    let seconds = &mut pricing.compute_unit_seconds_per_credit;
    *seconds = 1_000_000.min(*seconds);
}

/// 0 before the period that `now` lies in, 1 in it, 2 after it.
fn place(at: DateTime<Utc>, now: DateTime<Utc>) -> usize {
    match Period::of(at).cmp(&Period::of(now)) {
        Ordering::Less => 0,
        Ordering::Equal => 1,
        Ordering::Greater => 2,
    }
}

fn daily() -> Grid {
    grid_of(86_400)
}

/// An organization of which everything was settled by then; some of its sandboxes go on for months.
fn org() -> impl Strategy<Value = (Org, DateTime<Utc>)> {
    let lasting = proptest::collection::vec(any::<bool>(), 4);
    (grants(), meters(), lasting, instant()).prop_map(|(grants, meters, lasting, settled)| {
        let mut org = Org { grants, meters };
        for (meter, lasts) in org.meters.iter_mut().zip(lasting) {
            if let Source::Time { ends_at, .. } = &mut meter.source
                && lasts
            {
                *ends_at = late() + TimeDelta::days(1);
            }
        }
        org.settle(settled, settled);
        (org, settled)
    })
}

/// Room in the period that an instant lies in, and in each other; none = without end.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    now: Option<i64>,
    later: Option<i64>,
}

impl Bounds {
    const NONE: Self = Self { now: Some(0), later: Some(0) };

    fn at(self, now: DateTime<Utc>) -> Room {
        let beyond = |room: Option<i64>| room.map_or(Beyond::Unlimited, Beyond::UpTo);
        let (period, epoch) = (Period::of(now), DateTime::UNIX_EPOCH);
        let (now, later) = (beyond(self.now), beyond(self.later));
        let steps = vec![(epoch, later), (period.start(), now), (period.end(), later)];
        Room { steps, ..Room::always(later) }
    }
}

fn room() -> impl Strategy<Value = Bounds> {
    let some = || (0..20_000_000_000_i64).prop_map(Some);
    let bound = || prop_oneof![2 => Just(Some(0)), 2 => some(), 1 => Just(None)];
    prop_oneof![
        2 => Just(Bounds::NONE),
        3 => (bound(), bound()).prop_map(|(now, later)| Bounds { now, later }),
    ]
}

fn within(over: [i64; 3], room: Bounds) -> bool {
    let rooms = [room.later, room.now, room.later];
    over.iter().zip(rooms).all(|(over, room)| room.is_none_or(|room| *over <= room))
}

proptest! {
    #![proptest_config(cases(1500))]

    /// Settling up to the predicted instant leaves nothing unpaid beyond the room there is, in any
    /// period; there, credit and room are used up to the last nano-credit, or a microsecond more of
    /// what runs would be too much. If nothing is predicted, nothing happens.
    #[test]
    fn everything_can_run_until_the_stop_and_no_longer(
        (org, settled) in org(),
        ahead in instant(),
        room in room(),
    ) {
        let now = settled.max(ahead);
        let predicted = stop(&org.grants, &org.meters, &room.at(now), now).unwrap();
        let Some(stop) = predicted else {
            let horizon = Period::of(now).next().end();
            prop_assert!(within(org.clone().settle(horizon, now), room), "it should have stopped");
            return Ok(());
        };
        let mut until = org.clone();
        let over = until.settle(stop, now);
        prop_assert!(within(over, room), "{:?} is over at {}", over, stop);
        let place = place(stop, now);
        let room_then = if place == 1 { room.now } else { room.later };
        let spare = until.credit(stop) + room_then.map_or(0, |room| room - over[place]);
        let mut longer = org.clone();
        let longer = longer.settle(stop + TimeDelta::microseconds(1), now);
        prop_assert!(spare == 0 || !within(longer, room), "{} left at {}", spare, stop);
    }

    /// One more second of anything that costs something each second is too much after the stop.
    #[test]
    fn one_more_second_is_too_much((org, now) in org(), room in room()) {
        let mut org = org;
        org.meters.retain(|meter| matches!(meter.source, Source::Time { .. }));
        for meter in &mut org.meters {
            costs_each_second(meter);
        }
        org.settle(now, now);
        // Credit that comes within that second could pay for it.
        org.grants.retain(|grant| grant.starts_at <= now);
        let Some(stop) = stop(&org.grants, &org.meters, &room.at(now), now).unwrap() else { return Ok(()) };
        let later = stop + TimeDelta::seconds(1);
        let runs = org.meters.iter().any(|meter| {
            let Source::Time { opened_at, ends_at, .. } = meter.source else { return false };
            opened_at <= stop && later <= ends_at
        });
        let same_period = Period::of(stop) == Period::of(later);
        prop_assert!(!runs || !same_period || !within(org.settle(later, now), room));
    }

    /// What is left at an instant, asked before it is settled, is what settling leaves.
    #[test]
    fn what_is_left_is_what_settling_leaves(
        (org, settled) in org(),
        ahead in instant(),
        room in room(),
    ) {
        let now = settled.max(ahead);
        let promised = left(&org.grants, &org.meters, &room.at(now), now).unwrap();
        let credit = credit_left(&org.grants, &org.meters, now).unwrap();
        let mut after = org;
        let over = after.settle(now, now);
        prop_assert_eq!(credit, after.credit(now));
        let room = room.now.map(|room| (room - over[1]).max(0));
        prop_assert_eq!(promised, room.map(|room| after.credit(now) + room));
        let room = Bounds { now: room, later: None };
        prop_assert_eq!(left(&after.grants, &after.meters, &room.at(now), now).unwrap(), promised);
    }
}

proptest! {
    #![proptest_config(cases(500))]

    /// Ticks come when they come, and each stops what must stop: the instant is the one that was
    /// predicted at first, and in no period is more spent than its cap.
    #[test]
    fn ticks_do_not_move_the_stop(
        (org, now) in org(),
        cap in 0..20_000_000_000_i64,
        mut ticks in proptest::collection::vec(instant(), 1..6),
    ) {
        ticks.sort_unstable();
        let room = Bounds { now: Some(cap), later: Some(cap) };
        let predicted = stop(&org.grants, &org.meters, &room.at(now), now).unwrap();
        let (mut org, first, mut now, mut stopped) = (org, now, now, None);
        let mut spent: BTreeMap<Period, i64> = BTreeMap::new();
        for tick in ticks.into_iter().filter(|tick| *tick >= first).chain([end(), late()]) {
            let used = spent.get(&Period::of(now)).copied().unwrap_or(0);
            let room = Bounds { now: Some(cap - used), later: Some(cap) };
            let stop = stop(&org.grants, &org.meters, &room.at(now), now).unwrap();
            stopped = stop.filter(|stop| *stop <= tick);
            now = stopped.unwrap_or(tick);
            let settled = settle(&mut org.grants, &mut org.meters, now, daily());
            for transaction in &settled.transactions {
                let over = transaction.postings().iter().filter(|p| p.account == Account::Overage);
                *spent.entry(transaction.heading().booked).or_default() -=
                    over.map(|posting| posting.amount).sum::<i64>();
            }
            if stopped.is_some() { break; }
        }
        prop_assert!(spent.values().all(|spent| *spent <= cap), "{spent:?}");
        if let Some(predicted) = predicted {
            prop_assert_eq!(stopped, Some(predicted));
        }
    }
}
