//! What is outside of a machine.

#[path = "../suite/network/internet.rs"]
pub mod internet;
#[expect(dead_code, reason = "machines speak for themselves")]
#[path = "../suite/network/namespace.rs"]
pub mod namespace;
