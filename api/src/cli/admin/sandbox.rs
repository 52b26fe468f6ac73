//! `crownest admin sandbox`: what all customers run.

use clap::{Args, Subcommand};

use super::{Ask, Because, Names, Shown, help, values};

const COLUMNS: Names = &[
    ("sandbox", "id"),
    ("organization", "orgId"),
    ("status", "status"),
    ("host", "host"),
    ("template", "templateSlug"),
    ("created", "createdAt"),
    ("expires", "expiresAt"),
];
const FACTS: Names = &[
    ("sandbox", "id"),
    ("organization", "orgId"),
    ("project", "projectId"),
    ("key", "createdByApiKeyId"),
    ("status", "status"),
    ("host", "host"),
    ("template", "templateSlug"),
    ("version", "templateVersion"),
    ("prices", "pricingVersion"),
    ("created", "createdAt"),
    ("ready", "readyAt"),
    ("expires", "expiresAt"),
    ("ended", "endedAt"),
    ("because", "endReason"),
    ("failure", "failure"),
    ("metadata", "metadata"),
];

/// What to do with sandboxes.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List sandboxes of all organizations, newest first; only live ones if nothing else is said.
    #[command(after_help = help::with(
        &[
            "crownest admin sandbox list",
            "crownest admin sandbox list --organization org_019a --all --json | jq -r .id",
        ],
        help::CLIENT,
    ))]
    List(List),
    /// Show a sandbox of any organization, also one that is gone.
    #[command(after_help = help::with(&["crownest admin sandbox get sbx_019a"], help::CLIENT))]
    Get {
        /// The sandbox.
        #[arg(value_name = "SANDBOX", value_parser = values::sandbox_id)]
        id: String,
    },
    /// Kill a sandbox and everything in it; its meter stops at once.
    #[command(after_help = help::with(
        &["crownest admin sandbox kill sbx_019a --reason 'it scans the network'"],
        help::CLIENT,
    ))]
    Kill {
        /// The sandbox.
        #[arg(value_name = "SANDBOX", value_parser = values::sandbox_id)]
        id: String,
        #[command(flatten)]
        because: Because,
    },
}

/// Which sandboxes.
#[derive(Debug, Args)]
pub(super) struct List {
    /// Only those of this organization, by its id.
    #[arg(long, value_name = "ID", value_parser = values::organization_id)]
    organization: Option<String>,
    /// Only those in this project, by its id.
    #[arg(long, value_parser = values::project_id)]
    project: Option<String>,
    /// Only those with this status, such as running.
    #[arg(long)]
    status: Option<String>,
    /// Only those on this host.
    #[arg(long)]
    host: Option<String>,
    /// Only those of this template, such as python.
    #[arg(long)]
    template: Option<String>,
    /// Destroyed and failed ones too.
    #[arg(long)]
    all: bool,
}

impl Command {
    pub(super) fn ask(self) -> Ask {
        match self {
            Self::List(List { organization, project, status, host, template, all }) => {
                Ask::get("/sandboxes", Shown::Pages(COLUMNS))
                    .query("organizationId", organization)
                    .query("projectId", project)
                    .query("status", status)
                    .query("host", host)
                    .query("template", template)
                    .query("include", all.then_some("historical"))
            }
            Self::Get { id } => Ask::get(format!("/sandboxes/{id}"), Shown::One(FACTS)),
            Self::Kill { id, because } => {
                Ask::post(format!("/sandboxes/{id}/kill"), Shown::One(FACTS))
                    .field("reason", Some(because.reason))
            }
        }
    }
}
