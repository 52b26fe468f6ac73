//! Pricing versions: immutable sets of prices. A sandbox keeps the one that was in force when it was
//! created, for as long as it lives and for everything that is counted in it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use domain::metric::Metric;
use rust_decimal::Decimal;

use crate::{
    Error, Result,
    error::narrow,
    money::{CREDIT, Currency},
};

/// Which way a price that is no whole number of nano-credits goes. It is applied to what a meter has
/// cost since it opened, not to single windows, so it shifts a sandbox's price by less than one
/// nano-credit in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// To the smaller amount.
    Down,
    /// To the larger amount.
    Up,
    /// To the nearer amount; halves go up.
    HalfUp,
}

impl Rounding {
    /// Every direction.
    pub const ALL: [Self; 3] = [Self::Down, Self::Up, Self::HalfUp];

    /// The storage form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Up => "up",
            Self::HalfUp => "half_up",
        }
    }

    /// `numerator / denominator` in whole numbers; the denominator is positive.
    #[must_use]
    pub const fn divide(self, numerator: i128, denominator: i128) -> i128 {
        match self {
            Self::Down => numerator.div_euclid(denominator),
            Self::Up => -(-numerator).div_euclid(denominator),
            Self::HalfUp => (2 * numerator + denominator).div_euclid(2 * denominator),
        }
    }
}

impl std::str::FromStr for Rounding {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|rounding| rounding.as_str() == text)
            .ok_or_else(|| Error::Pricing("rounding must be down, up or half_up".to_owned()))
    }
}

/// The price of a metric: so much credit for so many units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Nano-credits, 0 or more.
    pub nano_credits: i64,
    /// For this many units, 1 or more.
    pub per: i64,
}

impl Rate {
    /// Free of charge.
    pub const FREE: Self = Self { nano_credits: 0, per: 1 };
}

/// The name of the instance size of sandboxes that ask for none.
pub const BASE_SIZE: &str = "base";

/// A pricing version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PricingVersion {
    /// Its name on the wire, such as `2026-07`; unique.
    pub name: String,
    /// The currency of `currency_per_credit`.
    pub currency: Currency,
    /// Compute unit seconds that one credit buys.
    pub compute_unit_seconds_per_credit: u32,
    /// Price of one credit in billionths of the currency's unit.
    pub nano_currency_per_credit: i64,
    /// Compute units of an instance size, in thousandths, by its name. [`BASE_SIZE`] is one of them.
    pub sizes: BTreeMap<String, i64>,
    /// What a second without an active command counts, in thousandths of one with.
    pub idle_factor_milli: i64,
    /// Prices of the counted metrics; what is not named is free.
    pub rates: BTreeMap<Metric, Rate>,
    /// Which way prices are rounded.
    pub rounding: Rounding,
    /// Sandboxes created from this instant on have this version, until another one's begins.
    pub valid_from: DateTime<Utc>,
}

impl PricingVersion {
    /// The version that every installation starts with: 0.12 USD per sandbox hour, 1000 compute unit
    /// seconds per credit, everything else free (contract, section 7.2).
    #[must_use]
    pub fn built_in() -> Self {
        Self {
            name: "2026-07".to_owned(),
            currency: Currency::USD,
            compute_unit_seconds_per_credit: 1000,
            // 0.12 USD / 3600 s * 1000 s, to the contract's seven places.
            nano_currency_per_credit: 33_333_300,
            sizes: BTreeMap::from([(BASE_SIZE.to_owned(), 1000)]),
            idle_factor_milli: 1000,
            rates: BTreeMap::new(),
            rounding: Rounding::Down,
            valid_from: DateTime::UNIX_EPOCH,
        }
    }

    /// Checks that the version can price whatever it may meet.
    ///
    /// # Errors
    /// [`Error::Pricing`] naming the field.
    pub fn check(&self) -> Result<()> {
        let refuse = |text: &str| Err(Error::Pricing(text.to_owned()));
        let name_is_fine = (1..=64).contains(&self.name.len())
            && self.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if !name_is_fine {
            return refuse("name must be 1 to 64 letters, digits, '-', '_' or '.'");
        }
        if self.compute_unit_seconds_per_credit == 0 {
            return refuse("computeUnitSecondsPerCredit must be at least 1");
        }
        if !(0..=1_000_000_000_000_000).contains(&self.nano_currency_per_credit) {
            return refuse("currencyPerCredit must be 0 to 1000000");
        }
        if !self.sizes.contains_key(BASE_SIZE) {
            return refuse("sizes must name the size base");
        }
        if self.sizes.values().any(|milli| !(0..=1_000_000).contains(milli)) {
            return refuse("sizes must be 0 to 1000 compute units");
        }
        // More than 1 would let a price fall while a sandbox runs: idle time can turn out active.
        if !(0..=1000).contains(&self.idle_factor_milli) {
            return refuse("idleFactor must be 0 to 1");
        }
        for (metric, rate) in &self.rates {
            if *metric == Metric::ComputeUnitSeconds {
                return refuse("rates must not name compute_unit_seconds");
            }
            if !(0..=i64::from(u32::MAX) * CREDIT).contains(&rate.nano_credits) || rate.per < 1 {
                return refuse("rates must be credits of 0 or more for 1 or more units");
            }
        }
        Ok(())
    }

