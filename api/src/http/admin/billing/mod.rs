//! Money on the admin API's wire: plans, credit, the ledger, prices, statements, usage. Amounts and
//! quantities are strings with all their digits. What is told apart by its instant has all digits of
//! that, too.

mod balance;
mod credit;
mod ledger;
mod plans;
mod pricing;
mod statements;
mod usage;

use chrono::{DateTime, Utc};

use crate::http::wire::{Precise, Wire};

/// The routes, by noun.
pub type Apis = (
    plans::Plans,
    credit::Credit,
    balance::Accounts,
    ledger::Ledger,
    pricing::Pricing,
    statements::Statements,
    usage::Usage,
);

/// The routes of money.
#[must_use]
pub const fn apis() -> Apis {
    (
        plans::Plans,
        credit::Credit,
        balance::Accounts,
        ledger::Ledger,
        pricing::Pricing,
        statements::Statements,
        usage::Usage,
    )
}

type Instant = Wire<Precise>;

const fn precise(at: DateTime<Utc>) -> Instant {
    Wire(Precise(at))
}
