//! `crownest admin events`: what happened, from one place on up to now.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};

use super::{Ask, Names, Shown, help, stamp, values};

const COLUMNS: Names = &[
    ("position", "position"),
    ("time", "time"),
    ("type", "type"),
    ("organization", "orgid"),
    ("subject", "subject"),
    ("event", "id"),
];

/// How to read what happened.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List events, published or not, oldest first; those confirmed long ago are gone.
    #[command(after_help = help::with(
        &[
            "crownest admin events list --organization org_019a --type crownest.sandbox",
            "crownest admin events list --after 4711 --json",
        ],
        help::CLIENT,
    ))]
    List(List),
}

/// Which events.
#[derive(Debug, Args)]
pub(super) struct List {
    /// Only those of this organization, by its id.
    #[arg(long, value_name = "ID", value_parser = values::organization_id)]
    organization: Option<String>,
    /// Only types that begin with these words, such as `crownest.sandbox`; `*` is any one word.
    #[arg(long = "type", value_name = "WORDS")]
    kinds: Option<String>,
    /// Only those that were written at this instant or later.
    #[arg(long, value_name = "INSTANT", value_parser = values::instant)]
    since: Option<DateTime<Utc>>,
    /// Only those after this position, which is shown with each event.
    #[arg(long, value_name = "POSITION", value_parser = clap::value_parser!(i64).range(0..))]
    after: Option<i64>,
}

impl Command {
    pub(super) fn ask(self) -> Ask {
        let Self::List(List { organization, kinds, since, after }) = self;
        Ask::get("/events", Shown::Pages(COLUMNS))
            .query("organizationId", organization)
            .query("type", kinds)
            .query("since", since.map(stamp))
            .after(after)
    }
}
