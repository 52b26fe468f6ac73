//! One organization's time, lived through: facts come to be known, two workers tick, die, repeat
//! themselves and get in each other's way, clocks step, credit comes and goes, months are closed.

use std::fmt;

use billing::{meter::Settled, period::Period};
use domain::metric::Metric;

use super::{
    base::{Base, Counted, Refused, Row, Write},
    dice::Dice,
    life::{History, SECOND, history},
    worker::{World, at},
};
use crate::given::grid_of;

/// What there was to do, and what became of it.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    /// Organizations.
    pub organizations: u64,
    /// Sandboxes.
    pub lifetimes: u64,
    /// Windows written.
    pub windows: u64,
    /// Transactions written.
    pub transactions: u64,
    /// Statements drawn up.
    pub statements: u64,
    /// Workers that died before they wrote, and after it but before they knew.
    pub crashes: u64,
    /// Writes that a key refused, because they were there.
    pub repeated: u64,
    /// Writes that came too late: a row had changed.
    pub stale: u64,
    /// Steps of a clock by more than a minute, forwards or backwards.
    pub clock_steps: u64,
    /// Thousandths of units, all metrics.
    pub quantity_milli: i128,
    /// Nano-credits that usage cost.
    pub cost: i128,
    /// Nano-credits that credit paid of it.
    pub paid: i128,
}

impl Tally {
    /// Both together.
    pub const fn and(self, other: Self) -> Self {
        Self {
            organizations: self.organizations + other.organizations,
            lifetimes: self.lifetimes + other.lifetimes,
            windows: self.windows + other.windows,
            transactions: self.transactions + other.transactions,
            statements: self.statements + other.statements,
            crashes: self.crashes + other.crashes,
            repeated: self.repeated + other.repeated,
            stale: self.stale + other.stale,
            clock_steps: self.clock_steps + other.clock_steps,
            quantity_milli: self.quantity_milli + other.quantity_milli,
            cost: self.cost + other.cost,
            paid: self.paid + other.paid,
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { organizations, lifetimes, windows, transactions, statements, .. } = self;
        writeln!(
            f,
            "{lifetimes} lifetimes of {organizations} organizations were billed in {windows}"
        )?;
        writeln!(
            f,
            "windows, {transactions} transactions and {statements} statements, while workers"
        )?;
        writeln!(
            f,
            "died {} times, a clock stepped {} times, and",
            self.crashes, self.clock_steps
        )?;
        writeln!(f, "{} repeats and {} late writes were refused.", self.repeated, self.stale)?;
        writeln!(
            f,
            "Billing and the oracle both say, of each project, month, metric and version:"
        )?;
        writeln!(
            f,
            "{} thousandths of units and {} nano-credits in all,",
            self.quantity_milli, self.cost
        )?;
        write!(f, "of which credit paid {}.", self.paid)
    }
}

/// A world while it goes on.
struct Going {
    world: World,
    base: Base,
    dice: Dice,
    tally: Tally,
    /// How far the workers' clock is off, in microseconds.
    skew: i64,
    /// What a worker has read and computed, but not written yet.
    held: Vec<Write>,
    /// How much of history's credit has come.
    n_come: usize,
}

/// Lives through the organization that follows from a seed; it has at most so many sandboxes.
pub fn live(seed: u64, most: i64) -> (World, Base, Tally) {
    let mut dice = Dice::of(seed);
    let history = history(&mut dice, most);
    let length = history.end - history.start;
    let grid = match length / SECOND {
        0..20_000 => dice.pick(&[60, 60, 300]),
        20_000..500_000 => dice.pick(&[300, 3600]),
        _ => dice.pick(&[3600, 86_400]),
    };
    let base = empty(&history);
    let world = World::of(history, grid_of(grid));
    let (tally, held) = (Tally::default(), Vec::new());
    let mut going = Going { world, base, dice, tally, skew: 0, held, n_come: 0 };
    let n_steps = going.dice.between(5, 60);
    for _ in 0..n_steps {
        let forward = going.dice.between(0, 2 * length / n_steps);
        going.base.known = (going.base.known + forward).min(going.world.history.end - SECOND);
        going.step();
    }
    going.finish();
    let Going { world, base, mut tally, .. } = going;
    tally.organizations = 1;
    tally.lifetimes = count(world.history.lives.len());
    tally.windows = count(base.windows.len());
    tally.transactions = count(base.journal.len());
    (world, base, tally)
}

fn count(n: usize) -> u64 {
    u64::try_from(n).expect("they are few")
}

fn empty(history: &History) -> Base {
    let (mut meters, mut counts) = (Vec::<Row>::new(), Vec::new());
    for (life, lived) in history.lives.iter().enumerate() {
        let settled = Settled { until: at(lived.opened), quantity_milli: 0, amount: 0, n_parts: 0 };
        meters.push(Row { life, metric: Metric::ComputeUnitSeconds, settled });
        for (fact, done) in lived.facts.iter().enumerate() {
            let metric = Metric::COUNTED[done.metric];
            let row = meters.iter().position(|row| (row.life, row.metric) == (life, metric));
            let row = row.unwrap_or(meters.len());
            if row == meters.len() {
                meters.push(Row { life, metric, settled });
            }
            counts.push(Counted { row, fact, settled: false });
        }
    }
    Base::of(history.start, meters, counts, Period::of(at(history.start)))
}

impl Going {
    /// Something happens.
    fn step(&mut self) {
        self.credit_comes();
        self.clock_moves();
        match self.dice.between(0, 99) {
            0..40 => {
                let write = self.read();
                self.write(&write);
            }
            // It died after it had computed: as if nothing had been.
            40..50 => {
                self.read();
                self.tally.crashes += 1;
            }
            // It died before it knew that it had written, and says it all again.
            50..60 => {
                let write = self.read();
                self.write(&write);
                self.tally.crashes += 1;
                self.again(&write);
            }
            // Two read the same, and both write.
            60..72 => {
                let (one, other) = (self.read(), self.read());
                self.write(&one);
                self.write(&other);
            }
            // One stalls between reading and writing.
            72..82 => {
                let write = self.read();
                self.held.push(write);
            }
            82..90 => {
                for write in std::mem::take(&mut self.held) {
                    self.write(&write);
                }
            }
            90..96 => self.expire(),
            _ => self.close(false),
        }
    }

