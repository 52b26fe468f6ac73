//! Windows: wherever a life is cut, and in whatever order it is told, its parts are the whole. Each law
//! compares billing with itself; `oracle` compares it with something else.

use std::collections::BTreeSet;

use billing::meter::{Count, Meter, Piece, Source};
use chrono::{DateTime, Utc};
use domain::metric::Metric;
use proptest::{collection::vec, prelude::*};

use crate::given::{
    any_meter, at, cases, counts, end, grid, grid_of, instant, lifetime, meter, multiplier, span,
    version,
};

/// Seconds and nano-credits of pieces.
fn sums(pieces: &[Piece]) -> (i64, i64) {
    (pieces.iter().map(|p| p.quantity_milli).sum(), pieces.iter().map(|p| p.amount).sum())
}

/// The meter settled in one go, in one piece if time alone decides.
fn whole(meter: &Meter) -> Meter {
    let mut meter = meter.clone();
    meter.settle(end(), &[], grid_of(86_400)).expect("the amounts are small enough");
    meter
}

fn timed() -> impl Strategy<Value = Meter> {
    let meter = |(v, source)| meter(1, Metric::ComputeUnitSeconds, v, source);
    (version(), lifetime()).prop_map(meter)
}

fn counted() -> impl Strategy<Value = Meter> {
    let meter = |v| meter(1, Metric::CommandInvocations, v, Source::Counted(Vec::new()));
    version().prop_map(meter)
}

fn sorted(mut instants: Vec<DateTime<Utc>>) -> Vec<DateTime<Utc>> {
    instants.sort_unstable();
    instants
}

proptest! {
    #![proptest_config(cases(1500))]

    /// A meter is settled at any instants, in any order and again and again, with windows of any
    /// length and anything that divides them: seconds and price are those of one settlement.
    #[test]
    fn cutting_anywhere_changes_nothing(
        given in any_meter(1),
        ticks in vec((instant(), grid()), 0..12),
        boundaries in vec(instant(), 0..6),
    ) {
        let boundaries = sorted(boundaries);
        let mut meter = given.clone();
        let mut pieces = Vec::new();
        for (until, grid) in ticks.into_iter().chain([(end(), grid_of(3600))]) {
            pieces.extend(meter.settle(until, &boundaries, grid).unwrap());
        }
        let whole = whole(&given);
        prop_assert_eq!(sums(&pieces), (whole.settled.quantity_milli, whole.settled.amount));
        prop_assert_eq!(meter.settled.quantity_milli, whole.settled.quantity_milli);
        prop_assert_eq!(meter.settled.amount, whole.settled.amount);
        prop_assert!(pieces.iter().all(|p| p.quantity_milli > 0 && p.amount >= 0));
    }

    /// Windows of time lie one after another inside the life that they measure. No boundary and no end
    /// of the grid is inside of one; each has just what was measured in it; between them is nothing.
    #[test]
    fn windows_leave_no_gap_and_do_not_overlap(
        given in timed(),
        ticks in vec(instant(), 0..8),
        boundaries in vec(instant(), 0..6),
        grid in grid(),
    ) {
        let boundaries = sorted(boundaries);
        let Source::Time { opened_at, ends_at, .. } = given.source else { unreachable!() };
        let mut meter = given.clone();
        let mut pieces = Vec::new();
        for until in ticks.into_iter().chain([end()]) {
            pieces.extend(meter.settle(until, &boundaries, grid).unwrap());
        }
        let mut before = opened_at;
        for piece in &pieces {
            prop_assert!(before <= piece.from && piece.from < piece.until);
            prop_assert!(piece.until <= ends_at, "it goes on after the end");
            let up_to = |at| given.quantity_milli(at).unwrap();
            prop_assert_eq!(up_to(before), up_to(piece.from), "something is between windows");
            prop_assert_eq!(piece.quantity_milli, up_to(piece.until) - up_to(piece.from));
            prop_assert!(piece.until <= grid.after(piece.from));
            prop_assert!(!boundaries.iter().any(|b| piece.from < *b && *b < piece.until));
            before = piece.until;
        }
        prop_assert_eq!(meter.settled.until, end(), "what comes after the end is settled, too");
    }

    /// Whatever is counted is in one window, whose time it lies in and whose key no other one has.
    #[test]
    fn counts_may_come_in_any_order(
        given in counted(),
        told in vec((instant(), 0..1000_i64, instant()), 0..16).prop_shuffle(),
        again in vec(instant(), 0..8),
        boundaries in vec(instant(), 0..6),
        grid in grid(),
    ) {
        let boundaries = sorted(boundaries);
        let mut meter = given.clone();
        let mut pieces = Vec::new();
        for (happened, amount, tick) in &told {
            if let Source::Counted(counts) = &mut meter.source {
                counts.push(Count { at: *happened, amount: *amount });
            }
            pieces.extend(meter.settle(*tick, &boundaries, grid).unwrap());
        }
        for tick in again.into_iter().chain([at(i64::from(u32::MAX) * 10)]) {
            pieces.extend(meter.settle(tick, &boundaries, grid).unwrap());
        }
        let all: i64 = told.iter().map(|(_, amount, _)| amount * 1000).sum();
        let price = given.pricing.price(given.metric, all).unwrap();
        prop_assert_eq!(sums(&pieces), (all, price));
        let keys: BTreeSet<_> = pieces.iter().map(|piece| (piece.from, piece.part)).collect();
        prop_assert_eq!(keys.len(), pieces.len(), "two windows have one key");
        for edge in told.iter().map(|(happened, ..)| *happened).chain(boundaries.iter().copied()) {
            // Whichever window counts are in: before the beginning of any window lies what it says.
            let edge = grid.floor(edge);
            if pieces.iter().any(|piece| piece.from < edge && edge < piece.until) { continue; }
            let earlier = pieces.iter().filter(|piece| piece.until <= edge);
            let cut: i64 = earlier.map(|piece| piece.quantity_milli).sum();
            let counted: i64 =
                told.iter().filter(|(at, ..)| *at < edge).map(|(_, amount, _)| amount * 1000).sum();
            prop_assert_eq!(cut, counted, "before {}", edge);
        }
        for piece in &pieces {
            prop_assert!(piece.until <= grid.after(piece.from));
            prop_assert!(!boundaries.iter().any(|b| piece.from < *b && *b < piece.until));
        }
    }
}

