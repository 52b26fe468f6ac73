//! Queries of what usage costs and who pays: accounts, credit, windows, the ledger, statements. Rows in,
//! rows out: the numbers are decided in `billing`, which this crate does not know.

mod accounts;
mod anew;
mod books;
mod buckets;
mod changes;
mod lists;
mod measures;
pub mod pricing;
mod reports;
mod windows;

pub use buckets::{BucketPlace, Sum, UsageFilter};
pub use measures::Lock;
use uuid::Uuid;
pub use windows::WindowPlace;

use crate::Reach;

/// Rows of at most this many columns go into one statement in chunks of [`CHUNK`]; SQLite takes
/// 32,766 parameters.
const CHUNK: usize = 2_000;

/// The books within reach.
#[must_use]
pub const fn billing(reach: Reach) -> Billing {
    Billing { reach }
}

/// The books within a reach.
#[derive(Debug, Clone)]
pub struct Billing {
    reach: Reach,
}

fn values(ids: &[Uuid]) -> impl Iterator<Item = Uuid> + '_ {
    ids.iter().copied()
}
