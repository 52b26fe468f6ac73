//! The nouns and rules of crownest: ids, keys, scopes, limits, lifecycle, metadata, error codes.
//! Pure: no I/O, no async, no clock, no randomness except `Id::generate`, no HTTP, no SQL.

pub mod admin;
pub mod code;
pub mod command;
pub mod id;
pub mod key;
pub mod limits;
pub mod metadata;
pub mod metric;
pub mod organization;
pub mod path;
pub mod preview;
pub mod sandbox;
pub mod scope;

#[cfg(test)]
mod golden;

pub use code::{Code, Refused};
