//! Compares what was billed with what the oracle says, to the last unit, and checks that the books are
//! whole.

use std::collections::BTreeMap;

use billing::{
    ledger::{Account, Kind, balances},
    meter::Piece,
    period::Period,
};
use domain::metric::Metric;

use super::{
    base::Base,
    plain::{self, Sums},
    worker::{World, at},
    world::Tally,
};
use crate::given::project;

/// Panics at anything that is not as it must be; adds what was billed.
pub fn audit(world: &World, base: &Base, tally: &mut Tally) {
    sums_are_the_oracle_s(world, base, tally);
    windows_leave_no_gap(world, base);
    journal_folds_to_the_projection(base, tally);
    statements_are_all_there_is(world, base, tally);
}

fn sums_are_the_oracle_s(world: &World, base: &Base, tally: &mut Tally) {
    let mut billed = Sums::new();
    for ((life, metric, ..), window) in &base.windows {
        let number = world.history.lives[*life].project;
        assert_eq!(window.project, project(number));
        let month = Period::of(window.piece.from).to_string();
        let version = window.pricing.parse().expect("its name is its place");
        let sum = billed.entry((number, month, *metric, version)).or_insert((0, 0));
        sum.0 += i128::from(window.piece.quantity_milli);
        sum.1 += i128::from(window.piece.amount);
    }
    assert_eq!(billed, plain::sums(&world.history), "billing (left) and the oracle (right)");
    let sum = |of: fn(&(i128, i128)) -> i128| billed.values().map(of).sum::<i128>();
    tally.quantity_milli = sum(|(quantity, _)| *quantity);
    tally.cost = sum(|(_, cost)| *cost);
}

/// Windows of time follow each other; where there is none, nothing was measured.
fn windows_leave_no_gap(world: &World, base: &Base) {
    for (number, life) in world.history.lives.iter().enumerate() {
        let version = &world.history.versions[plain::pinned(&world.history.versions, life.created)];
        let up_to = |at: i64| plain::compute(life, version, at);
        let mut before = life.opened;
        let time = Metric::ComputeUnitSeconds;
        let windows = base.windows.range((number, time, i64::MIN, 0)..=(number, time, i64::MAX, 0));
        for (_, window) in windows {
            let Piece { from, until, quantity_milli, .. } = window.piece;
            let (from, until) = (from.timestamp_micros(), until.timestamp_micros());
            assert!(before <= from && from < until && until <= life.ended, "{before} {window:?}");
            assert_eq!(up_to(from) - up_to(before), 0, "a gap before {window:?}");
            assert_eq!(up_to(until) - up_to(from), quantity_milli, "{window:?}");
            before = until;
        }
        assert_eq!(up_to(life.ended), up_to(before), "the end of life {number} is missing");
    }
}

fn journal_folds_to_the_projection(base: &Base, tally: &mut Tally) {
    let mut left = BTreeMap::new();
    for transaction in &base.journal {
        let sum: i128 = transaction.postings().iter().map(|p| i128::from(p.amount)).sum();
        assert_eq!(sum, 0, "{transaction:?}");
        for posting in transaction.postings() {
            if let Some(grant) = posting.grant {
                let left = left.entry(grant).or_insert(0);
                *left += posting.amount;
                assert!(*left >= 0, "{grant} is below zero");
            }
        }
    }
    let projection = base.grants.iter().map(|grant| (grant.id, grant.remaining)).collect();
    assert_eq!(left, projection, "the replay (left) and the projection (right)");
    for grant in &base.grants {
        let over = grant.expires_at.is_some_and(|expires| expires <= at(base.known));
        assert!(!over || grant.remaining == 0, "{grant:?} did not expire");
    }
    for window in base.windows.values() {
        assert!(window.booked >= Period::of(window.piece.from));
        assert_eq!(window.transaction.is_some(), window.piece.amount > 0);
    }
    let balances = balances(base.postings()).expect("the amounts are small enough");
    let of = |account| i128::from(balances.get(&account).copied().unwrap_or(0));
    assert_eq!(of(Account::Usage), tally.cost, "the ledger's usage and the windows'");
    assert_eq!(of(Account::Overage), 0, "every overage is invoiced");
    tally.paid = of(Account::Usage) + of(Account::Invoiced);
}

/// Every nano-credit is on one statement, under its own month, and the parts add up.
fn statements_are_all_there_is(world: &World, base: &Base, tally: &Tally) {
    let Some(first) = base.lines.keys().map(|line| line.booked).min() else {
        assert_eq!(tally.cost, 0);
        return;
    };
    let (mut period, mut asked, mut paid) = (first, 0, 0);
    let mut months: BTreeMap<String, i128> = BTreeMap::new();
    while period < base.open {
        let statement = world.statement(base, period);
        let lines: i64 = statement.usage.iter().map(|line| line.minor_units).sum();
        assert_eq!(lines, statement.usage_minor_units);
        assert_eq!(lines, statement.credit_minor_units + statement.due_minor_units);
        for line in &statement.usage {
            let month = line.adjusts.unwrap_or(period).to_string();
            *months.entry(month).or_default() += i128::from(line.credit);
        }
        asked += i128::from(statement.overage);
        paid += statement.credit.iter().map(|line| i128::from(line.credit)).sum::<i128>();
        period = period.next();
    }
    assert_eq!((asked + paid, paid), (tally.cost, tally.paid));
    let mut wanted: BTreeMap<String, i128> = BTreeMap::new();
    for ((_, month, ..), (_, cost)) in plain::sums(&world.history) {
        *wanted.entry(month).or_default() += cost;
    }
    months.retain(|_, cost| *cost > 0);
    wanted.retain(|_, cost| *cost > 0);
    assert_eq!(months, wanted, "statements (left) and the oracle (right)");
    let invoices = base.journal.iter().filter(|t| t.heading().kind == Kind::Statement);
    let invoiced = invoices.flat_map(|t| t.postings()).filter(|p| p.account == Account::Invoiced);
    assert_eq!(-invoiced.map(|p| i128::from(p.amount)).sum::<i128>(), asked);
}
