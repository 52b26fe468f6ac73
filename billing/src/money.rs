//! Currencies, and the one place where money leaves its exact form: rounded to minor units, in parts
//! that add up to the rounded whole.

use std::{fmt, str::FromStr};

use rust_decimal::Decimal;

use crate::{Error, Result, error::narrow};

/// Nano-credits of one credit, and billionths of one unit of a currency.
pub const CREDIT: i64 = 1_000_000_000;

/// A currency: its ISO 4217 code. All have two decimal places here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    /// The US dollar.
    pub const USD: Self = Self(*b"USD");

    /// Its code.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("???")
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Currency {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let code: [u8; 3] = text
            .as_bytes()
            .try_into()
            .ok()
            .filter(|code: &[u8; 3]| code.iter().all(u8::is_ascii_uppercase))
            .ok_or_else(|| Error::Pricing("currency must be three capital letters".to_owned()))?;
        Ok(Self(code))
    }
}

/// An exact amount of money: 10⁻¹⁸ of a currency's unit, what a nano-credit times a price of a credit
/// comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Exact(pub i128);

/// Exact amounts in one minor unit, a hundredth.
const MINOR: i128 = 10_i128.pow(16);

impl Exact {
    /// Credit at a price.
    #[must_use]
    pub fn of(nano_credits: i64, nano_currency_per_credit: i64) -> Self {
        Self(i128::from(nano_credits) * i128::from(nano_currency_per_credit))
    }

    /// Rounded to minor units, halves away from zero as invoices are.
    ///
    /// # Errors
    /// [`Error::Overflow`].
    pub fn minor_units(self) -> Result<i64> {
        let half = if self.0 < 0 { -MINOR / 2 } else { MINOR / 2 };
        narrow((self.0 + half) / MINOR, "an amount of money")
    }
}

impl std::iter::Sum for Exact {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        Self(parts.map(|part| part.0).sum())
    }
}

/// Rounds each part to minor units so that they add up to their rounded sum: every part is cut to the
/// unit below it, and the units that are then missing go to those that lost most, the first of equals
/// first.
///
/// # Errors
/// [`Error::Overflow`].
pub fn split(parts: &[Exact]) -> Result<Vec<i64>> {
    let total = parts.iter().copied().sum::<Exact>().minor_units()?;
    let mut cut = Vec::with_capacity(parts.len());
    for part in parts {
        cut.push(narrow(part.0.div_euclid(MINOR), "an amount of money")?);
    }
    let floor: i128 = cut.iter().copied().map(i128::from).sum();
    let missing = usize::try_from(i128::from(total) - floor).unwrap_or(0);
    let mut by_loss: Vec<usize> = (0..parts.len()).collect();
    by_loss.sort_by_key(|&at| (-parts[at].0.rem_euclid(MINOR), at));
    for &at in by_loss.iter().take(missing) {
        cut[at] += 1;
    }
    Ok(cut)
}

/// Prints nano-credits or billionths of a currency as a decimal number with all its digits and no
/// zeros at the end.
#[must_use]
pub fn decimal(nano: i64) -> Decimal {
    Decimal::new(nano, 9).normalize()
}

/// Prints minor units as a decimal number with two places.
#[must_use]
pub fn minor(units: i64) -> Decimal {
    Decimal::new(units, 2)
}

/// Reads a decimal number as billionths.
#[must_use]
pub fn nano(value: Decimal) -> Option<i64> {
    let scaled = value.checked_mul(Decimal::from(CREDIT))?;
    if !scaled.fract().is_zero() {
        return None;
    }
    i64::try_from(scaled.trunc()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up() {
        let cents = |parts: &[i128]| {
            let parts: Vec<_> = parts.iter().map(|milli| Exact(milli * MINOR / 1000)).collect();
            split(&parts).unwrap()
        };
        // In thousandths of a cent.
        assert_eq!(cents(&[]), [0; 0]);
        assert_eq!(cents(&[333, 333, 334]), [0, 0, 1], "the largest remainder");
        assert_eq!(cents(&[500, 500]), [1, 0], "the first of equals");
        assert_eq!(cents(&[1_499]), [1]);
        assert_eq!(cents(&[400, 400, 400, 400]), [1, 1, 0, 0], "1.6 cents are 2");
        assert_eq!(cents(&[-300, 1_300]), [0, 1], "a correction that takes back");
        assert_eq!(cents(&[-1_500]), [-2]);
        assert_eq!(cents(&[1_000, 0, 2_000]), [1, 0, 2]);
    }

    #[test]
    fn numbers_are_read_exactly_or_not_at_all() {
        assert_eq!(nano("10".parse().unwrap()), Some(10_000_000_000));
        assert_eq!(nano("0.000000001".parse().unwrap()), Some(1));
        assert_eq!(nano("0.0000000001".parse().unwrap()), None);
        assert_eq!(nano("10000000000".parse().unwrap()), None);
        assert_eq!(decimal(42_000_000).to_string(), "0.042");
    }
}
