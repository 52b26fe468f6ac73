//! The networks of machines, with real packets: through the rules that the driver makes, between a stand-in
//! for the machine, a host and an internet, each in a network namespace.

mod card;
mod internet;
mod lives;
mod namespace;
mod policies;
mod spoofing;
pub mod world;
