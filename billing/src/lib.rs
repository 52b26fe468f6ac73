//! Numbers in, numbers out: what usage is cut into, what it costs, which credit pays for it, and what
//! a statement says. No clock, no storage, no randomness; the same input gives the same output.
//!
//! Amounts of credit are whole nano-credits (10⁻⁹ credit) in an `i64`, quantities whole thousandths of
//! a unit. Money exists on statements and caps only: it is credit times the price of a credit.

pub mod credit;
pub mod error;
pub mod forecast;
pub mod ledger;
pub mod meter;
pub mod money;
pub mod period;
pub mod plan;
pub mod pricing;
pub mod settle;
pub mod statement;

pub use error::{Error, Result};
