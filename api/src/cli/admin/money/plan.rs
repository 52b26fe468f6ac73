//! `crownest admin plan`: what customers may do, and on what terms.

use chrono::{DateTime, Utc};
use clap::Subcommand;
use reqwest::Method;

use super::{Ask, Because, Names, Shown, TERMS, Whose, help, stamp, values};

const FACTS: Names = &[
    ("plan", "plan"),
    ("mode", "mode"),
    ("credit once", "creditOnce"),
    ("credit each month", "creditEachMonth"),
    ("limits", "limits"),
];
const COLUMNS: Names = &[
    ("plan", "plan"),
    ("mode", "mode"),
    ("credit once", "creditOnce"),
    ("credit each month", "creditEachMonth"),
];
const CHANGES: Names = &[
    ("change", "seq"),
    ("setting", "setting"),
    ("value", "value"),
    ("from", "takesEffectAt"),
    ("made", "madeAt"),
    ("because", "reason"),
];

/// What to do about plans.
#[derive(Debug, Subcommand)]
pub(in super::super) enum Command {
    /// List the plans that the installation offers, the smallest first.
    #[command(after_help = help::with(&["crownest admin plan list"], help::CLIENT))]
    List,
    /// Show a plan, or an organization's with the limits that hold for it.
    #[command(after_help = help::with(
        &[
            "crownest admin plan get scale",
            "crownest admin plan get --organization org_019a",
        ],
        help::CLIENT,
    ))]
    Get {
        /// The plan.
        #[arg(
            value_parser = values::path_word,
            required_unless_present = "organization",
            conflicts_with = "organization"
        )]
        plan: Option<String>,
        /// The organization whose plan it is, by its id.
        #[arg(long, value_name = "ID", value_parser = values::organization_id)]
        organization: Option<String>,
    },
    /// Set an organization's plan; what was used before keeps its terms.
    #[command(after_help = help::with(
        &[
            "crownest admin plan set --organization org_019a scale --reason upgrade",
            "crownest admin plan set --organization org_019a free --at 2031-02-01 --reason canceled",
        ],
        help::CLIENT,
    ))]
    Set {
        #[command(flatten)]
        whose: Whose,
        /// The plan.
        plan: String,
        /// When it takes effect; now otherwise.
        #[arg(long, value_name = "INSTANT", value_parser = values::instant)]
        at: Option<DateTime<Utc>>,
        #[command(flatten)]
        because: Because,
    },
    /// List what was changed of an organization's plan, cap and limits, the last change first.
    #[command(after_help = help::with(
        &["crownest admin plan changes --organization org_019a"],
        help::CLIENT,
    ))]
    Changes {
        #[command(flatten)]
        whose: Whose,
    },
}

impl Command {
    pub(in super::super) fn ask(self) -> Ask {
        match self {
            Self::List => Ask::get("/plans", Shown::Whole(COLUMNS)),
            Self::Get { plan, organization } => match (plan, organization) {
                (_, Some(organization)) => {
                    Ask::get(Whose { organization }.path("/plan"), Shown::One(TERMS))
                }
                (plan, None) => {
                    let plan = plan.unwrap_or_default();
                    Ask::get(format!("/plans/{plan}"), Shown::One(FACTS))
                }
            },
            Self::Set { whose, plan, at, because } => {
                Ask::new(Method::PUT, whose.path("/plan"), Shown::One(TERMS))
                    .field("plan", Some(plan))
                    .field("at", at.map(stamp))
                    .field("reason", Some(because.reason))
            }
            Self::Changes { whose } => {
                Ask::get(whose.path("/terms-changes"), Shown::Pages(CHANGES))
            }
        }
    }
}
