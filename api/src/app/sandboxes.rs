//! Sandboxes: create, list, get, kill, set TTL.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::{
    Code, Refused,
    id::{ProjectId, SandboxId, TemplateVersionId},
    limits::DEFAULT_TTL_MS,
    metadata::Metadata,
    organization::Project,
    sandbox::{Activity, EndReason, Phase, Sandbox, TemplateVersion, Wish, expiry},
};
use serde_json::json;
use store::{
    Page, PageRequest,
    idempotency::Asker,
    sandboxes::{SandboxFilter, Sandboxes},
    usage::Metric,
};

use super::{
    App, Caller,
    audit::{self, Act, Actor},
    billing,
    error::{Error, Result},
    events,
    idempotency::{self, Answer, Idempotent, Known},
    lifecycle::{self, Change, Teller},
};
use crate::{
    bus::Nudge,
    work::{liveness, reconcile},
};

/// The template of callers that name none (contract, section 9.2).
const DEFAULT_TEMPLATE: &str = "python-node";
/// How often a compare-and-set is tried again when somebody else was faster.
const MAX_TRIES: usize = 8;

/// What a caller asks for.
#[derive(Debug, Clone)]
pub struct NewSandbox {
    /// The project; the default one if absent.
    pub project_id: Option<ProjectId>,
    /// The template's slug.
    pub template: Option<String>,
    /// An exact version.
    pub template_version_id: Option<TemplateVersionId>,
    /// The lifetime in milliseconds.
    pub ttl_ms: Option<u64>,
    /// Labels.
    pub metadata: Metadata,
    /// Whether it asks to restore a backup.
    pub restores: bool,
}

/// Creates a sandbox: accepted in one transaction, booted in the background.
///
/// # Errors
/// `not_found` for the template, `forbidden` for the project, `sandbox_ttl_exceeded`,
/// `quota_exceeded`, `feature_not_enabled`, and those of idempotency.
pub async fn create(
    app: &Arc<App>,
    caller: &Caller,
    idempotent: Option<Idempotent>,
    new: NewSandbox,
    print: impl Fn(&Sandbox, DateTime<Utc>) -> Answer + Send,
) -> Result<Answer> {
    match idempotency::look_up(app, caller, idempotent.as_ref()).await? {
        Known::Fresh => {}
        Known::Answered(answer) => return Ok(answer),
        Known::Running(..) => return Err(Error::InProgress),
    }
    if new.restores {
        return Err(Refused::new(Code::FeatureNotEnabled, "backups are not enabled").into());
    }
    let ttl_ms = new.ttl_ms.unwrap_or(DEFAULT_TTL_MS.min(caller.limits.max_create_ttl_ms));
    caller.limits.check_create_ttl(ttl_ms)?;
    let template = resolve_template(app, &new).await?;
    let project = resolve_project(app, caller, new.project_id).await?;
    let now = app.clock.now();
    let prices = app.prices.get(app.db.read(), now).await?;
    let sandbox = Sandbox {
        id: SandboxId::generate(now),
        org_id: caller.org_id(),
        project_id: project.id,
        created_by: caller.key.id,
        template,
        pricing_version: prices.in_force(now)?.name.clone(),
        phase: Phase::Creating,
        generation: 0,
        host: app.config.host.clone(),
        ttl_ms,
        metadata: new.metadata,
        created_at: now,
        ready_at: None,
        expires_at: expiry(now, ttl_ms),
        ended_at: None,
        end_reason: None,
        removed_at: None,
        last_activity_at: now,
        seen_alive_at: None,
        activity: Activity::Unused,
    };
    let answer = print(&sandbox, now);
    let mut accepted = accept(app, caller, idempotent.as_ref(), &sandbox, &answer).await;
    if let Err(Error::Refused(refused)) = &accepted
        && billing::admission::may_be_over(refused)
    {
        // What the account says is a prediction: before somebody is sent away it is made anew.
        billing::tick::bring_up_to_date(app, caller.org_id()).await?;
        accepted = accept(app, caller, idempotent.as_ref(), &sandbox, &answer).await;
    }
    if !accepted? {
        // The same request was committed by somebody else while we waited for its row.
        return match idempotency::look_up(app, caller, idempotent.as_ref()).await? {
            Known::Answered(answer) => Ok(answer),
            Known::Fresh | Known::Running(..) => Err(Error::InProgress),
        };
    }
    app.bus.publish(Nudge::Reconcile);
    Ok(answer)
}

