//! The store on both databases. One test program, because linking costs more than running.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "clippy.toml allows them in tests, but does not see that these fixtures are nothing else"
)]

mod artifacts;
mod billing;
mod commands;
mod errors;
mod fixtures;
mod idempotency;
mod listening;
mod logs;
mod outbox;
mod sandboxes;
mod schema;
mod scopes;
mod tenants;
mod transactions;
mod usage;
mod workers;
