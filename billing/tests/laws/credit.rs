//! Credit: which grant pays, for which time, and never more than it has.

use std::collections::BTreeMap;

use billing::{
    credit::{Grant, burn},
    ledger::{Account, Posting},
    period::Period,
    settle::{Settlement, expire},
};
use chrono::{DateTime, Utc};
use domain::id::GrantId;
use proptest::{collection::vec, prelude::*};

use crate::given::{at, cases, end, grant, grants, grid, grid_of, instant, meters, settle, span};

/// What each grant paid, and what none did.
fn paid<'a>(postings: impl IntoIterator<Item = &'a Posting>) -> BTreeMap<Option<GrantId>, i64> {
    let mut paid = BTreeMap::new();
    for posting in postings.into_iter().filter(|posting| posting.account != Account::Usage) {
        *paid.entry(posting.grant).or_default() -= posting.amount;
    }
    paid
}

fn all(settlements: &[Settlement]) -> impl Iterator<Item = &Posting> {
    settlements.iter().flat_map(|s| &s.transactions).flat_map(|t| t.postings())
}

/// The settlements that a series of ticks makes, and what is left of the grants.
fn ticks(
    grants: &[Grant],
    meters: &[billing::meter::Meter],
    until: &[DateTime<Utc>],
    grid: billing::meter::Grid,
) -> (Vec<Settlement>, Vec<Grant>) {
    let (mut grants, mut meters) = (grants.to_vec(), meters.to_vec());
    let settled = until.iter().map(|until| settle(&mut grants, &mut meters, *until, grid));
    (settled.collect(), grants)
}

/// The key that grants are burnt by, written down once more.
fn rank(grant: &Grant) -> (i64, bool, Option<DateTime<Utc>>, GrantId) {
    (grant.priority, grant.expires_at.is_none(), grant.expires_at, grant.id)
}

fn lasts(grant: &Grant, from: DateTime<Utc>, until: DateTime<Utc>) -> bool {
    grant.starts_at <= from && grant.expires_at.is_none_or(|at| at >= until)
}

