//! Moves sandboxes of this host towards what is wanted of them: boots what was accepted, ends what
//! is due, removes what has ended. Claims rows with a lease, so any number of servers may run it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use domain::sandbox::{Activity, EndReason, Fact, Phase, Sandbox};
use drivers::{DriverError, ErrorKind, Limits, Spec, Template, Verb};
use store::Everyone;
use tokio::{sync::Semaphore, time::timeout};
use tracing::Instrument;

use super::{liveness, repeat};
use crate::{
    app::{
        App,
        billing::tick,
        error::{Error, Result},
        lifecycle::{self, Change, Teller},
    },
    bus::Nudge,
    trace,
};

/// Looked for again after this even without a nudge: other servers' creates, and the clock.
const PAUSE: Duration = Duration::from_millis(250);
/// Rows claimed at a time.
const BATCH: u32 = 64;
/// Boots and removals under way at a time.
const AT_ONCE: usize = 32;
/// A claimed row is claimed again after this if nothing came of it.
pub const BOOT_LEASE: TimeDelta = TimeDelta::seconds(90);
const CLAIM_LEASE: Duration = Duration::from_secs(90);
/// How long a driver may take for one verb before the step is given up and tried again.
const VERB_DEADLINE: Duration = Duration::from_secs(60);
/// A sandbox that does not come up within this has failed.
const BOOT_DEADLINE: TimeDelta = TimeDelta::seconds(50);
/// Between two tries of a boot or removal.
const RETRY: TimeDelta = TimeDelta::milliseconds(500);

/// Reconciles for ever.
pub async fn run(app: Arc<App>) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut nudges = app.bus.subscribe();
    if let Err(error) = take_over(&app, &places).await {
        tracing::warn!(%error, "what the last server was doing waits until its claims run out");
    }
    let failed = app.metrics.failures.reconcile.clone();
    repeat(Duration::ZERO, &failed, move || {
        let (app, places) = (Arc::clone(&app), Arc::clone(&places));
        let mut waiting = std::mem::replace(&mut nudges, app.bus.subscribe());
        async move {
            let found = round(&app, &places).await?;
            if !found {
                waiting.wait(PAUSE, |nudge| nudge == Nudge::Reconcile).await;
            }
            Ok(found)
        }
    })
    .await;
}

/// Does at once what the last server of this host had claimed and not finished: it was killed, and
/// whoever waits for one of its boots would wait for the whole lease. If that server still lives,
/// some steps are taken twice, which is what steps and drivers are made for.
async fn take_over(app: &Arc<App>, places: &Arc<Semaphore>) -> Result<()> {
    // No claim that was made before now is for longer.
    let claimed_until = app.clock.now() + CLAIM_LEASE;
    // The least that a claim can be for, so that none is found again.
    let full = usize::try_from(BATCH).unwrap_or(usize::MAX);
    while claim(app, places, claimed_until, Duration::from_micros(1)).await? >= full {}
    Ok(())
}

/// Claims what is due and starts a task for each; `true` when there was something.
///
/// # Errors
/// When the database does not answer.
pub async fn round(app: &Arc<App>, places: &Arc<Semaphore>) -> Result<bool> {
    Ok(claim(app, places, app.clock.now(), CLAIM_LEASE).await? > 0)
}

async fn claim(
    app: &Arc<App>,
    places: &Arc<Semaphore>,
    due_at: DateTime<Utc>,
    lease: Duration,
) -> Result<usize> {
    let sandboxes = store::sandboxes(Everyone::for_worker("reconcile"));
    let host = &app.config.host;
    let due = sandboxes.claim_due(app.db.write(), host, due_at, lease, BATCH).await?;
    let n_claimed = due.len();
    for sandbox in due {
        let Ok(place) = Arc::clone(places).acquire_owned().await else { return Ok(0) };
        let app = Arc::clone(app);
        let span = tracing::info_span!("reconcile", sandbox = %sandbox.id);
        app.clone().tasks.spawn(
            async move {
                let _place = place;
                if let Err(error) = step(&app, sandbox).await {
                    // The lease brings the row back.
                    app.metrics.failures.reconcile.increment(1);
                    tracing::warn!(%error, "a step failed; it will be tried again");
                }
            }
            .instrument(span),
        );
    }
    Ok(n_claimed)
}

