//! What operators do to an organization's account. Each change settles the account first, so that it
//! touches nothing that happened before it, and says why it was made.

use std::sync::Arc;

use billing::{
    credit::{Grant, GrantKind},
    money,
    pricing::{PricingVersion, in_force},
    settle,
};
use chrono::{DateTime, Utc};
use domain::{
    Refused,
    id::{GrantId, OrganizationId},
    limits::Plan,
    organization::check_reason,
};
use rust_decimal::Decimal;
use serde_json::json;
use store::{Everyone, Tx, audit::Chain, billing::Billing};

use super::{
    Rules,
    convert::{self, period},
    entry::Entry,
    history::{PLAN, SPEND_CAP},
    prices::{self, NOTICE, PriceLists},
    settle as settling, tick,
};
use crate::{
    app::{
        App,
        audit::{self, Act, Actor},
        error::{Error, Result},
    },
    bus::Nudge,
    work::announcements::KEYS,
};

/// Credit to grant.
#[derive(Debug, Clone)]
pub struct NewGrant {
    /// Bought, or for another reason.
    pub kind: GrantKind,
    /// In credits.
    pub credits: Decimal,
    /// Smaller is burnt first; the kind's own if none is named.
    pub priority: Option<i64>,
    /// When it is lost.
    pub expires_at: Option<DateTime<Utc>>,
    /// A grant with the same key is made once.
    pub key: String,
    /// Why.
    pub reason: String,
}

fn accounts() -> Billing {
    store::billing(Everyone::for_worker("manage"))
}

pub(super) async fn begin(
    app: &App,
    org: OrganizationId,
    now: DateTime<Utc>,
) -> Result<(Tx, PriceLists, Rules)> {
    let (tx, rules) = (app.db.begin().await?, Rules::of(&app.config));
    let prices = prices::read(&tx).await?;
    settling::organization(&tx, &rules, &prices, org, now).await?;
    Ok((tx, prices, rules))
}

/// Settles again, now that something is different, writes down who did it, and commits.
pub(super) async fn finish(
    app: &Arc<App>,
    (tx, prices, rules): (Tx, PriceLists, Rules),
    actor: &Actor,
    (org, act): (OrganizationId, Act),
    now: DateTime<Utc>,
) -> Result<()> {
    settling::organization(&tx, &rules, &prices, org, now).await?;
    // A server that dies now leaves the rest to any worker.
    accounts().wake(&tx, org, now).await?;
    audit::write(&tx, org, actor, &[act], now).await?;
    tx.commit().await?;
    app.bus.publish(Nudge::Billing);
    // What had to stop before this is stopped before anything new begins.
    tick::catch_up(app, org).await?;
    Ok(())
}

/// Grants credit. The same key again changes nothing, and `false` says so.
///
/// # Errors
/// `invalid_request` for an amount that is not above zero, has more than nine places, or a kind that
/// only plans give; `Missing` for the organization.
pub async fn grant_credit(
    app: &Arc<App>,
    actor: &Actor,
    org: OrganizationId,
    new: NewGrant,
) -> Result<bool> {
    let now = app.clock.now();
    let reason = check_reason(&new.reason)?;
    if new.key.is_empty() || new.key.len() > 128 {
        return Err(Refused::invalid("key", "key must be 1 to 128 bytes").into());
    }
    match new.kind {
        GrantKind::Purchased | GrantKind::Adjustment | GrantKind::Free => {}
        GrantKind::Plan => {
            return Err(Refused::invalid("kind", "plan credit comes with the plan").into());
        }
    }
    let amount = money::nano(new.credits).filter(|amount| *amount > 0).ok_or_else(|| {
        Refused::invalid("credits", "credits must be above zero, with at most nine places")
    })?;
    if new.expires_at.is_some_and(|at| at <= now) {
        return Err(Refused::invalid("expires-at", "expires-at must be in the future").into());
    }
    let (tx, prices, rules) = begin(app, org, now).await?;
    let mut account = accounts().lock_account(&tx, org).await?;
    let grant = Grant {
        id: GrantId::generate(now),
        kind: new.kind,
        priority: new.priority.unwrap_or_else(|| new.kind.priority()),
        amount,
        remaining: amount,
        starts_at: now,
        expires_at: new.expires_at,
    };
    let open = period(account.open_from)?;
    // Apart from the keys of plan credit, which would else be refused when it is due.
    let key = format!("grant:operator:{}", new.key);
    let details = json!({
        "kind": grant.kind.as_str(),
        "credits": new.credits.to_string(),
        "reason": reason,
    });
    let act = Act::done("credit.grant", grant.id, details);
    let coming = settle::grant(&grant, key, now, open, Some(reason)).map_err(settling::sum)?;
    let mut entry = Entry::default();
    entry.grant(org, &mut account, &grant, &coming, now);
    entry.accounts.push(account);
    match entry.write(&tx, &accounts(), now).await {
        Err(Error::Store(store::Error::Taken(_))) => {
            tx.rollback().await?;
            Ok(false)
        }
        Err(error) => Err(error),
        Ok(_) => {
            finish(app, (tx, prices, rules), actor, (org, act), now).await?;
            Ok(true)
        }
    }
}

