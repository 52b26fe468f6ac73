//! Minutes of previews, counted as they begin. A row of usage is keyed by what was measured - the
//! preview and the number of its minute - and written in the transaction that notes it as counted, so
//! that no crash and no second worker counts one twice or leaves one out.
//!
//! Minutes are counted from the first instant at which the preview is active and its sandbox ready, up
//! to its end; of what is active, up to the last instant at which the sandbox was seen alive, so that
//! none has to be taken back.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::{
    Refused,
    metric::Metric,
    preview::{minute, minutes},
    sandbox::Sandbox,
};
use serde_json::json;
use store::{
    Everyone, Reach, Tx,
    previews::Unfinished,
    usage::{UsageRecord, UsageRecordId},
};

use crate::{
    app::{
        App,
        audit::{self, Act, Actor},
        billing::admission,
        error::{Error, Result},
    },
    bus::Nudge,
    work::announcements,
};

/// Previews looked at in a round.
const BATCH: u32 = 256;
/// Minutes of a preview written in a transaction; more of them, after an outage, take several.
const AT_ONCE: i64 = 60;

/// Counts what has begun; `true` when there may be more.
///
/// # Errors
/// When the database does not answer.
pub async fn round(app: &Arc<App>) -> Result<bool> {
    let previews = store::previews(Everyone::for_worker("previews"));
    let due = previews.unfinished(app.db.read(), app.clock.now(), BATCH).await?;
    let mut more = u32::try_from(due.len()).is_ok_and(|n| n >= BATCH);
    for preview in &due {
        match count(app, preview, AT_ONCE).await {
            Ok(left) => more |= left,
            // Somebody else was faster, or it has just ended; the next round looks again.
            Err(Error::Store(store::Error::Stale)) => {}
            Err(error @ Error::Store(store::Error::Unavailable(_))) => return Err(error),
            Err(error) => {
                // One preview's nonsense must not keep the others from being counted.
                app.metrics.failures.previews.increment(1);
                tracing::error!(preview = %preview.id, %error, "minutes cannot be counted");
            }
        }
    }
    Ok(more)
}

/// Counts minutes of a preview, `at_once` of them at most; `true` when more have begun.
async fn count(app: &Arc<App>, preview: &Unfinished, at_once: i64) -> Result<bool> {
    let begun = begun(preview).max(preview.counted);
    let upto = begun.min(preview.counted.saturating_add(at_once));
    let tx = app.db.begin().await?;
    let sandboxes = store::sandboxes(Everyone::for_worker("previews"));
    let sandbox = sandboxes.get(&tx, preview.sandbox_id).await?;
    let from = preview.from.unwrap_or(preview.known_until);
    // What has ended has happened; what is active ends where it cannot be paid.
    if preview.ended_at.is_none() {
        let (now, n) = (app.clock.now(), upto - preview.counted);
        match admission::reserve(app, &tx, &sandbox, Metric::PreviewMinutes, n, now).await {
            Err(Error::Refused(refused)) if admission::may_be_over(&refused) => {
                tx.rollback().await?;
                if n > 1 {
                    return Box::pin(count(app, preview, 1)).await;
                }
                return end(app, preview, &sandbox, minute(from, preview.counted), &refused).await;
            }
            reserved => reserved?,
        }
    }
    for number in preview.counted..upto {
        record(&tx, preview, &sandbox, number, minute(from, number)).await?;
    }
    let is_over = preview.ended_at.is_some() && upto == begun;
    let next = (!is_over).then(|| minute(from, upto));
    let previews = store::previews(Everyone::for_worker("previews"));
    previews.mark_counted(&tx, preview, upto, next).await?;
    if preview.ended_at.is_some() {
        // Perhaps the last thing that happens in this organization for long.
        let billing = store::billing(Everyone::for_worker("previews"));
        billing.wake(&tx, sandbox.org_id, app.clock.now()).await?;
    }
    tx.commit().await?;
    Ok(upto < begun)
}

/// How many minutes are known to have begun.
fn begun(preview: &Unfinished) -> i64 {
    match (preview.from, preview.ended_at) {
        // Its sandbox was never ready.
        (None, _) => 0,
        (Some(from), Some(ended_at)) => minutes(from, ended_at),
        // Nothing is known of the very instant up to which it is.
        (Some(from), None) if preview.known_until <= from => 0,
        (Some(from), None) => minutes(from, preview.known_until),
    }
}

async fn record(
    tx: &Tx,
    preview: &Unfinished,
    sandbox: &Sandbox,
    number: i64,
    at: DateTime<Utc>,
) -> Result<()> {
    let record = UsageRecord {
        id: UsageRecordId::generate(at),
        org_id: sandbox.org_id,
        project_id: sandbox.project_id,
        sandbox_id: sandbox.id,
        metric: Metric::PreviewMinutes,
        resource_id: format!("{}/{number}", preview.id),
        amount: 1,
        at,
    };
    let reach = Reach::Tenant { org: sandbox.org_id, projects: None };
    Ok(store::usage(reach).record(tx, &record).await?)
}

/// Ends a preview at the beginning of the minute that cannot be paid.
async fn end(
    app: &App,
    preview: &Unfinished,
    sandbox: &Sandbox,
    at: DateTime<Utc>,
    refused: &Refused,
) -> Result<bool> {
    let (tx, now) = (app.db.begin().await?, app.clock.now());
    let previews = store::previews(Everyone::for_worker("previews"));
    if previews.end(&tx, preview.id, at).await? {
        store::notify(&tx, announcements::PREVIEWS).await?;
        let details = json!({ "sandboxId": sandbox.id, "reason": refused.code.as_str() });
        let act = Act::done("preview.end", preview.id, details);
        audit::write(&tx, sandbox.org_id, &Actor::platform(), &[act], now).await?;
    }
    tx.commit().await?;
    app.bus.publish(Nudge::Previews);
    Ok(false)
}
