//! Pricing versions: immutable sets of prices. A sandbox keeps the one it was created under.

use rust_decimal::Decimal;

/// A pricing version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PricingVersion {
    /// Its name on the wire, such as `2026-07`.
    pub name: &'static str,
    /// Compute unit seconds that one credit buys.
    pub compute_unit_seconds_per_credit: u32,
    /// Price of one credit, in US dollars.
    pub currency_per_credit: Decimal,
    /// Compute units of the base instance size, in thousandths.
    pub base_multiplier_milli: i64,
}

/// The version that every installation starts with: 0.12 USD per sandbox hour, 1000 compute unit
/// seconds per credit (contract, section 7.2).
pub const BUILT_IN: PricingVersion = PricingVersion {
    name: "2026-07",
    compute_unit_seconds_per_credit: 1000,
    // 0.12 USD / 3600 s * 1000 s, to the contract's seven places.
    currency_per_credit: Decimal::from_parts(333_333, 0, 0, false, 7),
    base_multiplier_milli: 1000,
};

impl PricingVersion {
    /// What compute unit seconds cost, in credits, exactly.
    #[must_use]
    pub fn credits(&self, compute_unit_seconds: i64) -> Decimal {
        Decimal::from(compute_unit_seconds) / Decimal::from(self.compute_unit_seconds_per_credit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_version_is_the_contract_s() {
        assert_eq!(BUILT_IN.currency_per_credit.to_string(), "0.0333333");
        assert_eq!(BUILT_IN.credits(42).to_string(), "0.042");
    }
}
