//! `crownest admin audit`: what was done, by whom, and what was refused.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};

use super::{Ask, Names, Shown, help, organization, stamp, values};

const COLUMNS: Names = &[
    ("no.", "seq"),
    ("at", "at"),
    ("actor", "actor"),
    ("action", "action"),
    ("object", "object"),
    ("outcome", "outcome"),
    ("origin", "origin"),
];

/// How to read the audit trail.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List what was done in and to an organization, or to none, oldest first.
    #[command(after_help = help::with(
        &[
            "crownest admin audit list --organization org_019a --action sandbox.kill",
            "crownest admin audit list --installation --from 2031-01-01 --json",
        ],
        help::CLIENT,
    ))]
    List(List),
}

/// Whose trail.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Trail {
    /// The organization's, by its id.
    #[arg(long, value_name = "ID", value_parser = values::organization_id)]
    organization: Option<String>,
    /// The installation's own: what operators did to no organization, and what they were refused.
    #[arg(long)]
    installation: bool,
}

/// Which entries.
#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    trail: Trail,
    /// Only what this actor did: a key's or admin key's id, `operator` or `platform`.
    #[arg(long)]
    actor: Option<String>,
    /// Only this action, such as `sandbox.kill`.
    #[arg(long)]
    action: Option<String>,
    /// Only what was done to the thing with this id.
    #[arg(long)]
    object: Option<String>,
    /// From this instant or day on.
    #[arg(long, value_name = "INSTANT", value_parser = values::instant)]
    from: Option<DateTime<Utc>>,
    /// Before this instant or day.
    #[arg(long, value_name = "INSTANT", value_parser = values::instant)]
    until: Option<DateTime<Utc>>,
    /// Only those after this one, by its number.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i64).range(0..))]
    after: Option<i64>,
}

impl Command {
    pub(super) fn ask(self) -> Ask {
        let Self::List(List { trail, actor, action, object, from, until, after }) = self;
        let path = match trail.organization {
            Some(id) => organization::path(&id, "/audit-entries"),
            None => "/audit-entries".to_owned(),
        };
        Ask::get(path, Shown::Pages(COLUMNS))
            .query("actor", actor)
            .query("action", action)
            .query("object", object)
            .query("from", from.map(stamp))
            .query("until", until.map(stamp))
            .after(after)
    }
}
