//! The laws of billing, on made-up usage. Knows no storage.

mod corrections;
mod credit;
mod forecasts;
mod given;
mod journal;
mod pricing;
mod statements;
mod windows;
