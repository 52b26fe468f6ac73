//! Isolation: one trait, its implementations and the contract that all of them keep. Knows a
//! sandbox's spec; knows no tenants, no keys, no money, and neither commands nor files (those are
//! the guest's, reached through [`Driver::connect`] and spoken by [`guest::Guest`]).

pub mod cloud_hypervisor;
pub mod contract;
mod driver;
pub mod guest;
mod jail;
pub mod local;
pub mod simulated;
mod spec;

pub use driver::{BoxedStream, Driver, DriverError, ErrorKind, GuestStream, Suspend, Verb};
pub use spec::{Limitation, Limits, Observed, Spec, Template};
