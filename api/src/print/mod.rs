//! How documents look: for terminals and for paper. Reads no database and knows no HTTP; the wire form
//! of a document is its own.

pub mod statement;
mod table;

pub(crate) use table::clean;
pub use table::{Side, Table};
