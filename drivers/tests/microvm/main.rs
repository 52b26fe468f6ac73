//! The Cloud Hypervisor driver with real machines: `make test-microvm`, which says what it needs. Not a part
//! of `cargo test`, because few machines can run it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on is a failed test")]

mod contract;
mod egress;
mod host;
mod isolation;
#[expect(dead_code, reason = "of what it has for local sandboxes, machines only want some")]
#[path = "../suite/local_host.rs"]
mod local_host;
mod network;
#[path = "../suite/run.rs"]
mod run;
mod servers;
mod suspend;
#[expect(dead_code, reason = "machines of this kind are not killed at every step of their making")]
#[path = "../suite/traces.rs"]
mod traces;
mod warm;
