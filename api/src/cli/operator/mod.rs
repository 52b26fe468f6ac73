//! Commands that work on the installation itself, by its settings and its database: for whoever
//! operates the host, with or without a server that runs. Those that only have an admin key use
//! `admin`.

pub mod audit;
pub mod billing;
pub mod bootstrap;
pub mod doctor;
pub mod events;
pub mod signing_keys;
pub mod template;

use super::{Ending, Failure, help, open, output, values};
