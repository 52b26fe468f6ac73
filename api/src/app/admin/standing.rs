//! Whether an organization may do anything: suspend, resume, close. What still runs of one that may not
//! is ended here when its time has come, whether or not anybody asks.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    id::OrganizationId,
    organization::{Organization, Standing, check_reason},
};
use serde_json::json;
use store::Everyone;

use super::{AdminCaller, Begun, Change, Outcome};
use crate::{
    app::{
        App,
        audit::Act,
        billing::tick,
        error::Result,
        events::{self, Event},
        idempotency::{Answer, Idempotent},
    },
    work::reconcile,
};

/// Organizations looked at together.
const BATCH: u32 = 32;

/// What is told of a change of standing.
struct Told {
    standing: Standing,
    cleanup_at: Option<DateTime<Utc>>,
    event: Event,
    act: Act,
}

/// Suspends an organization: from the answer on, no server takes its keys, and nothing new begins.
/// What runs goes on until the grace period is over. Suspended twice, it stays as it was.
///
/// # Errors
/// `invalid_request` for the reason, `not_found`, `conflict` for one that is closed, and those of
/// idempotency.
pub async fn suspend(
    app: &Arc<App>,
    caller: &AdminCaller,
    idempotent: Option<Idempotent>,
    (id, reason): (OrganizationId, &str),
    print: impl Fn(&Organization) -> Answer + Send,
) -> Result<Answer> {
    let reason = check_reason(reason)?;
    let grace = TimeDelta::minutes(i64::from(app.config.suspension_grace_minutes));
    let decide = |found: &Organization, now: DateTime<Utc>| {
        let Some(standing) = found.standing.suspend(now, reason.clone())? else { return Ok(None) };
        let until = now + grace;
        let details = json!({ "reason": reason, "cleanupAt": until });
        Ok(Some(Told {
            standing,
            cleanup_at: Some(until),
            event: events::suspended(id, &reason, now, until),
            act: Act::done("organization.suspend", id, details),
        }))
    };
    set(app, caller, idempotent, id, decide, print).await
}

/// Resumes an organization: its keys work again, and what still runs is spared. An active one stays as
/// it is.
///
/// # Errors
/// `not_found`, `conflict` for one that is closed, and those of idempotency.
pub async fn resume(
    app: &Arc<App>,
    caller: &AdminCaller,
    idempotent: Option<Idempotent>,
    id: OrganizationId,
    print: impl Fn(&Organization) -> Answer + Send,
) -> Result<Answer> {
    let decide = |found: &Organization, now: DateTime<Utc>| {
        let Some(standing) = found.standing.resume()? else { return Ok(None) };
        Ok(Some(Told {
            standing,
            cleanup_at: None,
            event: events::resumed(id, now),
            act: Act::done("organization.resume", id, json!({})),
        }))
    };
    set(app, caller, idempotent, id, decide, print).await
}

/// Closes an organization for good: no server takes its keys, and what runs is ended at once. Its data
/// and its ledger stay. Closed twice, it stays as it was.
///
/// # Errors
/// `invalid_request` for the reason, `not_found`, and those of idempotency.
pub async fn close(
    app: &Arc<App>,
    caller: &AdminCaller,
    idempotent: Option<Idempotent>,
    (id, reason): (OrganizationId, &str),
    print: impl Fn(&Organization) -> Answer + Send,
) -> Result<Answer> {
    let reason = check_reason(reason)?;
    let decide = |found: &Organization, now: DateTime<Utc>| {
        let Some(standing) = found.standing.close(now, reason.clone()) else { return Ok(None) };
        Ok(Some(Told {
            standing,
            cleanup_at: Some(now),
            event: events::closed(id, &reason, now),
            act: Act::done("organization.close", id, json!({ "reason": reason })),
        }))
    };
    let answer = set(app, caller, idempotent, id, decide, print).await?;
    let working = Arc::clone(app);
    // What this does not get done, the worker does.
    app.detached(async move {
        clean(&working, &store::organizations::get(working.db.read(), id).await?).await
    })
    .await?;
    Ok(answer)
}

async fn set(
    app: &Arc<App>,
    caller: &AdminCaller,
    idempotent: Option<Idempotent>,
    id: OrganizationId,
    decide: impl Fn(&Organization, DateTime<Utc>) -> Result<Option<Told>> + Send,
    print: impl Fn(&Organization) -> Answer + Send,
) -> Result<Answer> {
    let change = match Change::begin(app, caller, idempotent).await? {
        Begun::Fresh(change) => change,
        Begun::Answered(answer) => return Ok(answer),
    };
    // Whoever creates a sandbox holds the same lock: what began before is counted and ended.
    let found = store::organizations::lock(&change.tx, id).await?.organization;
    let Some(told) = decide(&found, change.now)? else {
        let outcome = Outcome {
            answer: print(&found),
            replay: None,
            chain: id.into(),
            events: Vec::new(),
            acts: Vec::new(),
        };
        return change.commit(outcome).await;
    };
    let Told { standing, cleanup_at, event, act } = told;
    store::organizations::set_standing(&change.tx, id, &standing, cleanup_at).await?;
    let next = Organization { standing, cleanup_at, ..found };
    let outcome = Outcome {
        answer: print(&next),
        replay: None,
        chain: id.into(),
        events: vec![event],
        acts: vec![act],
    };
    change.commit(outcome).await
}

/// Ends what runs of organizations whose time has come; `true` when there may be more.
///
/// # Errors
/// When the database does not answer.
pub async fn clean_due(app: &Arc<App>) -> Result<bool> {
    let due = store::organizations::due_for_cleanup(app.db.read(), app.clock.now(), BATCH).await?;
    for organization in &due {
        clean(app, organization).await?;
    }
    Ok(u32::try_from(due.len()).is_ok_and(|n| n >= BATCH))
}

/// Ends what runs of an organization whose time has come, at the instant at which it came, however late
/// this is: nobody is billed for a worker that was away.
async fn clean(app: &Arc<App>, organization: &Organization) -> Result<()> {
    let Some(at) = organization.cleanup_at.filter(|at| *at <= app.clock.now()) else {
        return Ok(());
    };
    let org = organization.id;
    // Its credit may have ended before.
    tick::catch_up(app, org).await?;
    let sandboxes = store::sandboxes(Everyone::for_worker("cleanup"));
    for sandbox in sandboxes.live_of(app.db.read(), org).await? {
        if let Err(error) = reconcile::stop(app, &sandbox, at).await {
            tracing::warn!(sandbox = %sandbox.id, %error, "it is ended later");
        }
    }
    if sandboxes.live_of(app.db.read(), org).await?.is_empty() {
        store::organizations::note_cleaned(app.db.write(), org, at).await?;
        store::billing(Everyone::for_worker("cleanup"))
            .wake(app.db.write(), org, app.clock.now())
            .await?;
    }
    Ok(())
}
