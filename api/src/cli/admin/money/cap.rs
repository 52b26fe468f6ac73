//! `crownest admin cap`: how much an organization may be invoiced in a month.

use clap::Subcommand;
use reqwest::Method;

use super::{Ask, Because, Names, Shown, Whose, help, values};

const FACTS: Names = &[("cap", "cap")];

/// What to do about a spend cap.
#[derive(Debug, Subcommand)]
pub(in super::super) enum Command {
    /// Show the cap, in the currency of the prices; nothing where there is none.
    #[command(after_help = help::with(
        &["crownest admin cap get --organization org_019a"],
        help::CLIENT,
    ))]
    Get {
        #[command(flatten)]
        whose: Whose,
    },
    /// Set how much may be invoiced in a month, beyond credit.
    #[command(after_help = help::with(
        &["crownest admin cap set --organization org_019a 250.50 --reason 'as agreed'"],
        help::CLIENT,
    ))]
    Set {
        #[command(flatten)]
        whose: Whose,
        /// How much, in the currency of the prices.
        #[arg(allow_negative_numbers = true)]
        amount: values::Exactly,
        #[command(flatten)]
        because: Because,
    },
    /// Let the organization be invoiced without end.
    #[command(after_help = help::with(
        &["crownest admin cap remove --organization org_019a --reason 'they pay'"],
        help::CLIENT,
    ))]
    Remove {
        #[command(flatten)]
        whose: Whose,
        #[command(flatten)]
        because: Because,
    },
}

impl Command {
    pub(in super::super) fn ask(self) -> Ask {
        let one = Shown::One(FACTS);
        match self {
            Self::Get { whose } => Ask::get(whose.path("/spend-cap"), one),
            Self::Set { whose, amount, because } => {
                Ask::new(Method::PUT, whose.path("/spend-cap"), one)
                    .field("cap", Some(amount.0.to_string()))
                    .field("reason", Some(because.reason))
            }
            Self::Remove { whose, because } => {
                Ask::delete(whose.path("/spend-cap"), one).query("reason", Some(because.reason))
            }
        }
    }
}
