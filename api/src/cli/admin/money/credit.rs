//! `crownest admin credit`: what an organization has, and what operators give and take.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};

use super::{Ask, Because, Names, Shown, Whose, help, stamp, values};

const BALANCE: Names = &[
    ("organization", "organization"),
    ("id", "orgId"),
    ("plan", "plan"),
    ("next plan", "nextPlan.plan"),
    ("from", "nextPlan.at"),
    ("mode", "mode"),
    ("credits", "credits"),
    ("worth", "worth"),
    ("currency", "currency"),
    ("not settled yet", "unsettledCredits"),
    ("overage", "overage"),
    ("cap", "spendCap"),
    ("stops at", "stopsAt"),
    ("because", "stopCode"),
    ("prices", "pricingVersion"),
    ("statements from", "openSince"),
];
const GRANTS: Names = &[
    ("grant", "id"),
    ("kind", "kind"),
    ("priority", "priority"),
    ("granted", "granted"),
    ("left", "left"),
    ("from", "startsAt"),
    ("until", "expiresAt"),
];
const CREDITED: Names = &[
    ("grant", "grant.id"),
    ("kind", "grant.kind"),
    ("granted", "grant.granted"),
    ("left", "grant.left"),
    ("until", "grant.expiresAt"),
    ("transaction", "transaction.id"),
];

/// What to do about credit.
#[derive(Debug, Subcommand)]
pub(in super::super) enum Command {
    /// Show what an organization has and owes, and when it must stop.
    #[command(after_help = help::with(
        &["crownest admin credit balance --organization org_019a"],
        help::CLIENT,
    ))]
    Balance {
        #[command(flatten)]
        whose: Whose,
    },
    /// List an organization's grants, used up or not, newest first.
    #[command(after_help = help::with(
        &["crownest admin credit grants --organization org_019a"],
        help::CLIENT,
    ))]
    Grants {
        #[command(flatten)]
        whose: Whose,
    },
    /// Grant credit. For one --key it is made once, for ever.
    #[command(after_help = help::with(
        &["crownest admin credit grant --organization org_019a purchased 500 \
           --key order-77 --reason 'order 77'"],
        help::CLIENT,
    ))]
    Grant(Grant),
    /// Give credit, or take some back of a grant. For one --key it is done once, for ever.
    ///
    /// No more is taken than what is left when all usage that is known is paid.
    #[command(after_help = help::with(
        &[
            "crownest admin credit adjust --organization org_019a 5 --key case-9 --reason sorry",
            "crownest admin credit adjust --organization org_019a -5 --grant grt_019a \
             --key case-9-back --reason 'by mistake'",
        ],
        help::CLIENT,
    ))]
    Adjust(Adjust),
}

/// What tells a change of credit from others, and why it is made.
#[derive(Debug, Args)]
struct Once {
    /// What tells it from others, such as the number of the order.
    #[arg(long)]
    key: String,
    /// When what is left of the new grant is lost; never otherwise.
    #[arg(long, value_name = "INSTANT", value_parser = values::instant)]
    expires_at: Option<DateTime<Utc>>,
    #[command(flatten)]
    because: Because,
}

impl Once {
    fn of(self, ask: Ask) -> Ask {
        ask.field("key", Some(self.key))
            .field("expiresAt", self.expires_at.map(stamp))
            .field("reason", Some(self.because.reason))
    }
}

/// Credit to grant.
#[derive(Debug, Args)]
pub(in super::super) struct Grant {
    #[command(flatten)]
    whose: Whose,
    /// Where it comes from: purchased, adjustment or free.
    kind: String,
    /// How much, in credits.
    #[arg(allow_negative_numbers = true)]
    credits: values::Exactly,
    /// Grants of a smaller number are burnt first; otherwise adjustment 200, free 300, purchased 400.
    #[arg(long)]
    priority: Option<i64>,
    #[command(flatten)]
    once: Once,
}

/// Credit to give or to take back.
#[derive(Debug, Args)]
pub(in super::super) struct Adjust {
    #[command(flatten)]
    whose: Whose,
    /// How much, in credits; below zero to take back.
    #[arg(allow_negative_numbers = true)]
    credits: values::Exactly,
    /// The grant to take back of.
    #[arg(long, value_parser = values::grant_id)]
    grant: Option<String>,
    #[command(flatten)]
    once: Once,
}

impl Command {
    pub(in super::super) fn ask(self) -> Ask {
        let credited = Shown::One(CREDITED);
        match self {
            Self::Balance { whose } => Ask::get(whose.path("/balance"), Shown::One(BALANCE)),
            Self::Grants { whose } => Ask::get(whose.path("/credit-grants"), Shown::Pages(GRANTS)),
            Self::Grant(Grant { whose, kind, credits, priority, once }) => {
                once.of(Ask::post(whose.path("/credit-grants"), credited)
                    .field("kind", Some(kind))
                    .field("credits", Some(credits.0.to_string()))
                    .field("priority", priority))
            }
            Self::Adjust(Adjust { whose, credits, grant, once }) => {
                once.of(Ask::post(whose.path("/credit-adjustments"), credited)
                    .field("credits", Some(credits.0.to_string()))
                    .field("grantId", grant))
            }
        }
    }
}
