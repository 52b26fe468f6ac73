//! `crownest admin member`: the people in an organization.

use clap::Subcommand;

use super::{Ask, Names, Shown, Whose, help, values};

const FACTS: Names = &[
    ("member", "id"),
    ("email", "email"),
    ("role", "role"),
    ("added", "createdAt"),
    ("removed", "removedAt"),
];

/// What to do with members.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Add a member; one who was removed is back.
    #[command(after_help = help::with(
        &["crownest admin member add --organization org_019a ann@example.org --role admin"],
        help::CLIENT,
    ))]
    Add {
        #[command(flatten)]
        whose: Whose,
        /// The address, unique in the organization.
        email: String,
        /// What they are there for: owner, admin or member.
        #[arg(long, default_value = "member")]
        role: String,
    },
    /// List an organization's members, newest first.
    #[command(after_help = help::with(
        &["crownest admin member list --organization org_019a"],
        help::CLIENT,
    ))]
    List {
        #[command(flatten)]
        whose: Whose,
    },
    /// Remove a member and revoke the keys that were made for them.
    #[command(after_help = help::with(
        &["crownest admin member remove --organization org_019a usr_019a"],
        help::CLIENT,
    ))]
    Remove {
        #[command(flatten)]
        whose: Whose,
        /// The member.
        #[arg(value_name = "MEMBER", value_parser = values::user_id)]
        id: String,
    },
}

impl Command {
    pub(super) fn ask(self) -> Ask {
        match self {
            Self::Add { whose, email, role } => {
                let add = Ask::post(whose.path("/members"), Shown::One(FACTS));
                add.field("email", Some(email)).field("role", Some(role))
            }
            Self::List { whose } => Ask::get(whose.path("/members"), Shown::Pages(FACTS)),
            Self::Remove { whose, id } => {
                Ask::delete(whose.path(&format!("/members/{id}")), Shown::One(FACTS))
            }
        }
    }
}
