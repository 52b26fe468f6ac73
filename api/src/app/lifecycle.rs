//! Carries out a step of the sandbox machine: the row by compare-and-set, and in the same
//! transaction what follows from it. Who takes which step is decided elsewhere.

use chrono::{DateTime, TimeDelta, Utc};
use domain::sandbox::{Effect, EndReason, Phase, Sandbox, Step};
use serde_json::json;
use store::{Everyone, Tx};

use super::{
    App,
    audit::{self, Act, Actor},
    error::Result,
    events,
};
use crate::{bus::Nudge, work::announcements};

/// When the reconciler looks after a removal that its initiator did not finish.
const REMOVAL_FALLBACK: TimeDelta = TimeDelta::seconds(20);

/// What changes beside the phase.
#[derive(Debug, Clone, Copy)]
pub struct Change {
    /// The instant of the step for the tenant and the meter.
    pub at: DateTime<Utc>,
    /// Why the sandbox ends, if it does.
    pub reason: Option<EndReason>,
    /// Who writes an end down.
    pub teller: Teller,
}

/// Who writes the end of a sandbox down in the audit trail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Teller {
    /// The platform, here: nobody asked for it.
    Platform,
    /// Whoever carries out what a caller asked for, in the same transaction.
    Caller,
}

/// Takes a step inside a transaction. The caller commits, then calls [`announce`].
///
/// # Errors
/// `Stale` when somebody else changed the sandbox first.
pub async fn take(
    app: &App,
    tx: &Tx,
    sandbox: &Sandbox,
    step: Step,
    change: Change,
) -> Result<Sandbox> {
    let mut next = Sandbox { phase: step.to, ..sandbox.clone() };
    let ends = sandbox.phase.is_live() && !step.to.is_live();
    if ends {
        next.ended_at = Some(change.at);
        next.end_reason = change.reason;
    }
    if step.effects.contains(&Effect::OpenMeter) {
        next.ready_at = Some(change.at);
        next.seen_alive_at = Some(change.at);
        next.last_activity_at = change.at;
    }
    if step.to == Phase::Destroyed && sandbox.phase == Phase::Expiring {
        next.removed_at = Some(change.at);
    }
    let next = store_next(app, tx, next, ends).await?;
    let mut told = Vec::new();
    if step.effects.contains(&Effect::OpenMeter) {
        told.push(events::ready(&next, change.at));
    }
    for effect in step.effects {
        match effect {
            Effect::OpenMeter => {
                let prices = app.prices.get(app.db.read(), app.clock.now()).await?;
                let version = prices.get(&next.pricing_version)?;
                let multiplier = version.multiplier_milli(::billing::pricing::BASE_SIZE);
                store::meters::open(tx, &next, change.at, multiplier).await?;
                // The prediction of when credit ends changes with every meter.
                let billing = store::billing(Everyone::for_worker("lifecycle"));
                billing.wake(tx, next.org_id, change.at).await?;
            }
            Effect::CloseMeter => store::meters::close(tx, next.id, change.at).await?,
            Effect::EndCommands => {
                let everyone = Everyone::for_worker("lifecycle");
                let killed =
                    store::commands(everyone).kill_of_sandbox(tx, next.id, change.at).await?;
                told.extend(killed.iter().map(events::finished));
            }
            // Not a row: the initiator removes after the commit, the reconciler if it does not.
            Effect::Remove => {}
        }
    }
    if ends {
        told.push(events::ended(&next, change.at));
        let previews = store::previews(Everyone::for_worker("lifecycle"));
        if previews.end_of_sandbox(tx, next.id, change.at).await? > 0 {
            store::notify(tx, announcements::PREVIEWS).await?;
        }
    }
    events::emit(tx, &told, app.clock.now()).await?;
    if ends && change.teller == Teller::Platform {
        let reason = next.end_reason.map_or("failed", EndReason::as_str);
        let act = Act::done("sandbox.end", next.id, json!({ "reason": reason }));
        audit::write(tx, next.org_id, &Actor::platform(), &[act], app.clock.now()).await?;
    }
    Ok(next)
}

async fn store_next(app: &App, tx: &Tx, next: Sandbox, ends: bool) -> Result<Sandbox> {
    let due = due(app, &next, ends);
    let everyone = Everyone::for_worker("lifecycle");
    Ok(store::sandboxes(everyone).update(tx, &next, due).await?)
}

/// When the reconciler must look at a sandbox next.
pub fn due(app: &App, sandbox: &Sandbox, just_ended: bool) -> Option<DateTime<Utc>> {
    let now = app.clock.now();
    match sandbox.phase {
        Phase::Creating => Some(now),
        // The task that boots it looks after it; this is for when that task is gone.
        Phase::Starting => Some((now + crate::work::reconcile::BOOT_LEASE).min(sandbox.expires_at)),
        Phase::Ready => {
            // The shortest idle time that any plan may have decides how often to look.
            let idle = app.config.idle_timeout_ms.and_then(|ms| i64::try_from(ms).ok());
            let idle = idle.and_then(TimeDelta::try_milliseconds);
            let idle_at = idle.and_then(|idle| sandbox.last_activity_at.checked_add_signed(idle));
            Some(idle_at.map_or(sandbox.expires_at, |at| at.min(sandbox.expires_at)))
        }
        Phase::Expiring | Phase::Failed if sandbox.removed_at.is_none() => {
            Some(if just_ended { now + REMOVAL_FALLBACK } else { now })
        }
        Phase::Expiring | Phase::Failed | Phase::Destroyed => None,
    }
}

/// Tells whoever waits for the sandbox or one of its commands.
pub fn announce(app: &App, sandbox: &Sandbox) {
    app.bus.publish(Nudge::Sandbox(sandbox.id));
    app.bus.publish(Nudge::Reconcile);
    app.bus.publish(Nudge::Billing);
    if !sandbox.phase.is_live() {
        app.bus.publish(Nudge::Previews);
    }
}
