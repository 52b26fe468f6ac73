//! The ledger's language: accounts, postings, and transactions that are balanced by construction. It
//! only grows; a mistake is mended by a transaction that points back.

use std::{collections::BTreeMap, fmt, str::FromStr};

use chrono::{DateTime, Utc};
use domain::id::{GrantId, TransactionId};

use crate::{Error, Result, credit::GrantKind, error::narrow, period::Period};

/// An account of an organization. What the organization has is above zero, what it owes below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Account {
    /// Credit of a kind that it may still use.
    Credit(GrantKind),
    /// What it used.
    Usage,
    /// Usage that no credit paid for: below zero, the entry that says so.
    Overage,
    /// Where granted credit comes from: below zero.
    Issued,
    /// Credit that ran out of time.
    Expired,
    /// Overage that a statement asks for: below zero.
    Invoiced,
    /// Overage that nobody is asked for: below zero.
    WrittenOff,
}

impl Account {
    /// Every account.
    pub const ALL: [Self; 10] = [
        Self::Credit(GrantKind::Plan),
        Self::Credit(GrantKind::Adjustment),
        Self::Credit(GrantKind::Free),
        Self::Credit(GrantKind::Purchased),
        Self::Usage,
        Self::Overage,
        Self::Issued,
        Self::Expired,
        Self::Invoiced,
        Self::WrittenOff,
    ];

    /// The storage form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Credit(GrantKind::Plan) => "credit:plan",
            Self::Credit(GrantKind::Adjustment) => "credit:adjustment",
            Self::Credit(GrantKind::Free) => "credit:free",
            Self::Credit(GrantKind::Purchased) => "credit:purchased",
            Self::Usage => "usage",
            Self::Overage => "overage",
            Self::Issued => "issued",
            Self::Expired => "expired",
            Self::Invoiced => "invoiced",
            Self::WrittenOff => "written_off",
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Account {
    type Err = ();
    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        Self::ALL.into_iter().find(|account| account.as_str() == text).ok_or(())
    }
}

/// What a transaction is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Credit comes.
    Grant,
    /// Usage is paid for.
    Usage,
    /// Credit is past its time.
    Expiry,
    /// An earlier transaction was wrong; this one points back.
    Correction,
    /// A statement asks for overage, or writes it off.
    Statement,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::Grant, Self::Usage, Self::Expiry, Self::Correction, Self::Statement];

    /// The storage form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Grant => "grant",
            Self::Usage => "usage",
            Self::Expiry => "expiry",
            Self::Correction => "correction",
            Self::Statement => "statement",
        }
    }
}

impl FromStr for Kind {
    type Err = ();
    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(())
    }
}

/// An amount on an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Posting {
    /// The account.
    pub account: Account,
    /// The grant, for an account of credit.
    pub grant: Option<GrantId>,
    /// Nano-credits; not zero.
    pub amount: i64,
}

impl Posting {
    /// A posting to an account that is not of credit.
    #[must_use]
    pub const fn to(account: Account, amount: i64) -> Self {
        Self { account, grant: None, amount }
    }

    /// A posting to a grant's credit.
    #[must_use]
    pub const fn credit(kind: GrantKind, grant: GrantId, amount: i64) -> Self {
        Self { account: Account::Credit(kind), grant: Some(grant), amount }
    }
}

/// What a transaction says of itself besides its postings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heading {
    /// What it is about.
    pub kind: Kind,
    /// Derived from what it books, unique in the organization: a repeat is refused.
    pub key: String,
    /// When what it books happened.
    pub at: DateTime<Utc>,
    /// The period whose statement shows it: that of `at`, or the first open one if that is closed.
    pub booked: Period,
    /// The pricing version of what was used.
    pub pricing: Option<String>,
    /// The transaction that it corrects.
    pub corrects: Option<TransactionId>,
    /// Why, for what people do.
    pub reason: Option<String>,
}

/// A transaction of an organization's ledger: its postings sum to zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    heading: Heading,
    postings: Vec<Posting>,
}

impl Transaction {
    /// Makes a transaction.
    ///
    /// # Errors
    /// [`Error::Unbalanced`]; [`Error::Empty`] without postings or with one of nothing.
    pub fn new(heading: Heading, postings: Vec<Posting>) -> Result<Self> {
        if postings.is_empty() || postings.iter().any(|posting| posting.amount == 0) {
            return Err(Error::Empty);
        }
        let sum: i128 = postings.iter().map(|posting| i128::from(posting.amount)).sum();
        if sum != 0 {
            return Err(Error::Unbalanced(sum));
        }
        Ok(Self { heading, postings })
    }

    /// What it says of itself.
    #[must_use]
    pub const fn heading(&self) -> &Heading {
        &self.heading
    }

    /// Its postings.
    #[must_use]
    pub fn postings(&self) -> &[Posting] {
        &self.postings
    }
}

/// Balances by account: a fold over postings.
///
/// # Errors
/// [`Error::Overflow`].
pub fn balances<'a>(
    postings: impl IntoIterator<Item = &'a Posting>,
) -> Result<BTreeMap<Account, i64>> {
    let mut sums: BTreeMap<Account, i128> = BTreeMap::new();
    for posting in postings {
        *sums.entry(posting.account).or_default() += i128::from(posting.amount);
    }
    sums.into_iter().map(|(account, sum)| Ok((account, narrow(sum, "a balance")?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transaction(amounts: &[i64]) -> Result<Transaction> {
        let heading = Heading {
            kind: Kind::Usage,
            key: "k".to_owned(),
            at: DateTime::UNIX_EPOCH,
            booked: Period::of(DateTime::UNIX_EPOCH),
            pricing: None,
            corrects: None,
            reason: None,
        };
        let postings = amounts.iter().map(|amount| Posting::to(Account::Usage, *amount));
        Transaction::new(heading, postings.collect())
    }

    #[test]
    fn only_what_balances_is_a_transaction() {
        assert!(transaction(&[5, -3, -2]).is_ok());
        assert_eq!(transaction(&[5, -4]), Err(Error::Unbalanced(1)));
        assert_eq!(transaction(&[]), Err(Error::Empty));
        assert_eq!(transaction(&[0]), Err(Error::Empty));
        assert_eq!(transaction(&[i64::MAX, 1]), Err(Error::Unbalanced(i128::from(i64::MAX) + 1)));
    }

    #[test]
    fn words_are_read_as_they_are_printed() {
        for account in Account::ALL {
            assert_eq!(account.as_str().parse(), Ok(account));
        }
        for kind in Kind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
    }
}
