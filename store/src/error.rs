//! What can go wrong in the store, and the one reader of PostgreSQL's SQLSTATEs and SQLite's codes.

use std::borrow::Cow;

use sea_orm::{DbErr, RuntimeErr, SqlxError};

/// The store's result.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a query did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such row, or it is not within reach.
    #[error("no such {0}")]
    Missing(&'static str),
    /// A unique constraint, by its name, is in the way.
    #[error("{0} is in the way")]
    Taken(String),
    /// The row changed since it was read.
    #[error("the row changed since it was read")]
    Stale,
    /// The database does not answer, or not now.
    #[error("the database is not available")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A row or a statement breaks the rules that the schema is built on: our bug or theirs who
    /// edited the database.
    #[error("corrupt: {0}")]
    Corrupt(String),
}

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        if matches!(error, DbErr::Type(_) | DbErr::Json(_) | DbErr::TryIntoErr { .. }) {
            return Self::Corrupt(error.to_string());
        }
        let (DbErr::Conn(RuntimeErr::SqlxError(sqlx))
        | DbErr::Exec(RuntimeErr::SqlxError(sqlx))
        | DbErr::Query(RuntimeErr::SqlxError(sqlx))) = &error
        else {
            return Self::Unavailable(Box::new(error));
        };
        if let SqlxError::Database(refusal) = sqlx.as_ref() {
            let code = refusal.code().unwrap_or_default();
            return match kind(&code) {
                Kind::Unique => Self::Taken(constraint(refusal.as_ref())),
                Kind::Reference => Self::Missing("row that the new one points at"),
                Kind::Broken => Self::Corrupt(format!("{code}: {}", refusal.message())),
                Kind::Unavailable => Self::Unavailable(Box::new(error)),
            };
        }
        let does_not_fit = matches!(
            sqlx.as_ref(),
            SqlxError::ColumnDecode { .. }
                | SqlxError::ColumnNotFound(_)
                | SqlxError::ColumnIndexOutOfBounds { .. }
                | SqlxError::TypeNotFound { .. }
                | SqlxError::Decode(_)
                | SqlxError::Encode(_)
        );
        if does_not_fit {
            Self::Corrupt(error.to_string())
        } else {
            Self::Unavailable(Box::new(error))
        }
    }
}

impl From<SqlxError> for Error {
    fn from(error: SqlxError) -> Self {
        DbErr::Conn(RuntimeErr::SqlxError(error.into())).into()
    }
}

enum Kind {
    Unique,
    Reference,
    /// Asking again gives the same answer.
    Broken,
    Unavailable,
}

/// SQLSTATEs are five characters, SQLite's codes at most four digits.
fn kind(code: &str) -> Kind {
    match code {
        "23505" | "2067" | "1555" => Kind::Unique,
        "23503" | "787" => Kind::Reference,
        // Check, not null, STRICT's wrong type, SQL error, corrupt file, misuse, mismatch, range.
        "275" | "1299" | "3091" | "1" | "11" | "20" | "21" | "25" => Kind::Broken,
        // Data, integrity, syntax or missing object, limits of the program.
        _ if code.len() == 5
            && ["22", "23", "42", "54"].iter().any(|class| code.starts_with(class)) =>
        {
            Kind::Broken
        }
        _ => Kind::Unavailable,
    }
}

fn constraint(refusal: &dyn sea_orm::sqlx::error::DatabaseError) -> String {
    if let Some(name) = refusal.constraint() {
        return name.to_owned();
    }
    let message = refusal.message();
    let columns = message.rsplit_once("failed: ").map_or(message, |(_, columns)| columns);
    let known = migrations::constraints::UNIQUE.iter().find(|(_, theirs)| *theirs == columns);
    known.map_or_else(|| Cow::Borrowed(columns), |(name, _)| Cow::Borrowed(*name)).into_owned()
}
