//! Statements: the parts add up to the last unit, and the periods to everything that was ever booked.

use std::{collections::BTreeMap, sync::Arc};

use billing::{
    Error,
    ledger::{Account, Kind},
    money::{Currency, Exact, split},
    period::Period,
    pricing::PricingVersion,
    settle::{Line, Used},
    statement::{Statement, Total, book, draw_up},
};
use domain::metric::Metric;
use proptest::{collection::vec, prelude::*};

use crate::{
    given::{at, cases, end, grid_of, meters, project, version},
    journal::{Act, Books, acts},
};

/// Exact amounts in a minor unit.
const MINOR: i128 = 10_i128.pow(16);

impl Books {
    /// What was booked for a period, by account and version.
    pub fn totals(&self, period: Period) -> Vec<Total> {
        let mut totals: BTreeMap<_, i64> = BTreeMap::new();
        for (_, transaction) in &self.journal {
            let heading = transaction.heading();
            let usage = matches!(heading.kind, Kind::Usage | Kind::Correction);
            for posting in transaction.postings() {
                if usage && heading.booked == period {
                    *totals.entry((posting.account, heading.pricing.clone())).or_default() +=
                        posting.amount;
                }
            }
        }
        let total = |((account, pricing), amount)| Total { account, pricing, amount };
        totals.into_iter().map(total).collect()
    }

    /// The lines of a period's statement.
    pub fn lines_of(&self, period: Period) -> BTreeMap<Line, Used> {
        let lines = self.lines.iter().filter(|(line, _)| line.booked == period);
        lines.map(|(line, used)| (line.clone(), *used)).collect()
    }

    /// A period's statement.
    pub fn statement(&self, period: Period) -> Statement {
        let versions = self.meters.iter().map(|m| (m.pricing.name.clone(), m.pricing.clone()));
        let (lines, versions) = (self.lines_of(period), versions.collect());
        draw_up(period, &lines, &self.totals(period), &versions).expect("it adds up")
    }

    /// Closes the first open period: its overage is invoiced.
    pub fn close(&mut self) {
        let invoice = book(self.open, &self.totals(self.open), true).expect("it is of something");
        for transaction in invoice {
            let id = crate::given::id("txn", u64::try_from(self.journal.len()).expect("few"));
            self.journal.push((id, transaction));
        }
        self.open = self.open.next();
    }
}

/// Whether a number of minor units is less than one from what it stands for.
fn near(minor_units: i64, exact: Exact) -> bool {
    (i128::from(minor_units) * MINOR - exact.0).abs() < MINOR
}

/// What must be so on every statement.
fn check(books: &Books, statement: &Statement) -> Result<(), TestCaseError> {
    let usage: i64 = statement.usage.iter().map(|line| line.minor_units).sum();
    let credit: i64 = statement.credit.iter().map(|line| line.minor_units).sum();
    prop_assert_eq!((usage, credit), (statement.usage_minor_units, statement.credit_minor_units));
    prop_assert_eq!(usage, credit + statement.due_minor_units, "usage is not credit and due");
    let exact: Exact =
        statement.usage.iter().map(|l| Exact::of(l.credit, l.nano_currency_per_credit)).sum();
    prop_assert_eq!(exact.minor_units(), Ok(usage));
    for line in &statement.usage {
        prop_assert!(near(line.minor_units, Exact::of(line.credit, line.nano_currency_per_credit)));
        prop_assert!(line.adjusts.is_none_or(|origin| origin < statement.period));
    }
    let lines = books.lines_of(statement.period);
    prop_assert_eq!(lines.len(), statement.usage.len());
    for (line, used) in &lines {
        let adjusts = (line.used < statement.period).then_some(line.used);
        let same = statement.usage.iter().filter(|found| {
            (found.project, found.metric, &found.pricing, found.adjusts)
                == (line.project, line.metric, &line.pricing, adjusts)
        });
        let same: Vec<_> = same.map(|found| (found.quantity_milli, found.credit)).collect();
        prop_assert_eq!(same, vec![(used.quantity_milli, used.amount)], "{:?}", line);
    }
    let places: Vec<_> = statement.usage.iter().map(|line| line.adjusts).collect();
    prop_assert!(places.is_sorted(), "adjustments come after the period's own usage");
    let lines: i64 = statement.usage.iter().map(|line| line.credit).sum();
    let paid: i64 = statement.credit.iter().map(|line| line.credit).sum();
    prop_assert_eq!(lines, paid + statement.overage, "nano-credits");
    Ok(())
}

