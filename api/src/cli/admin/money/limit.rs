//! `crownest admin limit`: limits that hold whatever an organization's plan says.

use clap::{Args, Subcommand};
use reqwest::Method;

use super::{Ask, Because, Shown, TERMS, Whose, help, values};

/// What to do about limits.
#[derive(Debug, Subcommand)]
pub(in super::super) enum Command {
    /// Set a limit; `crownest admin plan get --organization ID` shows which there are.
    #[command(after_help = help::with(
        &["crownest admin limit set --organization org_019a max_concurrent_sandboxes 50 \
           --reason 'a demo'"],
        help::CLIENT,
    ))]
    Set {
        #[command(flatten)]
        which: Which,
        /// The limit, in its own unit.
        value: u64,
        #[command(flatten)]
        because: Because,
    },
    /// Leave a limit to the organization's plan again.
    #[command(after_help = help::with(
        &["crownest admin limit remove --organization org_019a max_concurrent_sandboxes \
           --reason 'the demo is over'"],
        help::CLIENT,
    ))]
    Remove {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        because: Because,
    },
}

/// Which limit.
#[derive(Debug, Args)]
pub(in super::super) struct Which {
    #[command(flatten)]
    whose: Whose,
    /// The limit's name.
    #[arg(value_name = "LIMIT", value_parser = values::path_word)]
    name: String,
}

impl Which {
    fn path(&self) -> String {
        self.whose.path(&format!("/limit-overrides/{}", self.name))
    }
}

impl Command {
    pub(in super::super) fn ask(self) -> Ask {
        let terms = Shown::One(TERMS);
        match self {
            Self::Set { which, value, because } => Ask::new(Method::PUT, which.path(), terms)
                .field("value", Some(value))
                .field("reason", Some(because.reason)),
            Self::Remove { which, because } => {
                Ask::delete(which.path(), terms).query("reason", Some(because.reason))
            }
        }
    }
}
