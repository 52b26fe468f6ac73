//! A worker: reads what is known, has billing compute, and says what is to be written. Between any two
//! of these it may die, be late, or have a clock that is wrong; it keeps nothing in memory.

use std::sync::Arc;

use billing::{
    credit::{Grant, GrantKind},
    ledger::{Account, Kind},
    meter::{Count, Grid, Meter, Source, Span},
    period::Period,
    pricing::{BASE_SIZE, PricingVersion, Rate, Rounding, in_force},
    settle::{Measured, expire, grant, settle},
    statement::{Statement, Total, book, draw_up},
};
use chrono::{DateTime, Utc};
use domain::{id::GrantId, metric::Metric};

use super::{
    base::{Base, Write},
    life::{History, Life, NEVER, Version},
};
use crate::given::{grant_id, project, sandbox};

/// An instant.
pub fn at(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).expect("it is not so far away")
}

/// A history, and what of it billing's words can say once and for all.
pub struct World {
    /// What really happens.
    pub history: History,
    /// Its price lists.
    pub versions: Vec<Arc<PricingVersion>>,
    /// How long windows are.
    pub grid: Grid,
}

impl World {
    /// Says a history in billing's words.
    pub fn of(history: History, grid: Grid) -> Self {
        let versions = history.versions.iter().enumerate();
        let versions = versions.map(|(place, version)| Arc::new(say(place, version))).collect();
        Self { history, versions, grid }
    }

    /// The version of a sandbox.
    pub fn pricing(&self, life: &Life) -> &Arc<PricingVersion> {
        in_force(&self.versions, at(life.created)).expect("the first one is older than everything")
    }

    /// Settles the meters that `wanted` picks up to what a clock says, but not past what is known.
    pub fn settle(&self, base: &Base, clock: i64, wanted: impl Fn(usize) -> bool) -> Write {
        let until = clock.min(base.known);
        let mut write = Write { open: Some((base.open, base.open)), ..Write::default() };
        let (mut rows, mut measured) = (Vec::new(), Vec::new());
        for row in (0..base.meters.len()).filter(|row| wanted(*row)) {
            if let Some(meter) = self.meter(base, row, until, &mut write.counts) {
                rows.push(row);
                measured.push(Measured { meter, until: at(until) });
            }
        }
        let mut grants = base.grants.clone();
        let settled = settle(&mut grants, &mut measured, base.open, self.grid);
        let settled = settled.expect("the amounts are small enough");
        write.lines = settled.lines().expect("the amounts are small enough");
        for (row, measured) in rows.iter().zip(&measured) {
            write.meters.push((*row, base.meters[*row].settled, measured.meter.settled));
        }
        for window in settled.windows {
            let life = rows.iter().map(|row| base.meters[*row].life);
            let life = life.zip(&measured).find(|(_, m)| m.meter.sandbox == window.sandbox);
            write.windows.push((life.expect("it was settled").0, window));
        }
        write.transactions = settled.transactions;
        write.grants = changes(&base.grants, &grants);
        write
    }

    /// A meter as its row and the facts that are known say; none when there is nothing to settle.
    fn meter(&self, base: &Base, row: usize, until: i64, counts: &mut Vec<usize>) -> Option<Meter> {
        let stored = &base.meters[row];
        let life = &self.history.lives[stored.life];
        let source = if stored.metric == Metric::ComputeUnitSeconds {
            let ends_at = if life.ended <= base.known { life.ended } else { life.expires };
            if life.opened > base.known || stored.settled.until >= at(ends_at) {
                return None;
            }
            let begun = life.active.iter().filter(|(from, _)| *from <= base.known);
            let span = |(from, until): &(i64, i64)| Span {
                from: at(*from),
                until: at(if *until <= base.known { *until } else { NEVER }),
            };
            Source::Time {
                opened_at: at(life.opened),
                ends_at: at(ends_at),
                multiplier_milli: life.size_milli,
                active: begun.map(span).collect(),
            }
        } else {
            let mut due = Vec::new();
            for (place, counted) in base.counts.iter().enumerate() {
                let fact = &life.facts[if counted.row == row { counted.fact } else { continue }];
                if counted.settled || fact.known > base.known || fact.at >= until {
                    continue;
                }
                due.push(Count { at: at(fact.at), amount: fact.amount });
                counts.push(place);
            }
            if due.is_empty() {
                return None;
            }
            Source::Counted(due)
        };
        Some(Meter {
            sandbox: sandbox(u64::try_from(stored.life).expect("they are few")),
            project: project(life.project),
            metric: stored.metric,
            pricing: self.pricing(life).clone(),
            source,
            settled: stored.settled,
        })
    }

