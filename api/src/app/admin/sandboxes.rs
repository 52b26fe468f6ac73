//! Sandboxes of all organizations: list, get, and kill in the platform's name.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::{
    id::{OrganizationId, SandboxId},
    organization::check_reason,
    sandbox::{EndReason, Sandbox},
};
use serde_json::json;
use store::{
    Everyone, Page, PageRequest, Reach, Scope,
    sandboxes::{SandboxFilter, Sandboxes},
};

use super::AdminCaller;
use crate::app::{
    App,
    audit::Actor,
    error::Result,
    idempotency::{Answer, Idempotent},
    sandboxes::{self, Killing},
};

fn everyones() -> Sandboxes {
    store::sandboxes(Everyone::for_worker("admin"))
}

/// Lists sandboxes of one organization or of all, newest first.
///
/// # Errors
/// When the database does not answer.
pub async fn list(
    app: &App,
    org: Option<OrganizationId>,
    filter: &SandboxFilter,
    page: PageRequest,
) -> Result<Page<Sandbox>> {
    let reach: Reach = org.map_or(Everyone::for_worker("admin"), |org| Scope::org(org, None));
    Ok(store::sandboxes(reach).list(app.db.read(), filter, page).await?)
}

/// Gets a sandbox, ended or not, and why it failed if it did.
///
/// # Errors
/// `not_found`.
pub async fn get(app: &App, id: SandboxId) -> Result<(Sandbox, Option<String>)> {
    let sandbox = everyones().get(app.db.read(), id).await?;
    let failure = everyones().failure(app.db.read(), id).await?;
    Ok((sandbox, failure))
}

/// Kills a sandbox as `platform_cleanup`, and returns when nothing of it runs any more. Idempotent by
/// state, and written down in its organization's trail.
///
/// # Errors
/// `invalid_request` for the reason, `not_found`; `resource_allocation_failed` when the host did not
/// manage to remove it in time.
pub async fn kill(
    app: &Arc<App>,
    caller: &AdminCaller,
    idempotent: Option<Idempotent>,
    id: SandboxId,
    reason: &str,
    print: impl Fn(&Sandbox, DateTime<Utc>) -> Answer + Send,
) -> Result<Answer> {
    let reason = check_reason(reason)?;
    let killing = Killing {
        actor: Actor::of_admin(caller),
        reason: EndReason::PlatformCleanup,
        details: json!({ "endReason": EndReason::PlatformCleanup.as_str(), "reason": reason }),
    };
    sandboxes::kill_once(app, caller, idempotent, (everyones(), id), killing, print).await
}
