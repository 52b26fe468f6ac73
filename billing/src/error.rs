//! What can go wrong with numbers. Nothing of it is a tenant's doing.

/// A computation that has no right answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A result does not fit its scale.
    #[error("{0} is too large to be represented")]
    Overflow(&'static str),
    /// The postings of a transaction do not sum to zero.
    #[error("the postings of a transaction sum to {0} nano-credits, not to zero")]
    Unbalanced(i128),
    /// A transaction without postings, or with one of nothing.
    #[error("a transaction needs postings, each of an amount")]
    Empty,
    /// A setting of a pricing version makes no sense; the text names the field.
    #[error("pricing version: {0}")]
    Pricing(String),
    /// A text that is no period.
    #[error("a period is a month such as 2031-02")]
    Period,
    /// Amounts of two currencies on one statement.
    #[error("the statement would mix {0} and {1}")]
    Currencies(String, String),
}

/// The result of a computation.
pub type Result<T> = std::result::Result<T, Error>;

/// Narrows to what is stored.
///
/// # Errors
/// [`Error::Overflow`] naming `what`.
pub(crate) fn narrow(value: i128, what: &'static str) -> Result<i64> {
    i64::try_from(value).map_err(|_| Error::Overflow(what))
}
