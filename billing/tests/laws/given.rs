//! What the laws are tried on: instants around the end of a leap February, pricing versions with odd
//! numbers, meters and grants. Checks nothing.

use std::sync::Arc;

use billing::{
    credit::{Grant, GrantKind},
    meter::{Count, Grid, Meter, Settled, Source, Span, merge},
    pricing::{BASE_SIZE, PricingVersion, Rate, Rounding},
    settle::{Measured, Settlement},
};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    id::{GrantId, ProjectId, SandboxId},
    metric::Metric,
};
use proptest::{collection::vec, prelude::*, sample::select};

/// How long the made-up time is, in microseconds: six hours, three of them in February.
pub const SPAN: i64 = 6 * 3600 * 1_000_000;

/// So many cases of a law.
pub fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, max_shrink_iters: 20_000, ..ProptestConfig::default() }
}

/// An instant, in microseconds after the first one.
pub fn at(micros: i64) -> DateTime<Utc> {
    let first: DateTime<Utc> = "2032-02-29T21:00:00Z".parse().expect("it is an instant");
    first + TimeDelta::microseconds(micros)
}

/// The last instant.
pub fn end() -> DateTime<Utc> {
    at(SPAN)
}

/// An id made of a number; greater numbers sort later.
pub fn id<T: std::str::FromStr>(prefix: &str, number: u64) -> T {
    let id = format!("{prefix}_{number:032x}").parse();
    id.unwrap_or_else(|_| panic!("{prefix} is the prefix of an id"))
}

/// A sandbox, told by a number.
pub fn sandbox(number: u64) -> SandboxId {
    id("sbx", number)
}

/// A project, told by a number.
pub fn project(number: u64) -> ProjectId {
    id("prj", number)
}

/// A grant, told by a number.
pub fn grant_id(number: u64) -> GrantId {
    id("grt", number)
}

/// Instants: half of them whole seconds, some of them the month's end itself.
pub fn instant() -> impl Strategy<Value = DateTime<Utc>> {
    prop_oneof![
        8 => (0..=SPAN).prop_map(at),
        8 => (0..=SPAN / 1_000_000).prop_map(|second| at(second * 1_000_000)),
        1 => Just(at(SPAN / 2)),
    ]
}

/// A time that is not empty.
pub fn span() -> impl Strategy<Value = Span> {
    let ordered = |(a, b): (DateTime<Utc>, DateTime<Utc>)| Span { from: a.min(b), until: a.max(b) };
    (instant(), instant()).prop_map(ordered).prop_filter("it is empty", |s| s.from < s.until)
}

/// Lengths of windows.
pub fn grid() -> impl Strategy<Value = Grid> {
    select(vec![60, 90, 600, 3600, 86_400]).prop_map(grid_of)
}

/// A grid of windows of so many seconds.
pub fn grid_of(seconds: u32) -> Grid {
    Grid::of_seconds(seconds).expect("a day is a multiple of it")
}

/// One of each metric's prices: odd ones, whole ones, none.
fn rate() -> impl Strategy<Value = Rate> {
    prop_oneof![
        Just(Rate::FREE),
        (0..5_000_000_000_i64, 1..1000_i64)
            .prop_map(|(nano_credits, per)| Rate { nano_credits, per }),
        (1..100_i64).prop_map(|nano_credits| Rate { nano_credits, per: 1 << 30 }),
    ]
}

prop_compose! {
    /// A pricing version that is sensible, if seldom reasonable.
    pub fn version()(
        rounding in select(Rounding::ALL.to_vec()),
        seconds_per_credit in prop_oneof![Just(1000), Just(3600), 1..10_000_u32, any::<u32>()],
        idle_factor_milli in prop_oneof![Just(1000), Just(0), 0..=1000_i64],
        nano_currency_per_credit in prop_oneof![Just(33_333_300), 0..5_000_000_000_i64],
        rates in vec(rate(), Metric::COUNTED.len()),
        valid in 0..SPAN,
    ) -> PricingVersion {
        let version = PricingVersion {
            name: format!("v{valid}"),
            currency: billing::money::Currency::USD,
            compute_unit_seconds_per_credit: seconds_per_credit.max(1),
            nano_currency_per_credit,
            sizes: [(BASE_SIZE.to_owned(), 1000)].into(),
            idle_factor_milli,
            rates: Metric::COUNTED.into_iter().zip(rates).collect(),
            rounding,
            valid_from: at(valid),
        };
        version.check().expect("it is sensible");
        version
    }
}

