//! `balance`: what an organization has and owes.

use std::{io::Write, sync::Arc};

use chrono::{DateTime, Utc};
use clap::Args;

use super::{Failure, Format, Whose, json};
use crate::{
    app::{
        App,
        billing::balance::{self, Balance},
    },
    print::{Side, Table},
};

/// Whose balance.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    whose: Whose,
    #[command(flatten)]
    format: Format,
}

pub(super) async fn run(
    app: &Arc<App>,
    arguments: Arguments,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let organization = arguments.whose.find(app).await?;
    let balance = balance::get(app, organization.id).await?;
    if arguments.format.json {
        return json(&balance, out);
    }
    Ok(write!(out, "{}", text(&balance))?)
}

fn text(balance: &Balance) -> String {
    let currency = &balance.currency;
    let mut facts =
        Table::new(&[("organization", Side::Left), (&balance.organization, Side::Left)]);
    facts.row(["id", &balance.org_id.to_string()]);
    facts.row(["plan", &format!("{} ({})", balance.plan, balance.mode.replace('_', " "))]);
    if let Some(next) = &balance.next_plan {
        facts.row(["", &format!("{} from {}", next.plan, minute(next.at))]);
    }
    for (limit, value) in &balance.limits {
        facts.row(["limit", &format!("{limit} = {value}, whatever the plan says")]);
    }
    let prices = format!(
        "{}: a credit is {} {currency}",
        balance.pricing_version, balance.currency_per_credit
    );
    facts.row(["prices", &prices]);
    facts.row(["credit", &format!("{} credits ({} {currency})", balance.credits, balance.worth)]);
    if balance.unsettled_credits != "0" {
        let unsettled = format!("less {} credits used, not booked yet", balance.unsettled_credits);
        facts.row(["", &format!("the grants below {unsettled}")]);
    }
    let cap = match &balance.spend_cap {
        None => String::new(),
        Some(cap) => format!(" of at most {cap} {currency}"),
    };
    let overage = format!("{} {currency}{cap} in {}", balance.overage, balance.period);
    facts.row(["overage", &overage]);
    if let (Some(at), Some(code)) = (balance.stops_at, &balance.stop_code) {
        facts.row(["stops", &format!("{}: {code}", minute(at))]);
    }
    facts.row(["statements", &format!("due from {} on", balance.open_since)]);
    let mut text = facts.to_string();
    if !balance.grants.is_empty() {
        let mut grants = Table::new(&[
            ("grant", Side::Left),
            ("kind", Side::Left),
            ("priority", Side::Right),
            ("granted", Side::Right),
            ("left", Side::Right),
            ("expires", Side::Left),
        ]);
        for grant in &balance.grants {
            let expires = grant.expires_at.map_or_else(|| "never".to_owned(), minute);
            let priority = grant.priority.to_string();
            let id = grant.id.to_string();
            grants.row([&id, &grant.kind, &priority, &grant.granted, &grant.left, &expires]);
        }
        text.push('\n');
        text.push_str(&grants.to_string());
    }
    text
}

/// An instant with what of its seconds is not zero.
pub(super) fn minute(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
}
