//! The laws of billing, on made-up usage, and an independent second computation that a million
//! simulated lifetimes are billed against. Knows no storage: what a database must refuse is in `oracle`.

mod corrections;
mod credit;
mod forecasts;
mod given;
mod journal;
mod oracle;
mod pricing;
mod statements;
mod windows;
