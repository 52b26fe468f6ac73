//! The drivers, held against the contract and against what is special about each.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on is a failed test")]

mod contract;
mod hypervisor;
mod local_crashes;
mod local_host;
mod local_hosts;
mod local_isolation;
mod local_limits;
mod machine_host;
mod machines;
mod network;
mod run;
#[path = "stand_in/schema.rs"]
mod schema;
mod simulated;
mod suspensions;
mod traces;
mod warm_starts;
