//! Plans, spend caps and limits: what holds for an organization from when on.

use std::collections::BTreeMap;

use billing::money;
use chrono::{DateTime, Utc};
use domain::{
    Refused,
    id::OrganizationId,
    limits::Plan,
    organization::{Organization, check_reason},
};
use rust_decimal::Decimal;
use serde_json::json;
use store::Tx;

use super::{
    super::history::{PLAN, SPEND_CAP},
    Change, Open, accounts,
};
use crate::app::{App, audit::Act, error::Result};

/// A plan to set, at once or at an instant to come. What was used before keeps its terms.
#[derive(Debug, Clone)]
pub struct SetPlan {
    /// One that the installation offers.
    pub plan: Plan,
    /// When it takes effect; now if nothing is said.
    pub at: Option<DateTime<Utc>>,
    /// Why.
    pub reason: String,
}

/// How much may be invoiced in a month.
#[derive(Debug, Clone)]
pub struct SetSpendCap {
    /// In the currency of the prices; `None` = without end.
    pub cap: Option<Decimal>,
    /// Why.
    pub reason: String,
}

/// A limit that holds whatever the plan says.
#[derive(Debug, Clone)]
pub struct SetLimit {
    /// Its name.
    pub name: String,
    /// The limit; `None` leaves it to the plan again.
    pub value: Option<u64>,
    /// Why.
    pub reason: String,
}

impl Change for SetPlan {
    type Made = Organization;

    async fn make(
        &self,
        app: &App,
        tx: &Tx,
        (org, now): (OrganizationId, DateTime<Utc>),
        acts: &mut Vec<Act>,
    ) -> Result<Organization> {
        let (plan, reason) = (self.plan, check_reason(&self.reason)?);
        let at = self.at.map_or(now, store::truncate);
        if at < store::truncate(now) {
            return Err(Refused::invalid("at", "a plan cannot change in the past").into());
        }
        if !app.config.catalogue().plans().contains(&plan) {
            let text = format!("this installation does not offer the plan {}", plan.as_str());
            return Err(Refused::invalid("plan", text).into());
        }
        let open = Open::new(app, tx, (org, now), acts).await?;
        let current = store::organizations::lock(tx, org).await?.organization;
        store::organizations::set_plan(tx, org, current.plan, Some((plan, at))).await?;
        let setting = (PLAN, Some(plan.as_str()));
        accounts().note_change(tx, org, setting, at, &reason, now).await?;
        let details = json!({ "plan": plan.as_str(), "takesEffectAt": at, "reason": reason });
        acts.push(Act::done("plan.change", org, details));
        open.close(tx, (org, now), acts).await?;
        Ok(store::organizations::get(tx, org).await?)
    }
}

impl Change for SetSpendCap {
    /// The cap, in billionths of the currency's unit.
    type Made = Option<i64>;

    async fn make(
        &self,
        app: &App,
        tx: &Tx,
        (org, now): (OrganizationId, DateTime<Utc>),
        acts: &mut Vec<Act>,
    ) -> Result<Option<i64>> {
        let reason = check_reason(&self.reason)?;
        let nano = match self.cap {
            None => None,
            Some(cap) => Some(money::nano(cap).filter(|nano| *nano >= 0).ok_or_else(|| {
                Refused::invalid("cap", "cap must be zero or more, with at most nine places")
            })?),
        };
        let open = Open::new(app, tx, (org, now), acts).await?;
        let mut account = accounts().lock_account(tx, org).await?;
        account.spend_cap = nano;
        accounts().update_accounts(tx, &[account]).await?;
        let text = self.cap.map(|cap| cap.normalize().to_string());
        let setting = (SPEND_CAP, text.as_deref());
        accounts().note_change(tx, org, setting, now, &reason, now).await?;
        let details = json!({ "cap": text, "reason": reason });
        acts.push(Act::done("spend_cap.set", org, details));
        open.close(tx, (org, now), acts).await?;
        Ok(nano)
    }
}

impl Change for SetLimit {
    type Made = Organization;

    async fn make(
        &self,
        app: &App,
        tx: &Tx,
        (org, now): (OrganizationId, DateTime<Utc>),
        acts: &mut Vec<Act>,
    ) -> Result<Organization> {
        let (name, value) = (self.name.as_str(), self.value);
        let reason = check_reason(&self.reason)?;
        let mut probe = Plan::Free.limits(app.config.catalogue());
        probe.set(name, value.unwrap_or(0))?;
        let mut organization = store::organizations::lock(tx, org).await?.organization;
        let overrides: &mut BTreeMap<_, _> = &mut organization.limit_overrides;
        match value {
            Some(value) => overrides.insert(name.to_owned(), value),
            None => overrides.remove(name),
        };
        store::organizations::set_limit_overrides(tx, org, overrides).await?;
        let text = value.map(|value| value.to_string());
        accounts().note_change(tx, org, (name, text.as_deref()), now, &reason, now).await?;
        let details = json!({ "limit": name, "value": value, "reason": reason });
        acts.push(Act::done("limit.set", org, details));
        Ok(organization)
    }
}
