//! What operators do to an organization's account and its terms. Each change settles the account first,
//! so that it touches nothing that happened before it, and says why it was made.
//!
//! A change is made inside a transaction of its caller's: [`change`] brings one for whoever has access to
//! the installation itself, the admin API has its own frame.

mod credit;
pub mod price_sheet;
mod pricing;
mod terms;

use std::{future::Future, sync::Arc};

use chrono::{DateTime, Utc};
use domain::{Refused, id::OrganizationId};
use store::{Everyone, Tx, billing::Billing};

use super::{
    Rules,
    prices::{self, PriceLists},
    settle as settling, tick,
};
use crate::{
    app::{
        App,
        audit::{self, Act, Actor},
        error::Result,
    },
    bus::Nudge,
    work::announcements::KEYS,
};

pub use credit::{Credited, NewGrant, TakeBack};
pub use pricing::{publish_pricing, write_pricing};
pub use terms::{SetLimit, SetPlan, SetSpendCap};

const MAX_KEY_BYTES: usize = 128;

/// A change that operators make to an organization.
pub trait Change: Send + Sync {
    /// What came of it.
    type Made: Send + Sync;

    /// Makes it in a transaction; what is to be written down of it goes to `acts`, nothing if nothing
    /// was changed.
    ///
    /// # Errors
    /// `invalid_request` naming the field; `Missing` for the organization.
    fn make(
        &self,
        app: &App,
        tx: &Tx,
        place: (OrganizationId, DateTime<Utc>),
        acts: &mut Vec<Act>,
    ) -> impl Future<Output = Result<Self::Made>> + Send;
}

/// Makes a change in a transaction of its own.
///
/// # Errors
/// Those of the change.
pub async fn change<C: Change>(
    app: &Arc<App>,
    actor: &Actor,
    org: OrganizationId,
    change: C,
) -> Result<C::Made> {
    let now = app.clock.now();
    let tx = app.db.begin().await?;
    let mut acts = Vec::new();
    let made = change.make(app, &tx, (org, now), &mut acts).await?;
    // Every server reads keys, and the limits that come with them, anew.
    store::notify(&tx, KEYS).await?;
    audit::write(&tx, org, actor, &acts, now).await?;
    tx.commit().await?;
    app.auth.forget_rows();
    changed(app, org).await?;
    Ok(made)
}

/// What follows the commit of a change: what had to stop before it is stopped before anything new
/// begins.
///
/// # Errors
/// When the database does not answer; the change is made, and any worker does the rest.
pub async fn changed(app: &Arc<App>, org: OrganizationId) -> Result<()> {
    app.bus.publish(Nudge::Billing);
    tick::catch_up(app, org).await?;
    Ok(())
}

fn accounts() -> Billing {
    store::billing(Everyone::for_worker("manage"))
}

/// An account that is settled and open for a change.
pub(super) struct Open {
    pub prices: PriceLists,
    rules: Rules,
}

impl Open {
    /// Settles the account, and holds it from here on.
    pub async fn new(
        app: &App,
        tx: &Tx,
        (org, now): (OrganizationId, DateTime<Utc>),
        acts: &mut Vec<Act>,
    ) -> Result<Self> {
        // Without one, its account would be what is said to be missing.
        store::organizations::get(tx, org).await?;
        let (rules, prices) = (Rules::of(&app.config), prices::read(tx).await?);
        settling::organization(tx, &rules, &prices, org, now, acts).await?;
        Ok(Self { prices, rules })
    }

    /// Settles again, now that something is different.
    pub async fn close(
        &self,
        tx: &Tx,
        (org, now): (OrganizationId, DateTime<Utc>),
        acts: &mut Vec<Act>,
    ) -> Result<()> {
        settling::organization(tx, &self.rules, &self.prices, org, now, acts).await?;
        // A server that dies now leaves the rest to any worker.
        accounts().wake(tx, org, now).await?;
        Ok(())
    }
}

fn check_key(key: &str) -> Result<()> {
    if key.is_empty() || key.len() > MAX_KEY_BYTES || key.chars().any(char::is_control) {
        let text = format!("key must be 1 to {MAX_KEY_BYTES} bytes without control characters");
        return Err(Refused::invalid("key", text).into());
    }
    Ok(())
}
