//! A database in memory: rows, keys that refuse repeats, compare-and-set, and commits that happen
//! wholly or not at all. Computes nothing; what it is given is what it keeps.

use std::collections::{BTreeMap, BTreeSet};

use billing::{
    credit::{Grant, sort},
    ledger::{Posting, Transaction},
    meter::{Piece, Settled},
    period::Period,
    settle::{Line, Used, Window},
};
use domain::{id::GrantId, metric::Metric};

/// A meter's row.
#[derive(Debug, Clone)]
pub struct Row {
    /// Which life it belongs to.
    pub life: usize,
    /// What it measures.
    pub metric: Metric,
    /// How far it is settled.
    pub settled: Settled,
}

/// Something that was counted, and whether it is settled.
#[derive(Debug, Clone)]
pub struct Counted {
    /// Its meter.
    pub row: usize,
    /// Its place among the facts of its life.
    pub fact: usize,
    /// Whether it is in a window.
    pub settled: bool,
}

/// The window's key without its sandbox's prefix: life, metric, start, part.
pub type WindowKey = (usize, Metric, i64, i64);

/// What a worker wants to write: what it read, and what is to stand there instead.
#[derive(Debug, Clone, Default)]
pub struct Write {
    /// Meters: before and after.
    pub meters: Vec<(usize, Settled, Settled)>,
    /// Counts that were settled.
    pub counts: Vec<usize>,
    /// What is left of grants: before and after.
    pub grants: Vec<(GrantId, i64, i64)>,
    /// Grants that come.
    pub come: Vec<Grant>,
    /// Windows, by the life that they belong to.
    pub windows: Vec<(usize, Window)>,
    /// Transactions.
    pub transactions: Vec<Transaction>,
    /// What it adds to statements.
    pub lines: BTreeMap<Line, Used>,
    /// The first open period that was read, and the one that is to be.
    pub open: Option<(Period, Period)>,
}

/// Why nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// A window or a transaction is there already.
    Repeated,
    /// A row is not what was read.
    Stale,
}

/// An organization's rows.
#[derive(Debug)]
pub struct Base {
    /// Facts up to this instant are there.
    pub known: i64,
    /// Meters.
    pub meters: Vec<Row>,
    /// Counts.
    pub counts: Vec<Counted>,
    /// Grants, in the order in which they are burnt.
    pub grants: Vec<Grant>,
    /// Windows.
    pub windows: BTreeMap<WindowKey, Window>,
    /// Transactions, in the order in which they were written.
    pub journal: Vec<Transaction>,
    /// The sums that statements are drawn up from.
    pub lines: BTreeMap<Line, Used>,
    /// The first open period.
    pub open: Period,
    keys: BTreeSet<String>,
}

impl Base {
    /// A database with meters and counts of which nothing is settled.
    pub const fn of(known: i64, meters: Vec<Row>, counts: Vec<Counted>, open: Period) -> Self {
        Self {
            known,
            meters,
            counts,
            grants: Vec::new(),
            windows: BTreeMap::new(),
            journal: Vec::new(),
            lines: BTreeMap::new(),
            open,
            keys: BTreeSet::new(),
        }
    }

    /// Writes everything or nothing.
    pub fn commit(&mut self, write: &Write) -> Result<(), Refused> {
        let keys = || write.transactions.iter().map(|transaction| &transaction.heading().key);
        let windows = || write.windows.iter().map(|(life, window)| key(*life, window));
        if keys().any(|key| self.keys.contains(key))
            || windows().any(|key| self.windows.contains_key(&key))
        {
            return Err(Refused::Repeated);
        }
        let left = |id: GrantId| {
            self.grants.iter().find(|grant| grant.id == id).map(|grant| grant.remaining)
        };
        let stale = write.meters.iter().any(|(row, was, _)| self.meters[*row].settled != *was)
            || write.counts.iter().any(|count| self.counts[*count].settled)
            || write.grants.iter().any(|(id, was, _)| left(*id) != Some(*was))
            || write.open.is_some_and(|(was, _)| was != self.open);
        if stale {
            return Err(Refused::Stale);
        }
        self.keys.extend(keys().cloned());
        let n_windows = self.windows.len() + write.windows.len();
        self.windows.extend(write.windows.iter().map(|(life, w)| (key(*life, w), w.clone())));
        assert_eq!(self.windows.len(), n_windows, "one commit has a window twice");
        self.apply(write);
        Ok(())
    }

    fn apply(&mut self, write: &Write) {
        for (row, _, is) in &write.meters {
            self.meters[*row].settled = *is;
        }
        for count in &write.counts {
            self.counts[*count].settled = true;
        }
        for (id, _, is) in &write.grants {
            let grant = self.grants.iter_mut().find(|grant| grant.id == *id);
            grant.expect("it was there a moment ago").remaining = *is;
        }
        self.grants.extend(write.come.iter().cloned());
        sort(&mut self.grants);
        self.journal.extend(write.transactions.iter().cloned());
        for (line, used) in &write.lines {
            assert!(line.booked >= self.open, "a closed period gets a line");
            let sum = self.lines.entry(line.clone()).or_default();
            sum.quantity_milli += used.quantity_milli;
            sum.amount += used.amount;
        }
        if let Some((_, is)) = write.open {
            self.open = is;
        }
    }

    /// Every posting.
    pub fn postings(&self) -> impl Iterator<Item = &Posting> {
        self.journal.iter().flat_map(Transaction::postings)
    }
}

fn key(life: usize, window: &Window) -> WindowKey {
    let Piece { from, part, .. } = window.piece;
    (life, window.metric, from.timestamp_micros(), part)
}
