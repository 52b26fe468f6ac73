//! How a command ends: exit codes, and what people are told.

use std::{io, process::ExitCode};

use crate::app::error::Error;

/// A command did what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All is well.
    Done,
    /// What was checked is wrong; it was printed what is.
    Wrong,
}

/// A command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// An argument makes no sense, or a rule refused it; the text names it.
    #[error("{0}")]
    Argument(String),
    /// It could not be done.
    #[error("{0:#}")]
    Undone(anyhow::Error),
    /// Whoever read the answer has had enough of it.
    #[error("the reader is gone")]
    Unread,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(refused) => Self::Argument(refused.message),
            Error::Store(store::Error::Missing(what)) => {
                Self::Argument(format!("there is no such {what}"))
            }
            error @ (Error::Store(_)
            | Error::Driver(_)
            | Error::Guest { .. }
            | Error::RateLimited { .. }
            | Error::QuotaExceeded { .. }
            | Error::InProgress
            | Error::NotReady
            | Error::Overloaded(_)) => Self::Undone(error.into()),
        }
    }
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        Error::Store(error).into()
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<io::Error>() {
            Ok(error) => error.into(),
            Err(error) => match error.downcast::<Error>() {
                Ok(error) => error.into(),
                Err(error) => Self::Undone(error),
            },
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::Unread;
        }
        Self::Undone(error.into())
    }
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Done => Self::SUCCESS,
            Ending::Wrong => Self::from(1),
        }
    }
}

impl From<&Failure> for ExitCode {
    fn from(failure: &Failure) -> Self {
        match failure {
            // As clap's own.
            Failure::Argument(_) => Self::from(2),
            Failure::Undone(_) => Self::from(3),
            Failure::Unread => Self::SUCCESS,
        }
    }
}