proptest! {
    #![proptest_config(cases(2000))]

    /// Priority, then expiry, then age; only credit of that time; never more than there is; and
    /// nothing is left unpaid while there is credit.
    #[test]
    fn credit_is_burnt_in_its_order(
        mut grants in grants().prop_shuffle(),
        time in span(),
        amount in prop_oneof![0..2_000_000_000_i64, 0..60_000_000_000_i64],
    ) {
        billing::credit::sort(&mut grants);
        prop_assert!(grants.windows(2).all(|pair| rank(&pair[0]) < rank(&pair[1])));
        let before = grants.clone();
        let (draws, left) = burn(&mut grants, time.from, time.until, amount);
        prop_assert_eq!(draws.iter().map(|draw| draw.amount).sum::<i64>() + left, amount);
        for (place, (before, after)) in before.iter().zip(&grants).enumerate() {
            let drawn = before.remaining - after.remaining;
            let told: Vec<_> = draws.iter().filter(|draw| draw.grant == place).collect();
            prop_assert_eq!(told.iter().map(|draw| draw.amount).sum::<i64>(), drawn);
            prop_assert!(told.len() <= 1 && told.iter().all(|draw| draw.amount > 0));
            prop_assert!(after.remaining >= 0 && drawn >= 0);
            prop_assert!(drawn == 0 || lasts(before, time.from, time.until));
            // Whoever comes later in the order pays only when this one is used up.
            let later: i64 = draws.iter().filter(|d| d.grant > place).map(|d| d.amount).sum();
            if lasts(before, time.from, time.until) && later + left > 0 {
                prop_assert_eq!(after.remaining, 0);
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(600))]

    /// However often an organization is settled, the same grants pay the same for its usage.
    #[test]
    fn cutting_anywhere_burns_the_same_credit(
        grants in grants(),
        meters in meters(),
        mut until in vec(instant(), 0..6),
        grid in grid(),
    ) {
        until.sort_unstable();
        until.push(end());
        let (once, left_once) = ticks(&grants, &meters, &[end()], grid_of(3600));
        let (often, left_often) = ticks(&grants, &meters, &until, grid);
        prop_assert_eq!(left_once, left_often);
        prop_assert_eq!(paid(all(&once)), paid(all(&often)));
    }

    /// Every window is paid once, by credit or as overage; no grant pays more than it has, and none
    /// for a time that is not its own.
    #[test]
    fn usage_is_paid_once(
        grants in grants(),
        meters in meters(),
        mut until in vec(instant(), 0..4),
        grid in grid(),
    ) {
        until.sort_unstable();
        let (settlements, left) = ticks(&grants, &meters, &until, grid);
        for settlement in &settlements {
            for (place, transaction) in settlement.transactions.iter().enumerate() {
                let windows = settlement.windows.iter().filter(|w| w.transaction == Some(place));
                let cost: i64 = windows.clone().map(|window| window.piece.amount).sum();
                let postings = transaction.postings();
                prop_assert_eq!(paid(postings).values().sum::<i64>(), cost);
                prop_assert_eq!(postings.iter().map(|p| i128::from(p.amount)).sum::<i128>(), 0);
                for window in windows {
                    prop_assert_eq!(Some(&window.pricing), transaction.heading().pricing.as_ref());
                    prop_assert_eq!(Period::of(window.piece.from), transaction.heading().booked);
                    let paid = paid(postings);
                    for grant in grants.iter().filter(|grant| paid.contains_key(&Some(grant.id))) {
                        prop_assert!(lasts(grant, window.piece.from, window.piece.until));
                    }
                }
            }
            let free = settlement.windows.iter().filter(|window| window.transaction.is_none());
            prop_assert_eq!(free.map(|window| window.piece.amount).sum::<i64>(), 0);
        }
        let paid = paid(all(&settlements));
        for (before, after) in grants.iter().zip(&left) {
            let drawn = paid.get(&Some(before.id)).copied().unwrap_or(0);
            prop_assert_eq!(before.remaining - drawn, after.remaining);
            prop_assert!(after.remaining >= 0 && before.amount == after.amount);
        }
    }

    /// Credit without end pays for exactly what was used while it lasted, to the microsecond, and when
    /// it expires that instant is what the ledger says.
    #[test]
    fn credit_expires_at_its_instant(
        grant in grant(1),
        meters in meters(),
        time in span(),
        ticked in instant(),
        grid in grid(),
    ) {
        let amount = i64::MAX / 4;
        let (starts_at, expires_at) = (time.from, Some(time.until));
        let grant = Grant { amount, remaining: amount, starts_at, expires_at, ..grant };
        let (_, mut left) = ticks(&[grant], &meters, &[ticked, end(), end()], grid);
        let mut cost = 0;
        for meter in &meters {
            cost += meter.unsettled(time.until).unwrap() - meter.unsettled(time.from).unwrap();
        }
        prop_assert_eq!(left[0].remaining, amount - cost);
        let open = Period::of(at(0));
        let tick = chrono::TimeDelta::microseconds(1);
        prop_assert_eq!(expire(&mut left, time.until - tick, open, "").unwrap(), []);
        let expired = expire(&mut left, time.until, open, "").unwrap();
        prop_assert_eq!((expired.len(), expired[0].1.heading().at), (1, time.until));
        prop_assert_eq!(expired[0].1.postings()[0].amount, cost - amount);
        prop_assert_eq!(left[0].remaining, 0);
        prop_assert_eq!(expire(&mut left, end(), open, "").unwrap(), [], "it expires once");
    }

    /// Credit that comes - a plan that changes, a purchase - pays for nothing that was used before it
    /// starts, and leaves every window, line and payment of before as it is.
    #[test]
    fn new_credit_touches_nothing_earlier(
        grants in grants(),
        new in grant(9),
        meters in meters(),
        changed in instant(),
        grid in grid(),
    ) {
        let mut more = grants.clone();
        more.push(Grant { starts_at: changed, expires_at: None, ..new });
        billing::credit::sort(&mut more);
        let until = [changed, end()];
        let (without, _) = ticks(&grants, &meters, &until, grid);
        let (with, _) = ticks(&more, &meters, &until, grid);
        let earlier = |settlements: &[Settlement]| -> Vec<_> {
            let settlements = settlements.iter();
            let early = settlements.flat_map(|s| s.windows.iter().map(move |w| (s, w)));
            let early = early.filter(|(_, window)| window.piece.until <= changed);
            let payment = |(s, window): (&Settlement, &billing::settle::Window)| {
                let place = window.transaction;
                (window.clone(), place.map(|place| s.transactions[place].clone()))
            };
            early.map(payment).collect()
        };
        let (without, with) = (earlier(&without), earlier(&with));
        // Counts of the window that the change cuts are in a shorter one, so they may be missing here.
        for (window, payment) in &with {
            let same = without.iter().find(|(other, _)| other.piece.from == window.piece.from
                && (other.sandbox, other.metric) == (window.sandbox, window.metric)
                && other.piece.until == window.piece.until);
            if let Some((_, other)) = same {
                prop_assert_eq!(paid(payment.iter().flat_map(|t| t.postings())),
                    paid(other.iter().flat_map(|t| t.postings())));
            }
            let drawn = payment.iter().flat_map(|t| t.postings()).any(|p| p.grant == Some(new.id));
            prop_assert!(!drawn, "new credit paid for what was before it");
        }
    }
}
