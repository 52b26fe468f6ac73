//! Why something went wrong on the host, before it is known which verb it fails. Decides what an
//! error of the operating system means to a caller.

use std::{fmt, io, path::Path};

use rustix::io::Errno;

use crate::driver::{DriverError, ErrorKind, Verb};

/// An error on its way to becoming a [`DriverError`].
#[derive(Debug)]
pub struct Failure {
    /// What it means.
    pub kind: ErrorKind,
    text: String,
}

/// What may fail on the host.
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub(crate) fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    pub(crate) fn host(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::Host, text)
    }

    pub(crate) fn unsupported(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, text)
    }

    pub(crate) fn timed_out(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::TimedOut, text)
    }

    pub(crate) fn of_verb(self, verb: Verb) -> DriverError {
        DriverError::new(self.kind, verb, self.text)
    }
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Says what was being done when an error of the operating system came.
pub(crate) trait Doing<T> {
    fn doing(self, what: &str, path: &Path) -> Result<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, what: &str, path: &Path) -> Result<T> {
        self.map_err(|error| {
            let error = error.into();
            Failure::new(kind_of(&error), format!("cannot {what} {}: {error}", path.display()))
        })
    }
}

fn kind_of(error: &io::Error) -> ErrorKind {
    const NO_ROOM: [Errno; 7] = [
        Errno::NOSPC,
        Errno::DQUOT,
        Errno::NOMEM,
        Errno::AGAIN,
        Errno::MFILE,
        Errno::NFILE,
        Errno::MLINK,
    ];
    match Errno::from_io_error(error) {
        Some(errno) if NO_ROOM.contains(&errno) => ErrorKind::NoCapacity,
        Some(_) | None => ErrorKind::Host,
    }
}
