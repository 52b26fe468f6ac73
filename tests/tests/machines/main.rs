//! The real server over real machines: `crownest serve` with the Cloud Hypervisor driver and SQLite, and what
//! the API, the meters and the host's processes show of the same machine. `make test-microvm` says what it
//! needs. Not a part of `cargo test`, because few hosts can run it; what happens inside machines is the
//! driver's own tests' matter.
#![expect(clippy::unwrap_used, reason = "a story that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "whoever reads a failure needs the log and the times")]

mod bill;
mod egress;
mod host;
mod lives;
mod network;
#[path = "../../../drivers/tests/suite/run.rs"]
mod run;
mod servers;
mod stage;
mod wait;
