//! `crownest admin journal`: the ledger, as text that hledger reads, or transaction by transaction.

use clap::Subcommand;

use super::{Ask, Names, Shown, Whose, help};

const COLUMNS: Names = &[
    ("no.", "seq"),
    ("transaction", "id"),
    ("kind", "kind"),
    ("at", "at"),
    ("statement", "bookedFor"),
    ("corrects", "correctsTransactionId"),
    ("because", "reason"),
];

/// How to look at the ledger.
#[derive(Debug, Subcommand)]
pub(in super::super) enum Command {
    /// Print an organization's ledger as a plain-text journal that hledger reads.
    #[command(after_help = help::with(
        &["crownest admin journal print --organization org_019a | hledger -f - balance"],
        help::CLIENT,
    ))]
    Print {
        #[command(flatten)]
        whose: Whose,
    },
    /// List an organization's transactions, oldest first; --json has their postings.
    #[command(after_help = help::with(
        &["crownest admin journal list --organization org_019a --after 120 --json"],
        help::CLIENT,
    ))]
    List {
        #[command(flatten)]
        whose: Whose,
        /// Only those after this one, by its number.
        #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i64).range(0..))]
        after: Option<i64>,
    },
}

impl Command {
    pub(in super::super) fn ask(self) -> Ask {
        match self {
            Self::Print { whose } => Ask::get(whose.path("/journal"), Shown::Text),
            Self::List { whose, after } => {
                Ask::get(whose.path("/transactions"), Shown::Pages(COLUMNS)).after(after)
            }
        }
    }
}
