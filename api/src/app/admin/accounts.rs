//! Changes of organizations' accounts and terms, in the admin API's frame. What each does is in
//! `app/billing/manage`, which the command line uses as well.

use std::sync::Arc;

use billing::pricing::PricingVersion;
use domain::id::OrganizationId;
use store::audit::Chain;

use super::{AdminCaller, Begun, Change, Outcome};
use crate::app::{
    App,
    billing::manage,
    error::Result,
    idempotency::{Answer, Idempotent},
};

/// Makes a change.
///
/// # Errors
/// Those of the change, and those of idempotency.
pub async fn change<C: manage::Change>(
    app: &Arc<App>,
    caller: &AdminCaller,
    idempotent: Option<Idempotent>,
    org: OrganizationId,
    wanted: C,
    print: impl Fn(&C::Made) -> Answer + Send,
) -> Result<Answer> {
    let change = match Change::begin(app, caller, idempotent).await? {
        Begun::Fresh(change) => change,
        Begun::Answered(answer) => return Ok(answer),
    };
    let mut acts = Vec::new();
    let made = wanted.make(app, &change.tx, (org, change.now), &mut acts).await?;
    let (answer, chain) = (print(&made), org.into());
    let outcome = Outcome { answer, replay: None, chain, events: Vec::new(), acts };
    let answer = change.commit(outcome).await?;
    manage::changed(app, org).await?;
    Ok(answer)
}

/// Publishes a pricing version.
///
/// # Errors
/// `invalid_request` naming the field, and those of idempotency.
pub async fn publish_pricing(
    app: &Arc<App>,
    caller: &AdminCaller,
    idempotent: Option<Idempotent>,
    version: &PricingVersion,
    print: impl Fn() -> Answer + Send,
) -> Result<Answer> {
    let change = match Change::begin(app, caller, idempotent).await? {
        Begun::Fresh(change) => change,
        Begun::Answered(answer) => return Ok(answer),
    };
    let act = manage::write_pricing(&change.tx, version, change.now).await?;
    let outcome = Outcome {
        answer: print(),
        replay: None,
        chain: Chain::Installation,
        events: Vec::new(),
        acts: vec![act],
    };
    let answer = change.commit(outcome).await?;
    app.prices.forget();
    Ok(answer)
}
