//! Why a call to the agent failed, as far as callers have to tell. Decides nothing about HTTP.

use std::error::Error;

use protocol::Reason;
use tonic::{Code, Status};

use crate::driver::{DriverError, ErrorKind};

/// What an error means to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestErrorKind {
    /// The agent refused, for a reason that can be told to the user.
    Refused(Reason),
    /// The connection is lost or could not be made: the sandbox may be gone.
    Gone,
    /// The agent did not answer in time; what was asked may have happened or not.
    TimedOut,
    /// The agent said something senseless, or has a trouble of its own.
    Protocol,
    /// The stream of bytes that the caller passed has failed or stalled; nothing was written.
    Source,
}

/// A call that failed. Its text is for logs and operators, never for tenants.
#[derive(Debug, thiserror::Error)]
#[error("the guest failed ({kind:?}): {source}")]
pub struct GuestError {
    /// What it means.
    pub kind: GuestErrorKind,
    /// Why.
    #[source]
    pub source: Box<dyn Error + Send + Sync>,
}

impl GuestError {
    /// Builds an error from a text or another error.
    pub fn new(kind: GuestErrorKind, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind, source: source.into() }
    }

    pub(super) fn timed_out() -> Self {
        Self::new(GuestErrorKind::TimedOut, "no answer in time")
    }

    pub(super) fn protocol(text: impl Into<String>) -> Self {
        Self::new(GuestErrorKind::Protocol, text.into())
    }

    /// The reason, if the agent refused.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        if let GuestErrorKind::Refused(reason) = self.kind { Some(reason) } else { None }
    }
}

impl From<Status> for GuestError {
    fn from(status: Status) -> Self {
        // Only a status that was made on this side, of a broken connection, has a source.
        let is_lost = status.source().is_some()
            || matches!(status.code(), Code::Unavailable | Code::Cancelled);
        let kind = match Reason::of(&status) {
            Some(reason) => GuestErrorKind::Refused(reason),
            None if is_lost => GuestErrorKind::Gone,
            None if status.code() == Code::DeadlineExceeded => GuestErrorKind::TimedOut,
            None => GuestErrorKind::Protocol,
        };
        Self::new(kind, status)
    }
}

impl From<DriverError> for GuestError {
    fn from(error: DriverError) -> Self {
        let kind = match error.kind {
            ErrorKind::TimedOut => GuestErrorKind::TimedOut,
            ErrorKind::Gone | ErrorKind::NoCapacity | ErrorKind::Unsupported | ErrorKind::Host => {
                GuestErrorKind::Gone
            }
        };
        Self::new(kind, error)
    }
}
