//! Pricing versions: which one is in force, and that whoever began under one stays with it.

use std::{collections::BTreeMap, sync::Arc};

use billing::pricing::{PricingVersion, Rounding, in_force};
use domain::metric::Metric;
use proptest::{collection::vec, prelude::*, sample::select};

use crate::given::{
    at, cases, end, grants, grid, grid_of, instant, lifetime, meter, settle, version,
};

proptest! {
    #![proptest_config(cases(1000))]

    /// Down, up and half up, as they are defined: by what they leave over.
    #[test]
    fn rounding_is_what_its_name_says(
        rounding in select(Rounding::ALL.to_vec()),
        numerator in any::<i64>(),
        denominator in 1..i64::MAX,
    ) {
        let (numerator, denominator) = (i128::from(numerator), i128::from(denominator));
        let over = rounding.divide(numerator, denominator) * denominator - numerator;
        let fits = match rounding {
            Rounding::Down => -denominator < over && over <= 0,
            Rounding::Up => 0 <= over && over < denominator,
            Rounding::HalfUp => -denominator < 2 * over && 2 * over <= denominator,
        };
        prop_assert!(fits, "{} over", over);
    }

    /// The version in force is the last one that has begun, whatever order they are kept in.
    #[test]
    fn the_last_one_that_began_is_in_force(
        versions in vec(version(), 0..5).prop_shuffle(),
        now in instant(),
    ) {
        let versions: Vec<Arc<PricingVersion>> = versions.into_iter().map(Arc::new).collect();
        let found = in_force(&versions, now);
        let begun: Vec<_> = versions.iter().filter(|v| v.valid_from <= now).collect();
        prop_assert_eq!(found.is_some(), !begun.is_empty());
        if let Some(found) = found {
            prop_assert!(found.valid_from <= now);
            prop_assert!(begun.iter().all(|version| version.valid_from <= found.valid_from));
        }
    }

    /// The credit that money buys costs no more than that money, and one nano-credit more would.
    #[test]
    fn money_buys_what_it_pays_for(version in version(), money in 0..10_000_000_000_000_i64) {
        let price = i128::from(version.nano_currency_per_credit);
        match version.credit_for(money) {
            None => prop_assert_eq!(price, 0),
            Some(credit) => {
                let costs = |credit: i64| i128::from(credit) * price;
                let money = i128::from(money) * 1_000_000_000;
                prop_assert!(costs(credit) <= money && money < costs(credit) + price);
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(600))]

    /// Prices change while sandboxes run: each second of a sandbox costs what the version says that it
    /// was created under, in whatever company it is settled, and its lines name that version.
    #[test]
    fn every_second_is_priced_under_its_own_version(
        versions in vec(version(), 1..4),
        lives in vec(lifetime(), 1..5),
        grants in grants(),
        mut ticks in vec(instant(), 0..4),
        grid in grid(),
    ) {
        let versions: Vec<_> = versions.into_iter().enumerate().map(|(place, version)| {
            let valid_from = if place == 0 { at(0) } else { version.valid_from };
            Arc::new(PricingVersion { valid_from, name: format!("v{place}"), ..version })
        }).collect();
        let mut meters = Vec::new();
        for (number, source) in lives.into_iter().enumerate() {
            let billing::meter::Source::Time { opened_at, .. } = source else { unreachable!() };
            let pinned = in_force(&versions, opened_at).expect("the first one is valid").clone();
            let number = u64::try_from(number).unwrap();
            meters.push(meter(number, Metric::ComputeUnitSeconds, (*pinned).clone(), source));
        }
        // Alone, in one piece, priced by hand.
        let mut alone: BTreeMap<_, i64> = BTreeMap::new();
        for given in &meters {
            let mut meter = given.clone();
            meter.settle(end(), &[], grid_of(86_400)).unwrap();
            let quantity = i128::from(meter.settled.quantity_milli) * 1_000_000;
            let per = i128::from(given.pricing.compute_unit_seconds_per_credit);
            let price = given.pricing.rounding.divide(quantity, per);
            *alone.entry((given.sandbox, given.pricing.name.clone())).or_default() +=
                i64::try_from(price).unwrap();
        }
        let mut together: BTreeMap<_, i64> =
            alone.keys().map(|key| (key.clone(), 0)).collect();
        let mut grants = grants;
        ticks.sort_unstable();
        for until in ticks.into_iter().chain([end()]) {
            let settlement = settle(&mut grants, &mut meters, until, grid);
            for window in &settlement.windows {
                *together.entry((window.sandbox, window.pricing.clone())).or_default() +=
                    window.piece.amount;
            }
            for (line, used) in settlement.lines().unwrap() {
                let windows = settlement.windows.iter().filter(|w| w.pricing == line.pricing
                    && w.project == line.project && w.booked == line.booked);
                prop_assert_eq!(windows.map(|w| w.piece.amount).sum::<i64>(), used.amount);
            }
        }
        prop_assert_eq!(together, alone);
    }
}
