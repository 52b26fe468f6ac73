//! Stories of the agent: the real binary on a Unix socket, driven with the typed client. Isolation is
//! a driver's business and is not looked at here.

#![expect(clippy::unwrap_used, reason = "a story that cannot go on fails right there")]

mod commands;
mod endings;
mod files;
mod fixture;
mod links;
mod ports;
mod process;
mod senseless;
mod transfers;
