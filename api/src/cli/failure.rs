//! How a command ends: exit codes, and what people are told.

use std::{io, process::ExitCode};

use serde_json::{Value, json};

use super::client::Refusal;
use crate::app::error::Error;

/// A command did what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All is well.
    Done,
    /// What was checked is wrong; it was printed what is.
    Wrong,
    /// A program in a sandbox ended with this code.
    Program(u8),
}

/// A command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// An argument makes no sense, or a rule refused it; the text names it.
    #[error("{0}")]
    Argument(String),
    /// The API said no.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// It could not be done.
    #[error("{0:#}")]
    Undone(anyhow::Error),
    /// As what it holds says, with an exit code of its own.
    #[error("{1}")]
    Ended(u8, Box<Failure>),
    /// It was asked to end by a signal, and has cleaned up.
    #[error("interrupted")]
    Interrupted(u8),
    /// Whoever read the answer has had enough of it.
    #[error("the reader is gone")]
    Unread,
}

impl Failure {
    /// What to tell on standard error, for people or for programs; nothing where nobody wants to know.
    #[must_use]
    pub fn told(&self, form: Form) -> Option<String> {
        match (self.root(), form) {
            (Self::Unread, _) => None,
            (_, Form::People) => Some(format!("crownest: {self}")),
            (_, Form::Programs) => Some(json!({ "error": self.json() }).to_string()),
        }
    }

    fn json(&self) -> Value {
        let plain = |code: &str| json!({ "code": code, "message": self.to_string(), "retryable": false, "status": 0 });
        match self.root() {
            Self::Refused(refusal) => json!(refusal),
            Self::Argument(_) => plain("invalid_argument"),
            Self::Interrupted(_) => plain("interrupted"),
            Self::Undone(_) | Self::Unread | Self::Ended(..) => plain("not_possible"),
        }
    }

    fn root(&self) -> &Self {
        match self {
            Self::Ended(_, failure) => failure.root(),
            Self::Argument(_)
            | Self::Refused(_)
            | Self::Undone(_)
            | Self::Unread
            | Self::Interrupted(_) => self,
        }
    }

    const fn code(&self) -> u8 {
        match self {
            Self::Unread => 0,
            Self::Refused(refusal) if !refusal.is_fault() => 1,
            // As clap's own.
            Self::Argument(_) => 2,
            Self::Refused(_) | Self::Undone(_) => 3,
            Self::Interrupted(code) | Self::Ended(code, _) => *code,
        }
    }
}

/// For whom answers and complaints are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Text and tables.
    People,
    /// Lines of JSON.
    Programs,
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
            | Error::NotStored(_)
            | Error::NotReadable(_)
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
            Ending::Program(code) => Self::from(code),
        }
    }
}

impl From<&Failure> for ExitCode {
    fn from(failure: &Failure) -> Self {
        Self::from(failure.code())
    }
}
