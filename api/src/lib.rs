//! The server: wire, use cases, background work and what ties them together. Rules are in `domain`,
//! queries in `store`, isolation in `drivers`.

mod amqp;
pub mod app;
pub mod auth;
pub mod bus;
pub mod cli;
pub mod clock;
pub mod config;
#[cfg(test)]
mod golden;
pub mod http;
pub mod metrics;
pub mod places;
pub mod print;
pub mod proxy;
pub mod rate_limits;
pub mod serve;
pub mod signing;
pub mod trace;
pub mod work;
