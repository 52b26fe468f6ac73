//! `crownest admin statement`: what an organization is asked to pay.

use clap::Subcommand;

use super::{Ask, Names, Shown, Whose, help, values};

const COLUMNS: Names = &[
    ("month", "period"),
    ("statement", "id"),
    ("closed", "closedAt"),
    ("due", "amountDue"),
    ("currency", "currency"),
];

/// How to look at statements.
#[derive(Debug, Subcommand)]
pub(in super::super) enum Command {
    /// List an organization's closed months, the latest first.
    #[command(after_help = help::with(
        &["crownest admin statement list --organization org_019a"],
        help::CLIENT,
    ))]
    List {
        #[command(flatten)]
        whose: Whose,
    },
    /// Print the statement of a month: as it was closed, or what it would say now.
    #[command(after_help = help::with(
        &[
            "crownest admin statement get --organization org_019a 2031-01",
            "crownest admin statement get --organization org_019a 2031-01 --html > statement.html",
        ],
        help::CLIENT,
    ))]
    Get {
        #[command(flatten)]
        whose: Whose,
        /// The month.
        #[arg(value_name = "MONTH", value_parser = values::period)]
        period: billing::period::Period,
        /// Print a page that prints well.
        #[arg(long)]
        html: bool,
    },
}

impl Command {
    pub(in super::super) fn ask(self) -> Ask {
        match self {
            Self::List { whose } => Ask::get(whose.path("/statements"), Shown::Pages(COLUMNS)),
            Self::Get { whose, period, html } => {
                let path = whose.path(&format!("/statements/{period}"));
                if html {
                    Ask::get(path, Shown::Text).query("format", Some("html"))
                } else {
                    Ask::get(path, Shown::Printed)
                }
            }
        }
    }
}