/// Does what one sandbox needs now. A change by somebody else in the middle ends the step; that
/// change has made the row due again.
///
/// # Errors
/// When the database does not answer.
pub async fn step(app: &Arc<App>, sandbox: Sandbox) -> Result<()> {
    let now = app.clock.now();
    let result = match sandbox.phase {
        Phase::Creating | Phase::Starting | Phase::Ready if now >= sandbox.expires_at => {
            end(app, &sandbox, EndReason::TtlExpired).await
        }
        Phase::Creating | Phase::Starting => boot_in_trace(app, sandbox).await,
        Phase::Ready => idle(app, &sandbox).await,
        Phase::Expiring | Phase::Failed | Phase::Destroyed => remove_now(app, &sandbox).await,
    };
    match result {
        Err(Error::Store(store::Error::Stale)) => Ok(()),
        result => result,
    }
}

async fn take(app: &Arc<App>, sandbox: &Sandbox, fact: Fact, change: Change) -> Result<Sandbox> {
    let tx = app.db.begin().await?;
    let next = lifecycle::take(app, &tx, sandbox, sandbox.phase.learn(fact), change).await?;
    tx.commit().await?;
    lifecycle::announce(app, &next);
    Ok(next)
}

fn at_once(app: &App) -> Change {
    Change { at: app.clock.now(), reason: None, teller: Teller::Platform }
}

/// Ends a sandbox for a reason of the platform's and removes it.
///
/// # Errors
/// `Stale` when somebody else changed it first.
pub async fn end(app: &Arc<App>, sandbox: &Sandbox, reason: EndReason) -> Result<()> {
    if liveness::end_if_lost(app, sandbox).await? {
        return Ok(());
    }
    // Its credit may have ended before it; then the step below finds that somebody else was faster.
    tick::catch_up(app, sandbox.org_id).await?;
    let at = sandbox.end_at(app.clock.now());
    let change = Change { at, reason: Some(reason), teller: Teller::Platform };
    let ended = take(app, sandbox, Fact::EndDue, change).await?;
    tracing::info!(sandbox = %ended.id, reason = reason.as_str(), "sandbox ended");
    remove_now(app, &ended).await
}

/// Ends a sandbox whose organization cannot pay for more, at the instant up to which it can.
///
/// # Errors
/// When the database does not answer.
pub async fn stop(app: &Arc<App>, sandbox: &Sandbox, at: DateTime<Utc>) -> Result<()> {
    let result = async {
        if liveness::end_if_lost(app, sandbox).await? {
            return Ok(());
        }
        let reason = if at < sandbox.expires_at {
            EndReason::PlatformCleanup
        } else {
            EndReason::TtlExpired
        };
        let change =
            Change { at: sandbox.end_at(at), reason: Some(reason), teller: Teller::Platform };
        let ended = take(app, sandbox, Fact::EndDue, change).await?;
        tracing::info!(sandbox = %ended.id, at = %change.at, "sandbox stopped");
        if ended.host == app.config.host {
            remove_now(app, &ended).await
        } else {
            // Its own host removes it.
            reschedule(app, &ended, Some(app.clock.now())).await
        }
    };
    match result.await {
        // Somebody else ended it, or it came up meanwhile; then the account is due again.
        Err(Error::Store(store::Error::Stale)) => Ok(()),
        result => result,
    }
}