    /// Takes credit back whose time was over when everything was settled that is known.
    pub fn expire(&self, base: &Base, clock: i64) -> Write {
        let mut settled = at(clock.min(base.known));
        for row in base.meters.iter().filter(|row| row.metric == Metric::ComputeUnitSeconds) {
            let life = &self.history.lives[row.life];
            if life.opened <= base.known && row.settled.until < at(life.ended) {
                settled = settled.min(row.settled.until);
            }
        }
        let mut grants = base.grants.clone();
        let gone = expire(&mut grants, settled, base.open, "").expect("it is of something");
        Write {
            grants: changes(&base.grants, &grants),
            transactions: gone.into_iter().map(|(_, transaction)| transaction).collect(),
            open: Some((base.open, base.open)),
            ..Write::default()
        }
    }

    /// Grants credit that history has at a place.
    pub fn come(&self, base: &Base, place: usize) -> Write {
        let credit = &self.history.credit[place];
        let new = Grant {
            id: grant_id(u64::try_from(place).expect("they are few")),
            kind: GrantKind::ALL[place % GrantKind::ALL.len()],
            priority: credit.priority,
            amount: credit.amount,
            remaining: credit.amount,
            starts_at: at(credit.starts),
            expires_at: credit.expires.map(at),
        };
        let key = format!("grant:{place}");
        let coming = grant(&new, key, at(credit.known), base.open, None);
        Write {
            transactions: vec![coming.expect("it is of something")],
            come: vec![new],
            open: Some((base.open, base.open)),
            ..Write::default()
        }
    }

    /// Closes the first open period: its overage is invoiced.
    pub fn close(&self, base: &Base) -> Write {
        let invoice = book(base.open, &totals(base, base.open), true);
        Write {
            transactions: invoice.expect("it is of something"),
            open: Some((base.open, base.open.next())),
            ..Write::default()
        }
    }

    /// The statement of a period.
    pub fn statement(&self, base: &Base, period: Period) -> Statement {
        let lines = base.lines.iter().filter(|(line, _)| line.booked == period);
        let lines = lines.map(|(line, used)| (line.clone(), *used)).collect();
        let versions = self.versions.iter().map(|v| (v.name.clone(), v.clone())).collect();
        draw_up(period, &lines, &totals(base, period), &versions).expect("it adds up")
    }
}

fn totals(base: &Base, period: Period) -> Vec<Total> {
    let mut totals: Vec<Total> = Vec::new();
    let of = |t: &&billing::ledger::Transaction| {
        t.heading().kind == Kind::Usage && t.heading().booked == period
    };
    for transaction in base.journal.iter().filter(of) {
        let pricing = &transaction.heading().pricing;
        for posting in transaction.postings() {
            let account: Account = posting.account;
            match totals.iter_mut().find(|t| t.account == account && t.pricing == *pricing) {
                Some(total) => total.amount += posting.amount,
                None => {
                    let pricing = pricing.clone();
                    totals.push(Total { account, pricing, amount: posting.amount });
                }
            }
        }
    }
    totals
}

fn changes(before: &[Grant], after: &[Grant]) -> Vec<(GrantId, i64, i64)> {
    let pairs = before.iter().zip(after);
    let changed = pairs.filter(|(before, after)| before.remaining != after.remaining);
    changed.map(|(before, after)| (before.id, before.remaining, after.remaining)).collect()
}

fn say(place: usize, version: &Version) -> PricingVersion {
    let rate = |(nano_credits, per): &(i64, i64)| Rate { nano_credits: *nano_credits, per: *per };
    let said = PricingVersion {
        name: place.to_string(),
        compute_unit_seconds_per_credit: u32::try_from(version.per_credit).expect("it is small"),
        sizes: [(BASE_SIZE.to_owned(), 1000)].into(),
        idle_factor_milli: version.idle_milli,
        rates: Metric::COUNTED.into_iter().zip(version.rates.iter().map(rate)).collect(),
        rounding: [Rounding::Down, Rounding::Up, Rounding::HalfUp][usize::from(version.rounding)],
        valid_from: at(version.valid_from),
        ..PricingVersion::built_in()
    };
    said.check().expect("it is sensible");
    said
}
