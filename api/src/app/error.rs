//! Everything that a use case can fail with. What of it the outside sees is decided in
//! `http/error.rs` alone.

use std::time::Duration;

use domain::Refused;
use drivers::{DriverError, guest::GuestError};

use crate::blobs;

/// A use case failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A rule said no.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The database said no.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The host said no.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The sandbox's agent said no. `field` is the request field that the path came from.
    #[error("{source}")]
    Guest {
        /// The request field whose path was refused, such as `path`.
        field: &'static str,
        /// What the agent said.
        source: GuestError,
    },
    /// The key's request window is used up.
    #[error("rate limited")]
    RateLimited {
        /// When to come back.
        retry_after: Duration,
    },
    /// A plan quota is used up.
    #[error("quota exceeded")]
    QuotaExceeded {
        /// Which, in words, such as `live sandboxes`.
        what: &'static str,
        /// How many there may be.
        limit: u64,
    },
    /// The first request with this idempotency key is still running.
    #[error("idempotent request in progress")]
    InProgress,
    /// The sandbox did not become ready in time.
    #[error("the sandbox did not become ready in time")]
    NotReady,
    /// The artifact store did not take bytes or let go of them.
    #[error("{0}")]
    NotStored(#[source] blobs::Error),
    /// The artifact store did not give the bytes of an artifact.
    #[error("{0}")]
    NotReadable(#[source] blobs::Error),
    /// Too much work of this kind is waiting already.
    #[error("overloaded: {0}")]
    Overloaded(&'static str),
}

/// The result of a use case.
pub type Result<T> = std::result::Result<T, Error>;
