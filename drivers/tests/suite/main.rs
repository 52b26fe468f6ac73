//! The drivers, held against the contract and against what is special about each.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on is a failed test")]

mod contract;
mod local_crashes;
mod local_host;
mod local_hosts;
mod local_isolation;
mod local_limits;
mod simulated;
mod traces;