proptest! {
    #![proptest_config(cases(1000))]

    /// A price is less than a nano-credit from its exact value, however often it was cut.
    #[test]
    fn rounding_never_adds_up(given in timed(), ticks in vec(instant(), 0..30)) {
        let mut meter = given.clone();
        for tick in sorted(ticks) {
            meter.settle(tick, &[], grid_of(60)).unwrap();
            let rate = given.pricing.rate(given.metric);
            let exact = i128::from(meter.settled.quantity_milli) * i128::from(rate.nano_credits);
            let scale = 1000 * i128::from(rate.per);
            prop_assert!((i128::from(meter.settled.amount) * scale - exact).abs() < scale);
        }
    }

    /// More time, more activity, a larger instance, more of anything that is counted: never cheaper.
    #[test]
    fn more_usage_never_costs_less(
        given in timed(),
        until in instant(),
        later in instant(),
        larger in multiplier(),
        busier in span(),
    ) {
        let price = |meter: &Meter, at| {
            meter.pricing.price(meter.metric, meter.quantity_milli(at).unwrap()).unwrap()
        };
        let least = price(&given, until);
        prop_assert!(price(&given, until.max(later)) >= least, "longer");
        let mut more = given.clone();
        if let Source::Time { multiplier_milli, active, opened_at, .. } = &mut more.source {
            *multiplier_milli = larger.max(*multiplier_milli);
            if busier.from >= *opened_at {
                active.push(busier);
                *active = billing::meter::merge(std::mem::take(active));
            }
        }
        prop_assert!(price(&more, until) >= least, "larger and busier");
    }

    /// What is asked about the future is what will be settled: looking changes nothing.
    #[test]
    fn looking_ahead_is_what_will_be_settled(
        given in any_meter(1),
        now in instant(),
        later in instant(),
    ) {
        let mut meter = given.clone();
        meter.settle(now, &[], grid_of(60)).unwrap();
        let (before, promised) = (meter.settled.amount, meter.unsettled(later).unwrap());
        let taken = meter.settle(later, &[], grid_of(60)).unwrap();
        prop_assert_eq!(sums(&taken).1, promised);
        prop_assert_eq!(meter.settled.amount, before + promised);
        prop_assert_eq!(meter.unsettled(later.max(now)).unwrap(), 0);
    }

    /// However times of activity overlap, repeat and are ordered, they are the same time.
    #[test]
    fn activity_may_be_told_in_any_order(
        spans in vec(span(), 0..10),
        order in vec(any::<prop::sample::Index>(), 0..20),
        probe in instant(),
    ) {
        let merged = billing::meter::merge(spans.clone());
        let mut told = spans.clone();
        if !spans.is_empty() {
            told.extend(order.iter().map(|index| spans[index.index(spans.len())]));
        }
        told.reverse();
        prop_assert_eq!(&billing::meter::merge(told), &merged);
        prop_assert!(merged.windows(2).all(|pair| pair[0].until < pair[1].from), "they touch");
        let within = |spans: &[billing::meter::Span]| {
            spans.iter().any(|span| span.from <= probe && probe < span.until)
        };
        prop_assert_eq!(within(&merged), within(&spans));
    }

    /// What was counted costs the same however it is grouped.
    #[test]
    fn counts_are_priced_together(given in counted(), counts in counts()) {
        let mut one = given.clone();
        let sum = counts.iter().map(|count| count.amount).sum();
        one.source = Source::Counted(vec![Count { at: at(0), amount: sum }]);
        let mut many = given;
        many.source = Source::Counted(counts);
        prop_assert_eq!(one.unsettled(end() + chrono::TimeDelta::seconds(1)).unwrap(),
            many.unsettled(end() + chrono::TimeDelta::seconds(1)).unwrap());
        // An instant's own counts are not before it.
        prop_assert_eq!(one.unsettled(at(0)).unwrap(), 0);
    }
}
