//! Why file work failed, and how that is told on the wire.

use std::{fmt, io};

use protocol::Reason;
use rustix::io::Errno;
use tonic::Status;

/// Why file work failed. Without a reason it is a trouble of the host or of the agent.
#[derive(Debug)]
pub struct Refusal {
    /// What the client is told.
    pub reason: Option<Reason>,
    message: String,
}

impl Refusal {
    /// A refusal with a text for logs.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason: Some(reason), message: message.into() }
    }

    /// The same refusal for another reason, if it had this one.
    #[must_use]
    pub fn instead_of(mut self, reason: Reason, other: Reason) -> Self {
        if self.reason == Some(reason) {
            self.reason = Some(other);
        }
        self
    }
}

impl From<Errno> for Refusal {
    fn from(error: Errno) -> Self {
        let reason = match error {
            Errno::NOENT => Some(Reason::FileNotFound),
            Errno::NOTDIR => Some(Reason::NotDirectory),
            Errno::EXIST => Some(Reason::AlreadyExists),
            Errno::ISDIR => Some(Reason::IsDirectory),
            Errno::NOTEMPTY => Some(Reason::DirectoryNotEmpty),
            Errno::NOSPC | Errno::DQUOT => Some(Reason::NoSpace),
            Errno::FBIG => Some(Reason::FileTooLarge),
            Errno::NAMETOOLONG | Errno::LOOP => Some(Reason::InvalidPath),
            // Busy and other-filesystem are mount points, which the user cannot change either.
            Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::BUSY | Errno::XDEV => {
                Some(Reason::NotPermitted)
            }
            Errno::NXIO => Some(Reason::NotRegularFile),
            _ => None,
        };
        Self { reason, message: error.to_string() }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        match Errno::from_io_error(&error) {
            Some(errno) => errno.into(),
            None => Self { reason: None, message: error.to_string() },
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        match refusal.reason {
            Some(reason) => reason.status(refusal.message),
            None => Self::internal(refusal.message),
        }
    }
}
