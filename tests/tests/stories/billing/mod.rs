//! What usage costs and who pays: credit and caps that end at their second, plans, prices, statements
//! and alerts. The pure numbers are the crate `billing`'s own tests; here they meet servers, clocks
//! and databases.

mod alerts;
mod caps;
mod contention;
mod credit;
mod lifetimes;
mod plans;
mod pricing;
mod statements;

use billing::pricing::PricingVersion;

/// A hundred times as dear as the built-in version: ten seconds are a credit, so stories are short.
/// 10 USD still buy 300.0003 credits; here these are 3000.003 s.
fn dear() -> PricingVersion {
    PricingVersion {
        name: "dear".to_owned(),
        compute_unit_seconds_per_credit: 10,
        ..PricingVersion::built_in()
    }
}
