//! Numbers in, numbers out: pricing versions and what usage costs under them. No clock, no tenant,
//! no storage; the same input gives the same output.

pub mod pricing;
