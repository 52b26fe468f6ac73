//! Tenants' keys as operators look after them: list, get, create, rotate, revoke.

use std::sync::Arc;

use chrono::TimeDelta;
use domain::{
    Code, Refused,
    id::{ApiKeyId, OrganizationId, ProjectId, UserId},
    key::{ApiKey, KeyKind, KeySecret, MAX_OVERLAP_MS},
    organization::check_name,
    scope::ScopeSet,
};
use serde_json::json;
use store::{Page, PageRequest, Reach, Tx};

use super::{AdminCaller, Begun, Change, Outcome};
use crate::{
    app::{
        App,
        api_keys::{self, NewKey, Told},
        audit::Act,
        error::Result,
        events,
        idempotency::{Answer, Idempotent},
    },
    auth,
};

/// An API key to be made.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    /// Whose it is.
    pub org: OrganizationId,
    /// What to call it.
    pub name: String,
    /// What it may do.
    pub scopes: ScopeSet,
    /// The projects that it is restricted to; `None` = all of the organization's.
    pub project_ids: Option<Vec<ProjectId>>,
    /// The member that it is made for; the one who is there for longest if none is named.
    pub user_id: Option<UserId>,
}

const fn within(org: OrganizationId) -> Reach {
    Reach::Tenant { org, projects: None }
}

/// Lists an organization's keys, revoked ones included, newest first.
///
/// # Errors
/// `not_found` for the organization.
pub async fn list(app: &App, org: OrganizationId, page: PageRequest) -> Result<Page<ApiKey>> {
    store::organizations::get(app.db.read(), org).await?;
    Ok(store::api_keys(within(org)).list(app.db.read(), page).await?)
}

/// Gets one.
///
/// # Errors
/// `not_found`.
pub async fn get(app: &App, org: OrganizationId, id: ApiKeyId) -> Result<ApiKey> {
    Ok(store::api_keys(within(org)).get(app.db.read(), id).await?)
}

/// Makes a key. Its secret is printed once, and for no replay.
///
/// # Errors
/// `invalid_request` naming the field, `not_found`, `conflict` for an organization that is closed, and
/// those of idempotency.
pub async fn create(
    app: &Arc<App>,
    caller: &AdminCaller,
    idempotent: Option<Idempotent>,
    new: NewApiKey,
    print: impl Fn(&ApiKey, Option<&KeySecret>) -> Answer + Send,
) -> Result<Answer> {
    let name = check_name(&new.name, "name")?;
    api_keys::check_scopes(&new.scopes)?;
    let (org, secret) = (new.org, auth::generate_key(KeyKind::Api));
    let hash = app.auth.hash(&secret).await?;
    let change = match Change::begin(app, caller, idempotent).await? {
        Begun::Fresh(change) => change,
        Begun::Answered(answer) => return Ok(answer),
    };
    store::organizations::lock(&change.tx, org).await?.organization.standing.check_open()?;
    let created_by = member(&change.tx, org, new.user_id).await?;
    let project_ids =
        api_keys::check_projects(&change.tx, org, new.project_ids, "projectIds").await?;
    let new = NewKey { org, name, scopes: new.scopes, project_ids, created_by };
    let Told { key, event, act } = new.insert(&change.tx, (&secret, &hash), change.now).await?;
    let outcome = Outcome {
        answer: print(&key, Some(&secret)),
        replay: Some(print(&key, None)),
        chain: org.into(),
        events: vec![event],
        acts: vec![act],
    };
    change.commit(outcome).await
}

async fn member(tx: &Tx, org: OrganizationId, wanted: Option<UserId>) -> Result<UserId> {
    let Some(id) = wanted else {
        let first = store::users::find_first(tx, org).await?;
        let text = "the organization has no member that a key could be for; add one";
        return Ok(first.ok_or_else(|| Refused::invalid("userId", text))?.id);
    };
    match store::users::get(tx, org, id).await {
        Ok(user) if user.removed_at.is_none() => Ok(id),
        Ok(_) | Err(store::Error::Missing(_)) => {
            Err(Refused::invalid("userId", "userId must be a member of the organization").into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Makes a key that takes another one's place. Both work until the overlap is over; from that instant
/// on the old one opens nothing, which each server sees from its clock.
///
/// # Errors
/// `invalid_request` for the overlap, `not_found`, `conflict` for a key that is revoked, over or rotated
/// already, and those of idempotency.
pub async fn rotate(
    app: &Arc<App>,
    caller: &AdminCaller,
    idempotent: Option<Idempotent>,
    (org, id, overlap_ms): (OrganizationId, ApiKeyId, u64),
    print: impl Fn(&ApiKey, Option<&KeySecret>) -> Answer + Send,
) -> Result<Answer> {
    let overlap = i64::try_from(overlap_ms).ok().filter(|_| overlap_ms <= MAX_OVERLAP_MS);
    let overlap = overlap.ok_or_else(|| {
        Refused::invalid("overlapMs", format!("overlapMs must be at most {MAX_OVERLAP_MS}"))
    })?;
    let secret = auth::generate_key(KeyKind::Api);
    let hash = app.auth.hash(&secret).await?;
    let change = match Change::begin(app, caller, idempotent).await? {
        Begun::Fresh(change) => change,
        Begun::Answered(answer) => return Ok(answer),
    };
    let (tx, now) = (&change.tx, change.now);
    store::organizations::get(tx, org).await?.standing.check_open()?;
    let keys = store::api_keys(within(org));
    let old = keys.lock(tx, id).await?;
    if old.revoked_at.is_some() || old.expires_at.is_some() {
        let text = "the key is revoked or was rotated already";
        return Err(Refused::new(Code::Conflict, text).into());
    }
    let new = NewKey {
        org,
        name: old.name.clone(),
        scopes: old.scopes.clone(),
        project_ids: old.project_ids.clone(),
        created_by: old.created_by,
    };
    let Told { key, event, act } = new.insert(tx, (&secret, &hash), now).await?;
    let expires_at = now + TimeDelta::milliseconds(overlap);
    keys.replace(tx, id, key.id, expires_at).await?;
    let details = json!({ "replacedBy": key.id, "expiresAt": expires_at });
    let outcome = Outcome {
        answer: print(&key, Some(&secret)),
        replay: Some(print(&key, None)),
        chain: org.into(),
        events: vec![event, events::key_rotated(&old, key.id, now, expires_at)],
        acts: vec![act, Act::done("key.rotate", id, details)],
    };
    change.commit(outcome).await
}

/// Revokes a key; one that is revoked stays as it is.
///
/// # Errors
/// `not_found`, and those of idempotency.
pub async fn revoke(
    app: &Arc<App>,
    caller: &AdminCaller,
    idempotent: Option<Idempotent>,
    (org, id): (OrganizationId, ApiKeyId),
    print: impl Fn(&ApiKey) -> Answer + Send,
) -> Result<Answer> {
    let change = match Change::begin(app, caller, idempotent).await? {
        Begun::Fresh(change) => change,
        Begun::Answered(answer) => return Ok(answer),
    };
    let (key, told) = api_keys::revoke_in(&change.tx, within(org), id, change.now).await?;
    let (event, act) = told.map(|told| (told.event, told.act)).unzip();
    let outcome = Outcome {
        answer: print(&key),
        replay: None,
        chain: org.into(),
        events: event.into_iter().collect(),
        acts: act.into_iter().collect(),
    };
    change.commit(outcome).await
}
