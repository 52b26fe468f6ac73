//! Compares what should run on this host with what the driver runs: writes down who is alive, and
//! closes who is not, at the last instant at which it was known alive.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use domain::{
    id::SandboxId,
    sandbox::{Fact, Phase, Sandbox},
};
use store::Everyone;

use super::{reconcile, repeat};
use crate::app::{
    App,
    error::{Error, Result},
    lifecycle::{self, Change, Teller},
};

/// A sandbox that dies is noticed within this.
const PAUSE: Duration = Duration::from_millis(500);
/// How often `seen_alive_at` is written; the most that a crash of the whole host, or of the server with
/// the sandbox, leaves unbilled. A sandbox that dies alone was seen [`PAUSE`] ago.
const WRITE_EVERY: chrono::TimeDelta = chrono::TimeDelta::seconds(5);

/// Watches for ever.
pub async fn run(app: Arc<App>) {
    repeat(PAUSE, &app.metrics.failures.liveness, || async { round(&app).await.map(|()| false) })
        .await;
}

/// One comparison.
///
/// # Errors
/// When the driver or the database does not answer.
pub async fn round(app: &Arc<App>) -> Result<()> {
    let asked_at = app.clock.now();
    let running: BTreeSet<SandboxId> =
        app.driver.list().await?.into_iter().map(|observed| observed.id).collect();
    let sandboxes = store::sandboxes(Everyone::for_worker("liveness"));
    let ready = sandboxes.ready_on(app.db.read(), &app.config.host).await?;
    let mut alive = Vec::new();
    let mut missing = Vec::new();
    for sandbox in ready {
        if running.contains(&sandbox.id) {
            app.sightings.note(sandbox.id, asked_at);
            if sandbox.seen_alive_at.is_none_or(|seen| asked_at - seen >= WRITE_EVERY) {
                alive.push(sandbox.id);
            }
        } else {
            // Or it came up after the list was made: that is looked at below.
            missing.push(sandbox);
        }
    }
    // First: what is not written down here is not billed should this host die.
    if !alive.is_empty() {
        sandboxes.mark_seen_alive(app.db.write(), &app.config.host, &alive, asked_at).await?;
    }
    for sandbox in &missing {
        if let Err(error) = end_if_lost(app, sandbox).await {
            app.metrics.failures.liveness.increment(1);
            tracing::warn!(sandbox = %sandbox.id, %error, "a lost sandbox is looked at again");
        }
    }
    let wanted: BTreeSet<SandboxId> =
        sandboxes.on_host(app.db.read(), &app.config.host).await?.iter().map(|s| s.id).collect();
    app.guests.keep(&wanted);
    app.sightings.keep(&wanted);
    remove_strangers(app, &running, &wanted).await
}

/// Ends a ready sandbox that the driver does not run, at the last instant at which it was known
/// alive; `true` when it is not to be treated as running any more. Whoever is about to end a sandbox
/// for another reason asks here first: seconds after its death are nobody's.
///
/// # Errors
/// When the driver or the database does not answer.
pub async fn end_if_lost(app: &Arc<App>, sandbox: &Sandbox) -> Result<bool> {
    // Only its own host can tell.
    let elsewhere = sandbox.host != app.config.host;
    if sandbox.phase != Phase::Ready || elsewhere || app.driver.observe(sandbox.id).await?.is_some()
    {
        return Ok(false);
    }
    let now = app.clock.now();
    let seen = app.sightings.last_of(sandbox.id).max(sandbox.seen_alive_at);
    let at = seen.or(sandbox.ready_at).unwrap_or(now).min(sandbox.end_at(now));
    let tx = app.db.begin().await?;
    let step = sandbox.phase.learn(Fact::Lost);
    match lifecycle::take(
        app,
        &tx,
        sandbox,
        step,
        Change { at, reason: None, teller: Teller::Platform },
    )
    .await
    {
        Ok(next) => {
            tx.commit().await?;
            tracing::warn!(sandbox = %sandbox.id, %at, "a sandbox stopped by itself");
            lifecycle::announce(app, &next);
            // What the host has left of it, such as a directory, goes now; a failure leaves it due.
            let app = Arc::clone(app);
            app.clone().tasks.spawn(async move {
                if let Err(error) = reconcile::remove_now(&app, &next).await {
                    tracing::warn!(sandbox = %next.id, %error, "what is left of it goes later");
                }
            });
            Ok(true)
        }
        Err(Error::Store(store::Error::Stale)) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Removes what the driver runs and no row wants: leftovers of a database that was restored or of a
/// removal whose success was not written down.
async fn remove_strangers(
    app: &Arc<App>,
    running: &BTreeSet<SandboxId>,
    wanted: &BTreeSet<SandboxId>,
) -> Result<()> {
    for id in running.difference(wanted) {
        // The list is older than the rows: it may have gone in between, as it should.
        if app.driver.observe(*id).await?.is_none() {
            continue;
        }
        tracing::warn!(sandbox = %id, "removing a sandbox that no row wants");
        app.driver.remove(*id).await?;
    }
    Ok(())
}
