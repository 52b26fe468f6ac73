//! `crownest admin usage`: what an organization used, and its correction.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};

use super::{Ask, Because, Names, Shown, Whose, help, stamp, values};

const BUCKETS: Names = &[
    ("from", "from"),
    ("until", "until"),
    ("project", "projectId"),
    ("metric", "metric"),
    ("quantity", "quantity"),
    ("credits", "credits"),
    ("prices", "pricingVersion"),
];
const WINDOWS: Names = &[
    ("sandbox", "sandboxId"),
    ("metric", "metric"),
    ("from", "from"),
    ("until", "until"),
    ("part", "part"),
    ("quantity", "quantity"),
    ("credits", "credits"),
    ("statement", "statement"),
    ("transaction", "transactionId"),
];
const CORRECTION: Names = &[
    ("transaction", "id"),
    ("corrects", "correctsTransactionId"),
    ("statement", "bookedFor"),
    ("because", "reason"),
];

/// What to do about usage.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Sum up what an organization used by hour, day or month.
    ///
    /// What is not settled yet, the last minute or so, is not in it.
    #[command(after_help = help::with(
        &[
            "crownest admin usage sum --organization org_019a --by day --from 2031-01-01",
            "crownest admin usage sum --organization org_019a --by month --from 2030-01-01 --json",
        ],
        help::CLIENT,
    ))]
    Sum(Sum),
    /// List the windows of usage that begin in a span of time: the smallest spans that are booked.
    #[command(after_help = help::with(
        &["crownest admin usage windows --organization org_019a --from 2031-01-31 \
           --until 2031-02-01"],
        help::CLIENT,
    ))]
    Windows(Windows),
    /// Correct a window that was measured wrong; nothing is overwritten, the difference is booked.
    #[command(after_help = help::with(
        &["crownest admin usage correct --organization org_019a --sandbox sbx_019a \
           --start 2031-01-31T12:00:00Z --quantity 0 --reason 'the host hung'"],
        help::CLIENT,
    ))]
    Correct(Correct),
}

/// What to sum up.
#[derive(Debug, Args)]
pub(super) struct Sum {
    #[command(flatten)]
    whose: Whose,
    /// The length of a span: hour, day or month.
    #[arg(long, value_name = "SPAN")]
    by: String,
    /// The beginning of the first span, UTC.
    #[arg(long, value_name = "INSTANT", value_parser = values::instant)]
    from: DateTime<Utc>,
    /// The end of the last span; that of the running one otherwise.
    #[arg(long, value_name = "INSTANT", value_parser = values::instant)]
    until: Option<DateTime<Utc>>,
    /// Only what was used in this project, by its id.
    #[arg(long, value_parser = values::project_id)]
    project: Option<String>,
    /// Only this metric, such as `compute_unit_seconds`.
    #[arg(long)]
    metric: Option<String>,
}

/// Which windows.
#[derive(Debug, Args)]
pub(super) struct Windows {
    #[command(flatten)]
    whose: Whose,
    /// Windows that begin at this instant or later.
    #[arg(long, value_name = "INSTANT", value_parser = values::instant)]
    from: DateTime<Utc>,
    /// Windows that begin before this instant; now otherwise.
    #[arg(long, value_name = "INSTANT", value_parser = values::instant)]
    until: Option<DateTime<Utc>>,
}

/// Which window, and what it should have been.
#[derive(Debug, Args)]
pub(super) struct Correct {
    #[command(flatten)]
    whose: Whose,
    /// The sandbox.
    #[arg(long, value_parser = values::sandbox_id)]
    sandbox: String,
    /// What was measured.
    #[arg(long, default_value = "compute_unit_seconds")]
    metric: String,
    /// When the window begins, as `windows` shows it.
    #[arg(long, value_name = "INSTANT", value_parser = values::instant)]
    start: DateTime<Utc>,
    /// Which of several windows of that beginning, as `windows` shows it.
    #[arg(long, allow_negative_numbers = true)]
    part: Option<i64>,
    /// What the window should have been in all, in units of the metric.
    #[arg(long, allow_negative_numbers = true)]
    quantity: values::Exactly,
    #[command(flatten)]
    because: Because,
}

impl Command {
    pub(super) fn ask(self) -> Ask {
        match self {
            Self::Sum(Sum { whose, by, from, until, project, metric }) => {
                Ask::get(whose.path("/usage"), Shown::Pages(BUCKETS))
                    .query("bucket", Some(by))
                    .query("from", Some(stamp(from)))
                    .query("until", until.map(stamp))
                    .query("projectId", project)
                    .query("metric", metric)
            }
            Self::Windows(Windows { whose, from, until }) => {
                Ask::get(whose.path("/usage-windows"), Shown::Pages(WINDOWS))
                    .query("from", Some(stamp(from)))
                    .query("until", until.map(stamp))
            }
            Self::Correct(Correct { whose, sandbox, metric, start, part, quantity, because }) => {
                Ask::post(whose.path("/usage-corrections"), Shown::One(CORRECTION))
                    .field("sandboxId", Some(sandbox))
                    .field("metric", Some(metric))
                    .field("start", Some(stamp(start)))
                    .field("part", part)
                    .field("quantity", Some(quantity.0.to_string()))
                    .field("reason", Some(because.reason))
            }
        }
    }
}
