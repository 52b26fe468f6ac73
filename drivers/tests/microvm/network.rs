//! What is outside of a machine.

#[path = "../suite/network/internet.rs"]
pub mod internet;
#[path = "../suite/network/namespace.rs"]
pub mod namespace;