    fn read(&mut self) -> Write {
        let clock = self.base.known + self.skew;
        let batch = if self.dice.percent(60) { u64::MAX } else { self.dice.throw() };
        self.world.settle(&self.base, clock, |row| batch >> (row % 64) & 1 == 1)
    }

    fn write(&mut self, write: &Write) {
        match self.base.commit(write) {
            Ok(()) => {}
            Err(Refused::Repeated) => self.tally.repeated += 1,
            Err(Refused::Stale) => self.tally.stale += 1,
        }
    }

    /// Writes what may be there already: then it changes nothing.
    fn again(&mut self, write: &Write) {
        let (n_windows, n_transactions) = (self.base.windows.len(), self.base.journal.len());
        self.write(write);
        let same = (self.base.windows.len(), self.base.journal.len());
        assert_eq!((n_windows, n_transactions), same, "a repeat was written");
    }

    fn credit_comes(&mut self) {
        while let Some(credit) = self.world.history.credit.get(self.n_come) {
            if credit.known > self.base.known {
                break;
            }
            let write = self.world.come(&self.base, self.n_come);
            self.base.commit(&write).expect("it came for the first time");
            if self.dice.percent(20) {
                self.again(&write);
            }
            self.n_come += 1;
        }
    }

    fn clock_moves(&mut self) {
        let before = self.skew;
        self.skew = match self.dice.between(0, 9) {
            0..6 => self.dice.between(-SECOND, SECOND),
            6 => self.dice.between(-7200 * SECOND, 0),
            7 => self.dice.between(0, 7200 * SECOND),
            8 => self.dice.between(-40 * 86_400 * SECOND, 40 * 86_400 * SECOND),
            _ => 0,
        };
        self.tally.clock_steps += u64::from((self.skew - before).abs() > 60 * SECOND);
    }

    fn expire(&mut self) {
        let write = self.world.expire(&self.base, self.base.known + self.skew);
        self.write(&write);
        if self.dice.percent(30) {
            self.again(&write);
        }
    }

    /// Closes a month that is over; what comes later is an adjustment of the next statement.
    fn close(&mut self, whatever_comes: bool) {
        if whatever_comes || at(self.base.known) >= self.base.open.end() {
            let write = self.world.close(&self.base);
            self.write(&write);
            self.tally.statements += 1;
            assert!(self.base.commit(&write).is_err(), "a month was closed twice");
        }
    }

    /// Everything is known, the clock is right, and nobody dies any more.
    fn finish(&mut self) {
        self.base.known = self.world.history.end;
        self.skew = 0;
        self.credit_comes();
        for write in std::mem::take(&mut self.held) {
            self.write(&write);
        }
        let last = self.world.settle(&self.base, self.base.known, |_| true);
        self.base.commit(&last).expect("nobody else is there");
        let nothing = self.world.settle(&self.base, self.base.known, |_| true);
        assert!(nothing.windows.is_empty() && nothing.transactions.is_empty(), "a tick too many");
        let gone = self.world.expire(&self.base, self.base.known);
        self.base.commit(&gone).expect("nobody else is there");
        while self.base.open.start() <= at(self.base.known) {
            self.close(true);
        }
    }
}
