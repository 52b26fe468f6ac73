//! Previews: create, list, get, revoke (contract, section 14). What they carry is the proxy's; their
//! minutes are in `minutes`.

pub mod minutes;
pub mod token;

use std::sync::Arc;

use domain::{
    Code, Refused,
    id::{CommandId, PreviewId, SandboxId},
    metric::Metric,
    preview::{AuthMode, Preview, Slug},
    sandbox::{Sandbox, Wish},
};
use serde_json::json;
use store::{Page, PageRequest, previews::NewPreview};

use super::{
    App, Caller,
    audit::{self, Act, Actor},
    billing::admission,
    error::{Error, Result},
};
use crate::{bus::Nudge, work::announcements};

/// What a caller asks for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// The port in the sandbox.
    pub port: u16,
    /// Who may open it.
    pub auth_mode: AuthMode,
    /// The command that serves it; only written down.
    pub source_command: Option<CommandId>,
}

/// What came of it.
#[derive(Debug, Clone)]
pub enum Made {
    /// A new preview, with its token if it has one: this is the only time that it is known.
    New(Preview, Option<String>),
    /// The port has an active preview already, which stays as it is.
    Existing(Preview),
}

/// Makes a preview of a port, whether or not something listens there yet.
///
/// # Errors
/// `feature_not_enabled` where no previews are served, `not_found`, `sandbox_destroyed`,
/// `invalid_request` for a command of another sandbox, `quota_exceeded`, and those of credit.
pub async fn create(
    app: &Arc<App>,
    caller: &Caller,
    sandbox_id: SandboxId,
    wanted: Wanted,
) -> Result<Made> {
    let sandbox = store::sandboxes(caller.reach()).get(app.db.read(), sandbox_id).await?;
    if app.proxy.pattern().is_none() {
        let text = "this installation serves no previews; its operator can set preview_listen";
        return Err(Refused::new(Code::FeatureNotEnabled, text).into());
    }
    sandbox.ask(Wish::Use, app.clock.now())?;
    if let Some(id) = wanted.source_command {
        check_source(app, caller, &sandbox, id).await?;
    }
    let tx = app.db.begin().await?;
    // Held, so that it cannot end in between and leave an active preview behind.
    let sandbox = store::sandboxes(caller.reach()).hold(&tx, sandbox_id).await?;
    let now = app.clock.now();
    sandbox.ask(Wish::Use, now)?;
    let previews = store::previews(caller.reach());
    if let Some(existing) = previews.find_active(&tx, sandbox.id, wanted.port).await? {
        return Ok(Made::Existing(existing));
    }
    // Who cannot pay the first minute gets none. It is counted when it is known to have begun.
    admission::reserve(app, &tx, &sandbox, Metric::PreviewMinutes, 1, now).await?;
    // The lock on the organization's row makes count and insert one step for all its previews.
    let locked = store::organizations::lock(&tx, sandbox.org_id).await?;
    locked.organization.standing.check()?;
    admission::check(locked.stop.as_ref(), now)?;
    // Somebody may have made it while this waited for the lock.
    if let Some(existing) = previews.find_active(&tx, sandbox.id, wanted.port).await? {
        return Ok(Made::Existing(existing));
    }
    let (of_org, of_sandbox) = previews.count_active(&tx, sandbox.org_id, Some(sandbox.id)).await?;
    let limits = &caller.limits;
    check_limit(
        of_sandbox,
        limits.max_active_previews_per_sandbox,
        "active previews of a sandbox",
    )?;
    check_limit(of_org, limits.max_active_previews, "active previews")?;
    let preview = Preview {
        id: PreviewId::generate(now),
        slug: Slug::from_random(rand::random()),
        org_id: sandbox.org_id,
        project_id: sandbox.project_id,
        sandbox_id: sandbox.id,
        port: wanted.port,
        auth_mode: wanted.auth_mode,
        created_at: store::truncate(now),
        expires_at: sandbox.expires_at,
        revoked_at: None,
        ended_at: None,
    };
    let token = match wanted.auth_mode {
        AuthMode::Authenticated => None,
        AuthMode::Token => Some(token::generate()),
    };
    let token_hash = token.as_ref().map(|(_, hash)| *hash);
    let new = NewPreview { preview: &preview, token_hash, counted: 0, count_at: now };
    previews.insert(&tx, &new).await?;
    let details = json!({
        "sandboxId": sandbox.id,
        "port": preview.port,
        "authMode": preview.auth_mode.as_str(),
        "sourceCommandId": wanted.source_command,
    });
    let act = Act::done("preview.create", preview.id, details);
    audit::write(&tx, preview.org_id, &Actor::of(caller), &[act], now).await?;
    tx.commit().await?;
    Ok(Made::New(preview, token.map(|(token, _)| token)))
}

fn check_limit(active: u64, limit: u32, what: &'static str) -> Result<()> {
    let limit = u64::from(limit);
    if active >= limit { Err(Error::QuotaExceeded { what, limit }) } else { Ok(()) }
}

async fn check_source(app: &App, caller: &Caller, sandbox: &Sandbox, id: CommandId) -> Result<()> {
    match store::commands(caller.reach()).get(app.db.read(), id).await {
        Ok(command) if command.sandbox_id == sandbox.id => Ok(()),
        Ok(_) | Err(store::Error::Missing(_)) => {
            let text = "sourceCommandId must be a command of the sandbox";
            Err(Refused::invalid("sourceCommandId", text).into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Lists a sandbox's previews, those that are over included, newest first.
///
/// # Errors
/// `not_found` for the sandbox.
pub async fn list(
    app: &Arc<App>,
    caller: &Caller,
    sandbox: SandboxId,
    page: PageRequest,
) -> Result<Page<Preview>> {
    let sandbox = store::sandboxes(caller.reach()).get(app.db.read(), sandbox).await?;
    Ok(store::previews(caller.reach()).list(app.db.read(), sandbox.id, page).await?)
}

/// Gets a preview, active or not.
///
/// # Errors
/// `not_found`.
pub async fn get(app: &Arc<App>, caller: &Caller, id: PreviewId) -> Result<Preview> {
    Ok(store::previews(caller.reach()).get(app.db.read(), id).await?)
}

/// Revokes a preview; one that is revoked stays as it is. From the answer on no server lets a request
/// through, and what is open is closed within a moment. The sandbox goes on.
///
/// # Errors
/// `not_found`.
pub async fn revoke(app: &Arc<App>, caller: &Caller, id: PreviewId) -> Result<Preview> {
    let (working, reach, actor) = (Arc::clone(app), caller.reach(), Actor::of(caller));
    // A client that goes away while this commits must not leave connections open.
    let work = async move {
        let now = working.clock.now();
        let tx = working.db.begin().await?;
        let (preview, revoked) = store::previews(reach).revoke(&tx, id, now).await?;
        if revoked {
            store::notify(&tx, announcements::PREVIEWS).await?;
            let details = json!({ "sandboxId": preview.sandbox_id, "port": preview.port });
            let act = Act::done("preview.revoke", preview.id, details);
            audit::write(&tx, preview.org_id, &actor, &[act], now).await?;
        }
        tx.commit().await?;
        working.bus.publish(Nudge::Previews);
        Ok(preview)
    };
    app.detached(work).await
}