/// The one transaction of a create. `false`: the same idempotent request is ahead.
async fn accept(
    app: &App,
    caller: &Caller,
    idempotent: Option<&Idempotent>,
    sandbox: &Sandbox,
    answer: &Answer,
) -> Result<bool> {
    let tx = app.db.begin().await?;
    billing::admission::hold_if_priced(app, &tx, sandbox).await?;
    // The lock on the organization's row makes count and insert one step for all its creates.
    let locked = store::organizations::lock(&tx, caller.org_id()).await?;
    if !idempotency::record(app, &tx, caller, idempotent, None, Some(answer)).await? {
        return Ok(false);
    }
    // It may have been suspended since the caller came in; from then on nothing new begins.
    locked.organization.standing.check()?;
    billing::admission::check(locked.stop.as_ref(), sandbox.created_at)?;
    let sandboxes = store::sandboxes(caller.reach());
    let limit = u64::from(caller.limits.max_concurrent_sandboxes);
    let live = sandboxes.count_live(&tx, caller.org_id()).await?;
    if live >= limit {
        return Err(Error::QuotaExceeded { what: "live sandboxes", limit });
    }
    sandboxes.insert(&tx, sandbox, Some(sandbox.created_at)).await?;
    billing::admission::note_quota(app, &tx, sandbox, live, limit).await?;
    let id = sandbox.id.to_string();
    super::usage::count(app, &tx, sandbox, Metric::SandboxCreates, id, 1, sandbox.created_at)
        .await?;
    events::emit(&tx, &[events::created(sandbox)], sandbox.created_at).await?;
    let details = json!({
        "projectId": sandbox.project_id,
        "template": sandbox.template.slug,
        "ttlMs": sandbox.ttl_ms,
    });
    let act = Act::done("sandbox.create", sandbox.id, details);
    audit::write(&tx, sandbox.org_id, &Actor::of(caller), &[act], sandbox.created_at).await?;
    tx.commit().await?;
    Ok(true)
}

async fn resolve_template(app: &App, new: &NewSandbox) -> Result<TemplateVersion> {
    let missing = || Refused::new(Code::NotFound, "no such template");
    let Some(id) = new.template_version_id else {
        let slug = new.template.as_deref().unwrap_or(DEFAULT_TEMPLATE);
        return Ok(store::templates::latest(app.db.read(), slug).await?.ok_or_else(missing)?);
    };
    let found = store::templates::version(app.db.read(), id).await?.ok_or_else(missing)?;
    if found.deprecated.is_some() {
        let text = "this version of the template is deprecated";
        return Err(Refused::field(Code::NotFound, "templateVersionId", text).into());
    }
    let version = found.version;
    if new.template.as_ref().is_some_and(|slug| *slug != version.slug) {
        return Err(Refused::invalid(
            "templateVersionId",
            "templateVersionId must be a version of the named template",
        )
        .into());
    }
    Ok(version)
}

async fn resolve_project(app: &App, caller: &Caller, wanted: Option<ProjectId>) -> Result<Project> {
    let projects = store::projects(caller.reach());
    let forbidden =
        || Refused::field(Code::Forbidden, "projectId", "the key has no access to this project");
    if let Some(id) = wanted {
        return match projects.get(app.db.read(), id).await {
            Ok(project) => Ok(project),
            Err(store::Error::Missing(_)) => Err(forbidden().into()),
            Err(error) => Err(error.into()),
        };
    }
    match caller.key.project_ids.as_deref() {
        None => Ok(projects.default(app.db.read()).await?),
        Some([first, ..]) => Ok(projects.get(app.db.read(), *first).await?),
        Some([]) => Err(forbidden().into()),
    }
}

/// Lists sandboxes, newest first.
///
/// # Errors
/// When the database does not answer.
pub async fn list(
    app: &Arc<App>,
    caller: &Caller,
    filter: SandboxFilter,
    page: PageRequest,
) -> Result<Page<Sandbox>> {
    Ok(store::sandboxes(caller.reach()).list(app.db.read(), &filter, page).await?)
}

/// Gets a sandbox, ended ones included.
///
/// # Errors
/// `not_found`.
pub async fn get(app: &Arc<App>, caller: &Caller, id: SandboxId) -> Result<Sandbox> {
    Ok(store::sandboxes(caller.reach()).get(app.db.read(), id).await?)
}

/// Kills a sandbox and returns when nothing of it runs any more. Idempotent by state.
///
/// # Errors
/// `not_found`; `resource_allocation_failed` when the host did not manage to remove it in time (it
/// goes on trying; the sandbox is closed and not billed any more).
pub async fn kill(
    app: &Arc<App>,
    caller: &Caller,
    idempotent: Option<Idempotent>,
    id: SandboxId,
    print: impl Fn(&Sandbox, DateTime<Utc>) -> Answer + Send,
) -> Result<Answer> {
    let (actor, reason) = (Actor::of(caller), EndReason::UserKilled);
    let killing = Killing { actor, reason, details: json!({}) };
    let place = (store::sandboxes(caller.reach()), id);
    kill_once(app, caller, idempotent, place, killing, print).await
}

/// Who kills a sandbox, and why.
#[derive(Debug)]
pub(super) struct Killing {
    /// Who.
    pub actor: Actor,
    /// What its end is called.
    pub reason: EndReason,
    /// What is written down of it.
    pub details: serde_json::Value,
}