fn with_one_currency_price(version: PricingVersion, price: Option<i64>) -> PricingVersion {
    let nano_currency_per_credit = price.unwrap_or(version.nano_currency_per_credit);
    PricingVersion { nano_currency_per_credit, ..version }
}

proptest! {
    #![proptest_config(cases(3000))]

    /// Parts add up to their rounded sum, and each is less than one unit from its exact amount.
    #[test]
    fn parts_add_up(
        parts in vec(prop_oneof![
            (any::<i64>(), 0..10_000_000_000_i64).prop_map(|(nano, price)| Exact::of(nano, price)),
            (-3_000..3_000_i128).prop_map(|milli| Exact(milli * MINOR / 1000)),
            (-30..30_i128).prop_map(|halves| Exact(halves * MINOR / 2)),
        ], 0..12),
    ) {
        let rounded = split(&parts).unwrap();
        prop_assert_eq!(rounded.len(), parts.len());
        let total: Exact = parts.iter().copied().sum();
        prop_assert_eq!(rounded.iter().sum::<i64>(), total.minor_units().unwrap());
        for (minor_units, exact) in rounded.iter().zip(&parts) {
            prop_assert!(near(*minor_units, *exact));
        }
        let nearest = i128::from(total.minor_units().unwrap()) * MINOR - total.0;
        prop_assert!(2 * nearest.abs() <= MINOR, "the sum itself is rounded to the nearer");
    }
}

proptest! {
    #![proptest_config(cases(600))]

    /// Whatever happened: on each statement usage is credit and what is due, to the last minor unit and
    /// to the last nano-credit, and all statements together are all that was used. Overage is asked for
    /// once.
    #[test]
    fn statements_add_up(
        meters in meters(),
        one_price in proptest::option::of(0..100_000_000_i64),
        acts in acts(),
    ) {
        let mut meters = meters;
        for (number, meter) in meters.iter_mut().enumerate() {
            let pricing = with_one_currency_price((*meter.pricing).clone(), one_price);
            meter.pricing = Arc::new(PricingVersion { name: format!("v{number}"), ..pricing });
        }
        let mut books = Books::of(meters);
        for act in acts.into_iter().chain([Act::Tick(end(), grid_of(3600))]) {
            books.act(act);
        }
        for _ in 0..4 { books.act(Act::Close); }
        let (mut period, mut used, mut asked) = (Period::of(at(0)), 0, 0);
        while period < books.open {
            let statement = books.statement(period);
            check(&books, &statement)?;
            used += statement.usage.iter().map(|line| line.credit).sum::<i64>();
            asked += statement.overage;
            period = period.next();
        }
        let sum = |account| books.journal.iter().flat_map(|(_, t)| t.postings())
            .filter(|p| p.account == account).map(|p| p.amount).sum::<i64>();
        prop_assert_eq!(used, sum(Account::Usage));
        prop_assert_eq!((sum(Account::Overage), sum(Account::Invoiced)), (0, -asked));
    }

    /// Amounts of two currencies are never added.
    #[test]
    fn a_statement_has_one_currency(
        first in version(),
        second in version(),
        same in any::<bool>(),
    ) {
        let currency = if same { Currency::USD } else { "EUR".parse().unwrap() };
        let versions = [
            PricingVersion { name: "a".to_owned(), ..first },
            PricingVersion { name: "b".to_owned(), currency, ..second },
        ];
        let period = Period::of(at(0));
        let line = |pricing: &PricingVersion| Line {
            booked: period,
            used: period,
            project: project(1),
            metric: Metric::ComputeUnitSeconds,
            pricing: pricing.name.clone(),
        };
        let lines = versions.iter().map(|version| (line(version), Used::default())).collect();
        let versions = versions.into_iter().map(|v| (v.name.clone(), Arc::new(v))).collect();
        let drawn = draw_up(period, &lines, &[], &versions);
        match drawn {
            Ok(statement) => prop_assert!(same && statement.currency == currency),
            Err(error) => prop_assert!(!same && matches!(error, Error::Currencies(..))),
        }
    }
}