/// Compute units, in thousandths.
pub fn multiplier() -> impl Strategy<Value = i64> {
    prop_oneof![3 => Just(1000), 1 => Just(0), 3 => 1..64_000_i64, 1 => Just(1_000_000)]
}

/// A meter that nothing was settled of.
pub fn meter(number: u64, metric: Metric, pricing: PricingVersion, source: Source) -> Meter {
    let until = match &source {
        Source::Time { opened_at, .. } => *opened_at,
        Source::Counted(_) => at(0),
    };
    Meter {
        sandbox: sandbox(number),
        project: project(number % 3),
        metric,
        pricing: Arc::new(pricing),
        source,
        settled: Settled { until, quantity_milli: 0, amount: 0, n_parts: 0 },
    }
}

/// A life of a sandbox, and when commands were active in it.
pub fn lifetime() -> BoxedStrategy<Source> {
    (span(), multiplier(), vec(span(), 0..5))
        .prop_map(|(life, multiplier_milli, active)| {
            let clip =
                |s: Span| Span { from: s.from.max(life.from), until: s.until.min(life.until) };
            let active = active.into_iter().map(clip).filter(|span| span.from < span.until);
            Source::Time {
                opened_at: life.from,
                ends_at: life.until,
                multiplier_milli,
                active: merge(active.collect()),
            }
        })
        .boxed()
}

/// Things that were counted, in no order.
pub fn counts() -> impl Strategy<Value = Vec<Count>> {
    vec((instant(), 0..1_000_000_i64), 0..20)
        .prop_map(|counts| counts.into_iter().map(|(at, amount)| Count { at, amount }).collect())
}

/// Any meter.
pub fn any_meter(number: u64) -> BoxedStrategy<Meter> {
    let timed = (version(), lifetime())
        .prop_map(move |(v, source)| meter(number, Metric::ComputeUnitSeconds, v, source));
    let counted = (version(), counts(), select(Metric::COUNTED.to_vec())).prop_map(
        move |(v, counts, metric)| {
            let mut counts = counts;
            counts.sort_by_key(|count| count.at);
            meter(number, metric, v, Source::Counted(counts))
        },
    );
    prop_oneof![2 => timed, 1 => counted].boxed()
}

/// Some meters of different sandboxes.
pub fn meters() -> BoxedStrategy<Vec<Meter>> {
    (any_meter(1), any_meter(2), any_meter(3), any_meter(4), 1..=4_usize)
        .prop_map(|(a, b, c, d, n)| {
            let mut meters = vec![a, b, c, d];
            meters.truncate(n);
            meters
        })
        .boxed()
}

prop_compose! {
    /// A grant; few of them last for ever, and few pay for everything.
    pub fn grant(number: u64)(
        kind in select(GrantKind::ALL.to_vec()),
        priority in prop_oneof![3 => Just(None), 1 => (1..4_i64).prop_map(Some)],
        amount in prop_oneof![1..1_000_000_000_i64, 1..50_000_000_000_i64, Just(i64::MAX / 64)],
        time in span(),
        starts in prop_oneof![2 => Just(false), 1 => Just(true)],
        expires in any::<bool>(),
    ) -> Grant {
        Grant {
            id: grant_id(number),
            kind,
            priority: priority.unwrap_or(kind.priority()),
            amount,
            remaining: amount,
            starts_at: if starts { time.from } else { at(0) },
            expires_at: expires.then_some(time.until),
        }
    }
}

/// Some grants, in the order in which they are burnt.
pub fn grants() -> BoxedStrategy<Vec<Grant>> {
    (grant(1), grant(2), grant(3), grant(4), 0..=4_usize)
        .prop_map(|(a, b, c, d, n)| {
            let mut grants = vec![a, b, c, d];
            grants.truncate(n);
            billing::credit::sort(&mut grants);
            grants
        })
        .boxed()
}

/// Settles meters up to an instant with grants; every period is open.
pub fn settle(
    grants: &mut [Grant],
    meters: &mut [Meter],
    until: DateTime<Utc>,
    grid: Grid,
) -> Settlement {
    let wanted = |meter: &Meter| Measured { meter: meter.clone(), until };
    let mut measured: Vec<Measured> = meters.iter().map(wanted).collect();
    let open = billing::period::Period::of(at(0));
    let settled = billing::settle::settle(grants, &mut measured, open, grid);
    for (meter, measured) in meters.iter_mut().zip(measured) {
        *meter = measured.meter;
    }
    settled.expect("the amounts are small enough")
}
