//! The books of an organization, kept in memory while anything happens in any order: after every act
//! they must be right. `statements` closes them.

use std::collections::{BTreeMap, BTreeSet};

use billing::{
    credit::{Grant, GrantKind, sort},
    ledger::{Account, Heading, Kind, Posting, Transaction, balances},
    meter::{Count, Grid, Meter, Source},
    period::Period,
    settle::{Line, Measured, Used, Wrong, expire, give_back, grant as come, settle, take_more},
};
use chrono::{DateTime, Utc};
use domain::id::{GrantId, TransactionId};
use proptest::{collection::vec, prelude::*, sample::Index};

use crate::given::{at, cases, end, grant, grant_id, grid, grid_of, id, instant, meters};

/// Something that happens to an organization.
#[derive(Debug, Clone)]
pub enum Act {
    /// Everything is settled up to an instant.
    Tick(DateTime<Utc>, Grid),
    /// Something is counted.
    Count(Index, Count),
    /// Credit comes.
    Grant(Grant),
    /// Credit whose time is over goes.
    Expire,
    /// So many thousandths of what a transaction took are given back.
    GiveBack(Index, i64),
    /// A transaction took too little.
    TakeMore(Index, i64),
    /// The first open period is closed.
    Close,
}

/// Acts that leave two periods open at most.
pub fn acts() -> BoxedStrategy<Vec<Act>> {
    let act = prop_oneof![
        6 => (instant(), grid()).prop_map(|(until, grid)| Act::Tick(until, grid)),
        3 => (any::<Index>(), instant(), 0..100_000_i64)
            .prop_map(|(meter, at, amount)| Act::Count(meter, Count { at, amount })),
        3 => grant(0).prop_map(Act::Grant),
        2 => Just(Act::Expire),
        2 => (any::<Index>(), 1..=1000_i64).prop_map(|(which, milli)| Act::GiveBack(which, milli)),
        1 => (any::<Index>(), 1..1_000_000_000_i64).prop_map(|(which, n)| Act::TakeMore(which, n)),
        1 => Just(Act::Close),
    ];
    vec(act, 1..14).boxed()
}

/// What an organization's rows say.
pub struct Books {
    /// Its credit, in order.
    pub grants: Vec<Grant>,
    /// Its meters.
    pub meters: Vec<Meter>,
    /// Its transactions.
    pub journal: Vec<(TransactionId, Transaction)>,
    /// What was used, for statements.
    pub lines: BTreeMap<Line, Used>,
    /// Its first period without a statement.
    pub open: Period,
    usage: i64,
    windows: BTreeMap<TransactionId, Line>,
}

impl Books {
    /// Books in which nothing stands.
    pub fn of(meters: Vec<Meter>) -> Self {
        Self {
            grants: Vec::new(),
            meters,
            journal: Vec::new(),
            lines: BTreeMap::new(),
            open: Period::of(at(0)),
            usage: 0,
            windows: BTreeMap::new(),
        }
    }

    fn book(&mut self, transaction: Transaction) -> TransactionId {
        let id = id("txn", u64::try_from(self.journal.len()).expect("there are few"));
        self.journal.push((id, transaction));
        id
    }

    /// Does it.
    pub fn act(&mut self, act: Act) {
        match act {
            Act::Tick(until, grid) => self.tick(until, grid),
            Act::Count(which, count) => {
                let place = which.index(self.meters.len());
                if let Source::Counted(counts) = &mut self.meters[place].source {
                    counts.push(count);
                }
            }
            Act::Grant(grant) => {
                let number = u64::try_from(self.journal.len()).expect("there are few");
                let grant = Grant { id: grant_id(number), ..grant };
                let key = format!("grant:{}", grant.id);
                let coming = come(&grant, key, grant.starts_at, self.open, None);
                self.book(coming.expect("it is of something"));
                self.grants.push(grant);
                sort(&mut self.grants);
            }
            Act::Expire => {
                let settled = self.meters.iter().map(|meter| meter.settled.until).min();
                let again = format!(":{}", self.journal.len());
                let settled = settled.expect("there are meters");
                let gone = expire(&mut self.grants, settled, self.open, &again);
                for (_, transaction) in gone.expect("it is of something") {
                    self.book(transaction);
                }
            }
            Act::GiveBack(which, milli) => self.correct(&which, |_, taken| -(taken * milli / 1000)),
            Act::TakeMore(which, more) => self.correct(&which, |_, _| more),
            Act::Close => self.close(),
        }
    }

    fn tick(&mut self, until: DateTime<Utc>, grid: Grid) {
        let of = |meter: &Meter| Measured { meter: meter.clone(), until };
        let mut measured: Vec<_> = self.meters.iter().map(of).collect();
        let settled = settle(&mut self.grants, &mut measured, self.open, grid);
        let settled = settled.expect("the amounts are small enough");
        self.meters = measured.into_iter().map(|measured| measured.meter).collect();
        for (line, used) in settled.lines().expect("the amounts are small enough") {
            let sum = self.lines.entry(line).or_default();
            sum.quantity_milli += used.quantity_milli;
            sum.amount += used.amount;
        }
        let first = self.journal.len();
        for transaction in settled.transactions {
            self.book(transaction);
        }
        for window in &settled.windows {
            self.usage += window.piece.amount;
            let Some(place) = window.transaction else { continue };
            self.windows.insert(
                self.journal[first + place].0,
                Line {
                    booked: window.booked,
                    used: Period::of(window.piece.from),
                    project: window.project,
                    metric: window.metric,
                    pricing: window.pricing.clone(),
                },
            );
        }
    }

