//! The nouns and rules of crownest: ids, keys, scopes, limits, lifecycle, metadata, error codes.
//! Pure: no I/O, no async, no clock, no randomness except `Id::generate`, no HTTP, no SQL.

pub mod id;

pub use id::{Id, Named};