    /// The price of a metric's units.
    #[must_use]
    pub fn rate(&self, metric: Metric) -> Rate {
        if metric == Metric::ComputeUnitSeconds {
            let per = i64::from(self.compute_unit_seconds_per_credit);
            return Rate { nano_credits: CREDIT, per };
        }
        self.rates.get(&metric).copied().unwrap_or(Rate::FREE)
    }

    /// What a quantity costs, in nano-credits. Never less for more.
    ///
    /// # Errors
    /// [`Error::Overflow`] beyond about nine billion credits.
    pub fn price(&self, metric: Metric, quantity_milli: i64) -> Result<i64> {
        let rate = self.rate(metric);
        let numerator = i128::from(quantity_milli) * i128::from(rate.nano_credits);
        narrow(self.rounding.divide(numerator, 1000 * i128::from(rate.per)), "a price")
    }

    /// Compute units of an instance size, in thousandths; those of the base size if it has none.
    #[must_use]
    pub fn multiplier_milli(&self, size: &str) -> i64 {
        self.sizes.get(size).or_else(|| self.sizes.get(BASE_SIZE)).copied().unwrap_or(1000)
    }

    /// The price of a credit.
    #[must_use]
    pub fn currency_per_credit(&self) -> Decimal {
        Decimal::new(self.nano_currency_per_credit, 9).normalize()
    }

    /// The credit, in nano-credits, that so many billionths of the currency's unit buy; what is less
    /// than a nano-credit is cut off. None when credit costs nothing.
    #[must_use]
    pub fn credit_for(&self, nano_currency: i64) -> Option<i64> {
        let price = i128::from(self.nano_currency_per_credit);
        let credit = (i128::from(nano_currency) * i128::from(CREDIT)).checked_div(price)?;
        Some(i64::try_from(credit).unwrap_or(i64::MAX))
    }
}

/// The version in force at an instant: of those that are valid by then, the one that became so last.
#[must_use]
pub fn in_force<'a, V: std::ops::Deref<Target = PricingVersion>>(
    versions: impl IntoIterator<Item = &'a V>,
    at: DateTime<Utc>,
) -> Option<&'a V> {
    let valid = versions.into_iter().filter(|version| version.valid_from <= at);
    valid.max_by(|a, b| (a.valid_from, &a.name).cmp(&(b.valid_from, &b.name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_version_is_the_contract_s() {
        let version = PricingVersion::built_in();
        version.check().unwrap();
        assert_eq!(version.currency_per_credit().to_string(), "0.0333333");
        let price = version.price(Metric::ComputeUnitSeconds, 42_000).unwrap();
        assert_eq!(price, 42_000_000, "42 s are 0.042 credits");
        assert_eq!(version.price(Metric::SandboxCreates, 5_000), Ok(0));
        // 10 USD / 0.0333333 USD = 300.000300000300... credits
        assert_eq!(version.credit_for(10_000_000_000), Some(300_000_300_000));
    }

    #[test]
    fn rounding() {
        for (rounding, numerator, wanted) in [
            (Rounding::Down, 7, 1),
            (Rounding::Up, 7, 2),
            (Rounding::HalfUp, 5, 1),
            (Rounding::HalfUp, 6, 2),
            (Rounding::HalfUp, 7, 2),
            (Rounding::Down, 8, 2),
            (Rounding::Up, 8, 2),
            (Rounding::HalfUp, 8, 2),
            (Rounding::Down, -1, -1),
            (Rounding::Up, -1, 0),
        ] {
            assert_eq!(rounding.divide(numerator, 4), wanted, "{rounding:?} of {numerator}/4");
        }
    }

    #[test]
    fn a_senseless_version_is_refused_by_field() {
        let refused = |change: fn(&mut PricingVersion)| {
            let mut version = PricingVersion::built_in();
            change(&mut version);
            version.check().unwrap_err().to_string()
        };
        for (text, field) in [
            (refused(|v| v.name = "a b".into()), "name"),
            (refused(|v| v.compute_unit_seconds_per_credit = 0), "computeUnitSecondsPerCredit"),
            (refused(|v| v.nano_currency_per_credit = -1), "currencyPerCredit"),
            (refused(|v| v.sizes.clear()), "base"),
            (refused(|v| v.idle_factor_milli = 1001), "idleFactor"),
            (
                refused(|v| {
                    v.rates.insert(Metric::PreviewMinutes, Rate { nano_credits: 1, per: 0 });
                }),
                "rates",
            ),
        ] {
            assert!(text.contains(field), "{field}: {text}");
        }
    }
}