/// Sets the plan at once, or at an instant to come. What was used before keeps its terms.
///
/// # Errors
/// `invalid_request` for a plan that the installation does not offer or an instant in the past.
pub async fn set_plan(
    app: &Arc<App>,
    actor: &Actor,
    org: OrganizationId,
    plan: Plan,
    at: Option<DateTime<Utc>>,
    reason: &str,
) -> Result<()> {
    let now = app.clock.now();
    let reason = check_reason(reason)?;
    let at = at.unwrap_or(now);
    if at < now {
        return Err(Refused::invalid("at", "a plan cannot change in the past").into());
    }
    if !app.config.catalogue().plans().contains(&plan) {
        let text = format!("this installation does not offer the plan {}", plan.as_str());
        return Err(Refused::invalid("plan", text).into());
    }
    let begun = begin(app, org, now).await?;
    let current = store::organizations::lock(&begun.0, org).await?.organization;
    let next = Some((plan, at));
    store::organizations::set_plan(&begun.0, org, current.plan, next).await?;
    let setting = (PLAN, Some(plan.as_str()));
    accounts().note_change(&begun.0, org, setting, at, &reason, now).await?;
    store::notify(&begun.0, KEYS).await?;
    let details = json!({ "plan": plan.as_str(), "takesEffectAt": at, "reason": reason });
    let act = Act::done("plan.change", org, details);
    finish(app, begun, actor, (org, act), now).await?;
    app.auth.forget_rows();
    Ok(())
}

/// Sets how much may be invoiced in a month; `None` = without end.
///
/// # Errors
/// `invalid_request` for an amount below zero or with more than nine places.
pub async fn set_spend_cap(
    app: &Arc<App>,
    actor: &Actor,
    org: OrganizationId,
    cap: Option<Decimal>,
    reason: &str,
) -> Result<()> {
    let now = app.clock.now();
    let reason = check_reason(reason)?;
    let nano = match cap {
        None => None,
        Some(cap) => Some(money::nano(cap).filter(|nano| *nano >= 0).ok_or_else(|| {
            Refused::invalid("cap", "cap must be zero or more, with at most nine places")
        })?),
    };
    let begun = begin(app, org, now).await?;
    let mut account = accounts().lock_account(&begun.0, org).await?;
    account.spend_cap = nano;
    accounts().update_accounts(&begun.0, &[account]).await?;
    let text = cap.map(|cap| cap.to_string());
    let setting = (SPEND_CAP, text.as_deref());
    accounts().note_change(&begun.0, org, setting, now, &reason, now).await?;
    let details = json!({ "cap": text, "reason": reason });
    let act = Act::done("spend_cap.set", org, details);
    finish(app, begun, actor, (org, act), now).await
}

/// Sets a limit whatever the plan says, or with `None` leaves it to the plan again.
///
/// # Errors
/// `invalid_request` for an unknown limit.
pub async fn set_limit(
    app: &Arc<App>,
    actor: &Actor,
    org: OrganizationId,
    name: &str,
    value: Option<u64>,
    reason: &str,
) -> Result<()> {
    let now = app.clock.now();
    let reason = check_reason(reason)?;
    let mut probe = Plan::Free.limits(app.config.catalogue());
    probe.set(name, value.unwrap_or(0))?;
    let tx = app.db.begin().await?;
    let mut overrides = store::organizations::lock(&tx, org).await?.organization.limit_overrides;
    match value {
        Some(value) => overrides.insert(name.to_owned(), value),
        None => overrides.remove(name),
    };
    store::organizations::set_limit_overrides(&tx, org, &overrides).await?;
    let text = value.map(|value| value.to_string());
    accounts().note_change(&tx, org, (name, text.as_deref()), now, &reason, now).await?;
    store::notify(&tx, KEYS).await?;
    let details = json!({ "limit": name, "value": value, "reason": reason });
    let act = Act::done("limit.set", org, details);
    audit::write(&tx, org, actor, &[act], now).await?;
    tx.commit().await?;
    app.auth.forget_rows();
    Ok(())
}

/// Publishes a pricing version. It may not become valid sooner than every server can know it, nor
/// before a version that is published already.
///
/// # Errors
/// `invalid_request` naming the field.
pub async fn publish_pricing(app: &App, actor: &Actor, version: &PricingVersion) -> Result<()> {
    let now = app.clock.now();
    version.check().map_err(|error| Refused::invalid("pricing", error.to_string()))?;
    if version.valid_from < now + NOTICE {
        let text = format!("validFrom must be at least {} s from now", NOTICE.num_seconds());
        return Err(Refused::invalid("validFrom", text).into());
    }
    let known = prices::read(app.db.read()).await?;
    if let Some(last) = in_force(known.all().values(), DateTime::<Utc>::MAX_UTC) {
        if last.valid_from >= version.valid_from {
            let text = format!("validFrom must be after that of {}", last.name);
            return Err(Refused::invalid("validFrom", text).into());
        }
        if last.currency != version.currency {
            let text = format!("currency must be {}, as that of all others", last.currency);
            return Err(Refused::invalid("currency", text).into());
        }
    }
    let row = convert::version_row(version);
    let tx = app.db.begin().await?;
    match store::billing::pricing::insert(&tx, &row, now).await {
        Ok(()) => {}
        Err(store::Error::Taken(_)) => {
            let text = "a version of this name is published already";
            return Err(Refused::invalid("name", text).into());
        }
        Err(error) => return Err(error.into()),
    }
    let act =
        Act::done("pricing.publish", &version.name, json!({ "validFrom": version.valid_from }));
    audit::write(&tx, Chain::Installation, actor, &[act], now).await?;
    tx.commit().await?;
    app.prices.forget();
    Ok(())
}
