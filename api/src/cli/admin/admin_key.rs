//! `crownest admin admin-key`: operators' own keys.

use clap::Subcommand;

use super::{Ask, Names, Shown, help, values};

const FACTS: Names = &[
    ("key", "id"),
    ("name", "name"),
    ("role", "role"),
    ("begins", "prefix"),
    ("made by", "createdByAdminKeyId"),
    ("created", "createdAt"),
    ("last used", "lastUsedAt"),
    ("revoked", "revokedAt"),
];
const NEW: Names = &[("key", "adminKey.id"), ("name", "adminKey.name"), ("role", "adminKey.role")];

/// What to do with operators' keys.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make an admin key; its secret is shown once, alone on standard output.
    #[command(after_help = help::with(
        &["crownest admin admin-key create ann --role support > key"],
        help::CLIENT,
    ))]
    Create {
        /// What to call it, such as its owner's name.
        name: String,
        /// What it may do: owner, billing, support or auditor.
        #[arg(long)]
        role: String,
    },
    /// List all admin keys, revoked ones too, newest first.
    #[command(after_help = help::with(&["crownest admin admin-key list"], help::CLIENT))]
    List,
    /// Show an admin key, without its secret.
    #[command(after_help = help::with(&["crownest admin admin-key get akey_019a"], help::CLIENT))]
    Get {
        /// The key, by its id.
        #[arg(value_name = "KEY", value_parser = values::admin_key_id)]
        id: String,
    },
    /// Revoke an admin key at once and for good.
    #[command(after_help = help::with(
        &["crownest admin admin-key revoke akey_019a"],
        help::CLIENT,
    ))]
    Revoke {
        /// The key, by its id.
        #[arg(value_name = "KEY", value_parser = values::admin_key_id)]
        id: String,
    },
}

impl Command {
    pub(super) fn ask(self) -> Ask {
        let one = Shown::One(FACTS);
        match self {
            Self::Create { name, role } => {
                let make = Ask::post("/admin-keys", Shown::Secret(NEW));
                make.field("name", Some(name)).field("role", Some(role))
            }
            Self::List => Ask::get("/admin-keys", Shown::Pages(FACTS)),
            Self::Get { id } => Ask::get(format!("/admin-keys/{id}"), one),
            Self::Revoke { id } => Ask::delete(format!("/admin-keys/{id}"), one),
        }
    }
}