async fn idle(app: &Arc<App>, sandbox: &Sandbox) -> Result<()> {
    let organization = store::organizations::get(app.db.read(), sandbox.org_id).await?;
    let now = app.clock.now();
    let limit = app.config.limits(&organization, now).idle_timeout_ms;
    let limit = limit.and_then(|ms| i64::try_from(ms).ok()).and_then(TimeDelta::try_milliseconds);
    let in_use = sandbox.activity == Activity::Running || app.proxy.is_used(sandbox.id);
    if let Some(limit) = limit
        && !in_use
        && now - sandbox.last_activity_at >= limit
        && !liveness::end_if_lost(app, sandbox).await?
    {
        return end_idle(app, sandbox).await;
    }
    let mut due = lifecycle::due(app, sandbox, false);
    if in_use {
        // A running command is activity, and so is an open preview; its end writes that down. Look again in a while.
        due = limit.map_or(due, |limit| Some((now + limit).min(sandbox.expires_at)));
    }
    reschedule(app, sandbox, due).await
}

/// Ends an idle sandbox, unless a command was accepted since it was looked at: the step waits for
/// whoever holds the row, and then finds the command among those that it would end.
async fn end_idle(app: &Arc<App>, sandbox: &Sandbox) -> Result<()> {
    tick::catch_up(app, sandbox.org_id).await?;
    let tx = app.db.begin().await?;
    let sandboxes = store::sandboxes(Everyone::for_worker("reconcile"));
    sandboxes.lock(&tx, sandbox.id).await?;
    let current = sandboxes.get(&tx, sandbox.id).await?;
    if current.activity == Activity::Running || current.last_activity_at > sandbox.last_activity_at
    {
        tx.rollback().await?;
        return reschedule(app, &current, lifecycle::due(app, &current, false)).await;
    }
    let change = Change {
        at: current.end_at(app.clock.now()),
        reason: Some(EndReason::IdleExpired),
        teller: Teller::Platform,
    };
    let step = current.phase.learn(Fact::EndDue);
    let ended = lifecycle::take(app, &tx, &current, step, change).await?;
    tx.commit().await?;
    lifecycle::announce(app, &ended);
    tracing::info!(sandbox = %ended.id, "idle sandbox ended");
    remove_now(app, &ended).await
}

async fn reschedule(app: &Arc<App>, sandbox: &Sandbox, due: Option<DateTime<Utc>>) -> Result<()> {
    let sandboxes = store::sandboxes(Everyone::for_worker("reconcile"));
    Ok(sandboxes.reschedule(app.db.write(), sandbox, due).await?)
}

/// Boots in the trace of the request that made the sandbox, whichever server took it.
async fn boot_in_trace(app: &Arc<App>, sandbox: Sandbox) -> Result<()> {
    let outbox = store::outbox(Everyone::for_worker("reconcile"));
    let parent = outbox.first_trace(app.db.read(), &sandbox.id.to_string()).await?;
    let parent = parent.and_then(|text| trace::Parent::parse(&text));
    let span = tracing::info_span!("boot", org = %sandbox.org_id);
    trace::adopt(&span, parent);
    trace::within(parent, boot(app, sandbox)).instrument(span).await
}

async fn boot(app: &Arc<App>, sandbox: Sandbox) -> Result<()> {
    let sandbox = if sandbox.phase == Phase::Creating {
        take(app, &sandbox, Fact::BootBegun, at_once(app)).await?
    } else {
        sandbox
    };
    let spec = spec(app, &sandbox);
    let ensured = timeout(VERB_DEADLINE, app.driver.ensure(sandbox.id, &spec)).await;
    let ensured = ensured.unwrap_or_else(|_| {
        Err(DriverError::new(ErrorKind::TimedOut, Verb::Ensure, "no answer in time"))
    });
    match ensured {
        Ok(_) => match take(app, &sandbox, Fact::BootDone, at_once(app)).await {
            Err(Error::Store(store::Error::Stale)) => late(app, &sandbox).await,
            result => result.map(|_| ()),
        },
        Err(error) => boot_failed(app, &sandbox, &error).await,
    }
}

