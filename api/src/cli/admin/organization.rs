//! `crownest admin organization`: customers from their making to their end.

use clap::Subcommand;

use super::{Ask, Because, Names, Shown, help, values};

const COLUMNS: Names = &[
    ("organization", "id"),
    ("name", "name"),
    ("plan", "plan"),
    ("status", "status"),
    ("since", "statusSince"),
    ("because", "statusReason"),
    ("created", "createdAt"),
];
const FACTS: Names = &[
    ("organization", "id"),
    ("name", "name"),
    ("plan", "plan"),
    ("next plan", "nextPlan"),
    ("limits", "limitOverrides"),
    ("status", "status"),
    ("since", "statusSince"),
    ("because", "statusReason"),
    ("sandboxes end", "cleanupAt"),
    ("created", "createdAt"),
];

/// What to do with organizations.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make an organization, with a default project; keys come once it has a member.
    #[command(after_help = help::with(
        &[
            "crownest admin organization create acme --plan scale",
            "crownest admin organization create acme --json | jq -r .id",
        ],
        help::CLIENT,
    ))]
    Create {
        /// Its name, unique in the installation.
        name: String,
        /// Its plan, such as free or scale; the installation's default one otherwise.
        #[arg(long)]
        plan: Option<String>,
    },
    /// List all organizations, newest first.
    #[command(after_help = help::with(
        &[
            "crownest admin organization list",
            "crownest admin organization list --json | jq -r 'select(.name==\"acme\").id'",
        ],
        help::CLIENT,
    ))]
    List,
    /// Show an organization.
    #[command(after_help = help::with(
        &["crownest admin organization get org_019a"],
        help::CLIENT,
    ))]
    Get {
        /// The organization.
        #[arg(value_name = "ORGANIZATION", value_parser = values::organization_id)]
        id: String,
    },
    /// Suspend an organization: its keys open nothing, and its sandboxes end after a grace period.
    #[command(after_help = help::with(
        &["crownest admin organization suspend org_019a --reason unpaid"],
        help::CLIENT,
    ))]
    Suspend {
        /// The organization.
        #[arg(value_name = "ORGANIZATION", value_parser = values::organization_id)]
        id: String,
        #[command(flatten)]
        because: Because,
    },
    /// Resume a suspended organization; what still runs of it is spared.
    #[command(after_help = help::with(
        &["crownest admin organization resume org_019a"],
        help::CLIENT,
    ))]
    Resume {
        /// The organization.
        #[arg(value_name = "ORGANIZATION", value_parser = values::organization_id)]
        id: String,
    },
    /// Close an organization for good and end what runs of it; its data and ledger stay.
    #[command(after_help = help::with(
        &["crownest admin organization close org_019a --reason 'left us'"],
        help::CLIENT,
    ))]
    Close {
        /// The organization.
        #[arg(value_name = "ORGANIZATION", value_parser = values::organization_id)]
        id: String,
        #[command(flatten)]
        because: Because,
    },
}

/// The path of an organization, or of something of it.
pub(super) fn path(id: &str, rest: &str) -> String {
    format!("/organizations/{id}{rest}")
}

impl Command {
    pub(super) fn ask(self) -> Ask {
        let one = Shown::One(FACTS);
        match self {
            Self::Create { name, plan } => {
                Ask::post("/organizations", one).field("name", Some(name)).field("plan", plan)
            }
            Self::List => Ask::get("/organizations", Shown::Pages(COLUMNS)),
            Self::Get { id } => Ask::get(path(&id, ""), one),
            Self::Suspend { id, because } => {
                Ask::post(path(&id, "/suspend"), one).field("reason", Some(because.reason))
            }
            Self::Resume { id } => Ask::post(path(&id, "/resume"), one),
            Self::Close { id, because } => {
                Ask::post(path(&id, "/close"), one).field("reason", Some(because.reason))
            }
        }
    }
}
