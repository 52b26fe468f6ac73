//! `grant`, `plan`, `cap` and `limit`: what operators change, and why.

use std::{io::Write, sync::Arc};

use billing::credit::GrantKind;
use chrono::{DateTime, Utc};
use clap::Args;
use domain::limits::{LIMIT_NAMES, Plan};

use super::{Failure, Whose, balance::minute};
use crate::{
    app::{
        App,
        audit::Actor,
        billing::manage::{self, NewGrant},
    },
    cli::values::{self, Exactly, OrNone},
};

/// Why something is changed.
#[derive(Debug, Args)]
struct Why {
    /// Why; kept with the change.
    #[arg(long)]
    reason: String,
}

/// Credit to grant.
#[derive(Debug, Args)]
pub struct Grant {
    #[command(flatten)]
    whose: Whose,
    /// Where it comes from: `purchased`, `adjustment` or `free`.
    #[arg(value_parser = kind)]
    kind: GrantKind,
    /// How much, in credits.
    #[arg(allow_negative_numbers = true)]
    credits: Exactly,
    /// Grants of a smaller number are burnt first; the default is the kind's own: plan 100,
    /// adjustment 200, free 300, purchased 400.
    #[arg(long)]
    priority: Option<i64>,
    /// When what is left of it is lost; the default is never.
    #[arg(long, value_name = "INSTANT", value_parser = values::instant)]
    expires_at: Option<DateTime<Utc>>,
    /// What tells this grant from others, such as the number of the order.
    #[arg(long)]
    key: String,
    #[command(flatten)]
    why: Why,
}

/// A plan to set.
#[derive(Debug, Args)]
pub struct SetPlan {
    #[command(flatten)]
    whose: Whose,
    /// The plan.
    #[arg(value_parser = plan_named)]
    plan: Plan,
    /// When it takes effect; the default is now.
    #[arg(long, value_name = "INSTANT", value_parser = values::instant)]
    at: Option<DateTime<Utc>>,
    #[command(flatten)]
    why: Why,
}

/// A spend cap to set.
#[derive(Debug, Args)]
pub struct SetCap {
    #[command(flatten)]
    whose: Whose,
    /// How much in the currency of the prices, or `none`.
    #[arg(value_name = "AMOUNT|none", allow_negative_numbers = true)]
    amount: OrNone<Exactly>,
    #[command(flatten)]
    why: Why,
}

/// A limit to set.
#[derive(Debug, Args)]
pub struct SetLimit {
    #[command(flatten)]
    whose: Whose,
    /// Which limit.
    #[arg(value_parser = LIMIT_NAMES)]
    limit: String,
    /// The limit, or `none` for the plan's.
    #[arg(value_name = "NUMBER|none")]
    value: OrNone<u64>,
    #[command(flatten)]
    why: Why,
}

fn kind(text: &str) -> Result<GrantKind, String> {
    let words = ["purchased", "adjustment", "free"];
    // Plan credit comes with the plan, and with nobody else.
    let text = if words.contains(&text) { text } else { "" };
    values::word(text, &words)
}

fn plan_named(text: &str) -> Result<Plan, String> {
    values::word(text, &Plan::ALL.map(Plan::as_str))
}

pub(super) async fn grant(
    app: &Arc<App>,
    arguments: Grant,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let organization = arguments.whose.find(app).await?;
    let (credits, key) = (arguments.credits.0.normalize(), arguments.key);
    let new = NewGrant {
        kind: arguments.kind,
        credits,
        priority: arguments.priority,
        expires_at: arguments.expires_at,
        key: key.clone(),
        reason: arguments.why.reason,
    };
    let kind = new.kind.as_str();
    if manage::change(app, &Actor::operator(), organization.id, new).await?.is_new {
        writeln!(out, "{} has {credits} more credits ({kind})", organization.name)?;
    } else {
        writeln!(
            out,
            "{} got the grant with the key {key} before; nothing changed",
            organization.name
        )?;
    }
    Ok(())
}

pub(super) async fn plan(
    app: &Arc<App>,
    arguments: SetPlan,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let organization = arguments.whose.find(app).await?;
    let (plan, at) = (arguments.plan, arguments.at);
    let set = manage::SetPlan { plan, at, reason: arguments.why.reason };
    manage::change(app, &Actor::operator(), organization.id, set).await?;
    let from = at.map_or_else(|| "now".to_owned(), minute);
    Ok(writeln!(out, "{} is on the plan {} from {from} on", organization.name, plan.as_str())?)
}

pub(super) async fn cap(
    app: &Arc<App>,
    arguments: SetCap,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let organization = arguments.whose.find(app).await?;
    let cap = arguments.amount.0.map(|amount| amount.0.normalize());
    let set = manage::SetSpendCap { cap, reason: arguments.why.reason };
    manage::change(app, &Actor::operator(), organization.id, set).await?;
    let name = organization.name;
    match cap {
        Some(cap) => writeln!(out, "{name} may be invoiced {cap} a month")?,
        None => writeln!(out, "{name} may be invoiced without end")?,
    }
    Ok(())
}

pub(super) async fn limit(
    app: &Arc<App>,
    arguments: SetLimit,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let organization = arguments.whose.find(app).await?;
    let (limit, value) = (arguments.limit, arguments.value.0);
    let set = manage::SetLimit { name: limit.clone(), value, reason: arguments.why.reason };
    manage::change(app, &Actor::operator(), organization.id, set).await?;
    let name = organization.name;
    match value {
        Some(value) => writeln!(out, "{name} has {limit} = {value}, whatever its plan says")?,
        None => writeln!(out, "{name} has the {limit} of its plan")?,
    }
    Ok(())
}