    /// Corrects a usage transaction by what `change` makes of what it still takes.
    fn correct(&mut self, which: &Index, change: impl Fn(&Heading, i64) -> i64) {
        let usage = self.journal.iter().filter(|(_, t)| t.heading().kind == Kind::Usage);
        let usage: Vec<_> = usage.cloned().collect();
        if usage.is_empty() {
            return;
        }
        let (wrong_id, original) = usage[which.index(usage.len())].clone();
        let postings = self.net(wrong_id, &original);
        let taken = postings.iter().filter(|p| p.account == Account::Usage).map(|p| p.amount).sum();
        let change = change(original.heading(), taken);
        if change == 0 {
            return;
        }
        let now = self.meters.iter().map(|m| m.settled.until).max().expect("there are meters");
        let pricing = original.heading().pricing.clone();
        let heading = Heading {
            kind: Kind::Correction,
            key: format!("correction:{}", self.journal.len()),
            at: now,
            booked: Period::of(now).max(self.open),
            pricing: pricing.clone(),
            corrects: None,
            reason: Some("it was wrong".to_owned()),
        };
        let wrong = Wrong { id: wrong_id, postings: &postings, pricing };
        let grants = &mut self.grants;
        let correction = if change < 0 {
            give_back(grants, &wrong, -change, heading)
        } else {
            take_more(grants, &wrong, change, heading, now)
        };
        let correction = correction.expect("no more is given back than was taken");
        let booked = correction.heading().booked;
        self.book(correction);
        let line = Line { booked, ..self.windows[&wrong_id].clone() };
        self.lines.entry(line).or_default().amount += change;
        self.usage += change;
    }

    /// What a transaction and its corrections come to, in the order in which they took it.
    fn net(&self, wrong: TransactionId, original: &Transaction) -> Vec<Posting> {
        let mut net: Vec<Posting> = original.postings().to_vec();
        let corrections = self.journal.iter().filter(|(_, t)| t.heading().corrects == Some(wrong));
        for posting in corrections.flat_map(|(_, transaction)| transaction.postings()) {
            let same =
                net.iter_mut().find(|p| (p.account, p.grant) == (posting.account, posting.grant));
            match same {
                Some(same) => same.amount += posting.amount,
                None => net.push(*posting),
            }
        }
        net
    }

    fn postings(&self) -> impl Iterator<Item = &Posting> {
        self.journal.iter().flat_map(|(_, transaction)| transaction.postings())
    }

    /// Everything that must always be so.
    pub fn check(&self) -> Result<(), TestCaseError> {
        let mut keys = BTreeSet::new();
        for (_, transaction) in &self.journal {
            let sum: i128 = transaction.postings().iter().map(|p| i128::from(p.amount)).sum();
            prop_assert_eq!(sum, 0, "a transaction does not balance");
            prop_assert!(keys.insert(&transaction.heading().key), "a key comes twice");
        }
        let mut replayed: BTreeMap<GrantId, i64> = BTreeMap::new();
        let mut folded: BTreeMap<Account, i64> = BTreeMap::new();
        for posting in self.postings() {
            *folded.entry(posting.account).or_default() += posting.amount;
            let is_credit = matches!(posting.account, Account::Credit(_));
            prop_assert_eq!(is_credit, posting.grant.is_some());
            if let Some(grant) = posting.grant {
                *replayed.entry(grant).or_default() += posting.amount;
                prop_assert!(replayed[&grant] >= 0, "a grant was below zero");
            }
        }
        let projected = self.grants.iter().map(|grant| (grant.id, grant.remaining)).collect();
        prop_assert_eq!(&replayed, &projected, "the projection is not the replay");
        prop_assert!(self.grants.iter().all(|g| 0 <= g.remaining && g.remaining <= g.amount));
        prop_assert_eq!(balances(self.postings()).expect("few amounts fit"), folded.clone());
        let balance = |account| folded.get(&account).copied().unwrap_or(0);
        prop_assert_eq!(folded.values().sum::<i64>(), 0);
        for kind in GrantKind::ALL {
            let left = self.grants.iter().filter(|grant| grant.kind == kind);
            let left: i64 = left.map(|grant| grant.remaining).sum();
            prop_assert_eq!(balance(Account::Credit(kind)), left);
        }
        prop_assert_eq!(balance(Account::Usage), self.usage);
        prop_assert_eq!(self.lines.values().map(|used| used.amount).sum::<i64>(), self.usage);
        let issued: i64 = self.grants.iter().map(|grant| grant.amount).sum();
        prop_assert_eq!(balance(Account::Issued), -issued);
        for account in [Account::Invoiced, Account::Overage, Account::WrittenOff] {
            // What was paid for can be given back after the statement; then the next one owes it.
            let kinds = self.journal.iter().any(|(_, t)| t.heading().kind == Kind::Correction);
            prop_assert!(kinds || balance(account) <= 0, "{account}");
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(cases(600))]

    /// Usage, late counts, credit that comes and expires, corrections and closed periods, in any order:
    /// every transaction balances, every balance is the fold, what is left of each grant is the replay.
    #[test]
    fn the_books_are_right_after_every_act(
        meters in meters(),
        first in grant(0),
        acts in acts(),
    ) {
        let mut books = Books::of(meters);
        let first = Grant { starts_at: at(0), ..first };
        let last = [Act::Tick(end(), grid_of(3600)), Act::Expire, Act::Close, Act::Close];
        for act in [Act::Grant(first)].into_iter().chain(acts).chain(last) {
            let before = (books.journal.clone(), books.lines.clone(), books.open);
            books.act(act);
            books.check()?;
            prop_assert_eq!(&books.journal[..before.0.len()], &before.0[..], "the past changed");
            for (line, used) in before.1.iter().filter(|(line, _)| line.booked < before.2) {
                prop_assert_eq!(&books.lines[line], used, "a closed period changed");
            }
        }
    }
}