/// The sandbox came up after somebody had changed its row: set its lifetime (carry on), or ended it
/// (what was made must go, even if the removal ran before it was made).
async fn late(app: &Arc<App>, sandbox: &Sandbox) -> Result<()> {
    let sandboxes = store::sandboxes(Everyone::for_worker("reconcile"));
    let sandbox = sandboxes.get(app.db.read(), sandbox.id).await?;
    if sandbox.phase.is_live() {
        return reschedule(app, &sandbox, Some(app.clock.now())).await;
    }
    Ok(app.driver.remove(sandbox.id).await?)
}

async fn boot_failed(app: &Arc<App>, sandbox: &Sandbox, error: &DriverError) -> Result<()> {
    let now = app.clock.now();
    if error.kind.retryable() && now - sandbox.created_at < BOOT_DEADLINE {
        tracing::warn!(%error, "a sandbox did not come up; trying again");
        return reschedule(app, sandbox, Some(now + RETRY)).await;
    }
    tracing::error!(%error, "a sandbox failed to start");
    let failed = take(app, sandbox, Fact::BootFailed, at_once(app)).await?;
    let sandboxes = store::sandboxes(Everyone::for_worker("reconcile"));
    sandboxes.note_failure(app.db.write(), failed.id, &error.to_string()).await?;
    remove_now(app, &failed).await
}

/// Removes what has ended and writes down that it is gone. May be repeated.
///
/// # Errors
/// When the driver or the database fails; the row stays due.
pub async fn remove_now(app: &Arc<App>, sandbox: &Sandbox) -> Result<()> {
    if sandbox.phase.is_live() || sandbox.removed_at.is_some() {
        return Ok(());
    }
    app.guests.forget(sandbox.id);
    let removed = timeout(VERB_DEADLINE, app.driver.remove(sandbox.id)).await;
    let removed = removed.unwrap_or_else(|_| {
        Err(DriverError::new(ErrorKind::TimedOut, Verb::Remove, "no answer in time"))
    });
    if let Err(error) = removed {
        reschedule(app, sandbox, Some(app.clock.now() + RETRY)).await?;
        return Err(error.into());
    }
    if sandbox.phase == Phase::Failed {
        let sandboxes = store::sandboxes(Everyone::for_worker("reconcile"));
        sandboxes.mark_removed(app.db.write(), sandbox.id, app.clock.now()).await?;
        return Ok(());
    }
    match take(app, sandbox, Fact::Removed, at_once(app)).await {
        // Somebody else removed it at the same time and wrote it down.
        Err(Error::Store(store::Error::Stale)) => Ok(()),
        result => result.map(|_| ()),
    }
}

/// What the driver is asked for; the same for each try of one sandbox.
fn spec(app: &App, sandbox: &Sandbox) -> Spec {
    let template = &sandbox.template;
    let env = BTreeMap::from(
        [
            ("CROWNEST", "1".to_owned()),
            ("CROWNEST_SANDBOX_ID", sandbox.id.to_string()),
            ("CROWNEST_PROJECT_ID", sandbox.project_id.to_string()),
            ("CROWNEST_ORG_ID", sandbox.org_id.to_string()),
            ("CROWNEST_TEMPLATE_ID", template.template_id.to_string()),
            ("CROWNEST_TEMPLATE_VERSION_ID", template.id.to_string()),
            ("CROWNEST_WORKSPACE", domain::path::WORKSPACE.to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    Spec {
        template: Template { slug: template.slug.clone(), version_id: template.id },
        env,
        limits: Limits {
            cpu_milli: app.config.sandbox_cpu_milli,
            memory_mib: app.config.sandbox_memory_mib,
            disk_mib: app.config.sandbox_disk_mib,
            n_pids: app.config.sandbox_pids,
        },
    }
}
