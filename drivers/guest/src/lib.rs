//! The agent inside every sandbox: serves the guest protocol over one listening socket. Knows no
//! tenants, no keys and no money, and keeps nothing beyond its own life.

pub mod arguments;
pub mod child;
mod clock;
mod commands;
mod dial;
mod files;
mod incoming;
mod locked;
pub mod machine;
pub mod serve;
mod service;