/// As [`kill`], for anybody who may.
pub(super) async fn kill_once<A>(
    app: &Arc<App>,
    asker: &A,
    idempotent: Option<Idempotent>,
    (sandboxes, id): (Sandboxes, SandboxId),
    killing: Killing,
    print: impl Fn(&Sandbox, DateTime<Utc>) -> Answer + Send,
) -> Result<Answer>
where
    A: Sync,
    for<'a> Asker: From<&'a A>,
{
    let known = idempotency::look_up(app, asker, idempotent.as_ref()).await?;
    if let Known::Answered(answer) = known {
        return Ok(answer);
    }
    let sandbox = sandboxes.get(app.db.read(), id).await?;
    let owned = Arc::clone(app);
    let killed = async move { end_and_remove(&owned, sandbox, &killing).await };
    let sandbox = app.detached(killed).await?;
    let answer = print(&sandbox, app.clock.now());
    let tx = app.db.begin().await?;
    // Kill is idempotent by its state, so a record that is there already changes nothing.
    idempotency::record(app, &tx, asker, idempotent.as_ref(), None, Some(&answer)).await?;
    tx.commit().await?;
    Ok(answer)
}

async fn end_and_remove(app: &Arc<App>, sandbox: Sandbox, killing: &Killing) -> Result<Sandbox> {
    let id = sandbox.id;
    let everyone = || store::sandboxes(store::Everyone::for_worker("kill"));
    let mut sandbox = sandbox;
    let lost = liveness::end_if_lost(app, &sandbox).await?;
    // Or its credit ended before anybody looked.
    let stopped = billing::tick::catch_up(app, sandbox.org_id).await?;
    if lost || stopped {
        sandbox = everyone().get(app.db.read(), id).await?;
    }
    for _ in 0..MAX_TRIES {
        let now = app.clock.now();
        let step = sandbox.ask(Wish::Kill, now)?;
        if step.to == sandbox.phase {
            break;
        }
        // Whoever kills what is over already has not ended it.
        let (reason, teller) = if now >= sandbox.expires_at {
            (EndReason::TtlExpired, Teller::Platform)
        } else {
            (killing.reason, Teller::Caller)
        };
        let change = Change { at: sandbox.end_at(now), reason: Some(reason), teller };
        let tx = app.db.begin().await?;
        match lifecycle::take(app, &tx, &sandbox, step, change).await {
            Ok(next) => {
                if teller == Teller::Caller {
                    let act = Act::done("sandbox.kill", next.id, killing.details.clone());
                    audit::write(&tx, next.org_id, &killing.actor, &[act], now).await?;
                }
                tx.commit().await?;
                lifecycle::announce(app, &next);
                sandbox = next;
                break;
            }
            Err(Error::Store(store::Error::Stale)) => {
                drop(tx);
                sandbox = everyone().get(app.db.read(), id).await?;
            }
            Err(error) => return Err(error),
        }
    }
    reconcile::remove_now(app, &sandbox).await?;
    let sandbox = everyone().get(app.db.read(), id).await?;
    if sandbox.phase.is_live() {
        return Err(store::Error::Stale.into());
    }
    Ok(sandbox)
}

/// Sets a new lifetime from now; it may be shorter.
///
/// # Errors
/// `not_found`, `sandbox_destroyed`, `sandbox_ttl_exceeded`, and those of idempotency.
pub async fn set_ttl(
    app: &Arc<App>,
    caller: &Caller,
    idempotent: Option<Idempotent>,
    id: SandboxId,
    ttl_ms: u64,
    print: impl Fn(&Sandbox, DateTime<Utc>) -> Answer + Send,
) -> Result<Answer> {
    let sandboxes = store::sandboxes(caller.reach());
    for _ in 0..MAX_TRIES {
        match idempotency::look_up(app, caller, idempotent.as_ref()).await? {
            Known::Fresh => {}
            Known::Answered(answer) => return Ok(answer),
            Known::Running(..) => return Err(Error::InProgress),
        }
        let sandbox = sandboxes.get(app.db.read(), id).await?;
        let now = app.clock.now();
        caller.limits.check_set_ttl(ttl_ms, sandbox.age_ms(now))?;
        sandbox.ask(Wish::SetTtl, now)?;
        let next = Sandbox { ttl_ms, expires_at: expiry(now, ttl_ms), ..sandbox };
        let answer = print(&next, now);
        let tx = app.db.begin().await?;
        if !idempotency::record(app, &tx, caller, idempotent.as_ref(), None, Some(&answer)).await? {
            continue;
        }
        // A boot that waits for its next try must not wait for longer because of this.
        let due = if next.phase == Phase::Starting {
            Some(now)
        } else {
            lifecycle::due(app, &next, false)
        };
        match sandboxes.update(&tx, &next, due).await {
            Ok(_) => {
                // It may outlive its credit now.
                let billing = store::billing(store::Everyone::for_worker("set ttl"));
                billing.wake(&tx, caller.org_id(), now).await?;
                tx.commit().await?;
                app.bus.publish(Nudge::Reconcile);
                app.bus.publish(Nudge::Billing);
                return Ok(answer);
            }
            Err(store::Error::Stale) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(store::Error::Stale.into())
}
