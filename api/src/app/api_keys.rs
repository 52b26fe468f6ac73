//! API keys: their organization lists, gets and revokes them; making them is for operators and for
//! people, because keys never make keys.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::{
    Refused,
    id::{ApiKeyId, OrganizationId, ProjectId, UserId},
    key::{ApiKey, KeyKind, KeySecret},
    organization::check_name,
    scope::{Scope, ScopeSet},
};
use serde_json::json;
use store::{Page, PageRequest, Reach, Tx};

use super::{
    App, Caller,
    audit::{self, Act, Actor},
    error::Result,
    events::{self, Event},
    human_sessions::HumanSession,
};
use crate::auth;

/// Projects that a key can be restricted to when it is made.
const MAX_PROJECTS: usize = 100;

/// What a person wants a key to be.
#[derive(Debug)]
pub struct Wanted {
    /// What to call it.
    pub name: String,
    /// What it may do.
    pub scopes: ScopeSet,
    /// The projects that it is restricted to; `None` = all of the organization's.
    pub project_ids: Option<Vec<ProjectId>>,
}

/// Makes a key for a person. The key itself is told here and never again.
///
/// # Errors
/// `invalid_request` for the name, no scope, or projects that are not the organization's; those of
/// [`HumanSession::open`].
pub async fn create(
    app: &Arc<App>,
    session: &HumanSession,
    wanted: Wanted,
) -> Result<(ApiKey, KeySecret)> {
    let name = check_name(&wanted.name, "name")?;
    check_scopes(&wanted.scopes)?;
    let (org, secret) = (session.organization.id, auth::generate_key(KeyKind::Api));
    let hash = app.auth.hash(&secret).await?;
    let now = app.clock.now();
    let tx = app.db.begin().await?;
    session.confirm(&tx).await?;
    let project_ids = check_projects(&tx, org, wanted.project_ids, "projectIds").await?;
    let (scopes, created_by) = (wanted.scopes, session.user_id);
    let new = NewKey { org, name, scopes, project_ids, created_by };
    let Told { key, event, act } = new.insert(&tx, (&secret, &hash), now).await?;
    events::emit(&tx, &[event], now).await?;
    audit::write(&tx, org, &session.actor(), &[act], now).await?;
    tx.commit().await?;
    Ok((key, secret))
}

/// Refuses a key that may do nothing.
pub(super) fn check_scopes(scopes: &ScopeSet) -> Result<()> {
    if scopes.is_empty() {
        return Err(Refused::invalid("scopes", "scopes must name at least one scope").into());
    }
    Ok(())
}

/// The projects that a new key is restricted to, each once. `field` is where they came from.
pub(super) async fn check_projects(
    tx: &Tx,
    org: OrganizationId,
    wanted: Option<Vec<ProjectId>>,
    field: &str,
) -> Result<Option<Vec<ProjectId>>> {
    let Some(mut ids) = wanted else { return Ok(None) };
    ids.sort_unstable();
    ids.dedup();
    // Neither all projects nor none is what somebody can have meant by an empty list.
    if ids.is_empty() || ids.len() > MAX_PROJECTS {
        let text = format!("{field} must be 1 to {MAX_PROJECTS} projects, or absent for all");
        return Err(Refused::invalid(field, text).into());
    }
    let projects = store::projects(Reach::Tenant { org, projects: None });
    for id in &ids {
        match projects.get(tx, *id).await {
            Ok(_) => {}
            Err(store::Error::Missing(_)) => {
                let text = format!("{field} must be projects of the organization");
                return Err(Refused::invalid(field, text).into());
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Some(ids))
}

/// A key to be made. Its parts were checked.
#[derive(Debug, Clone)]
pub(super) struct NewKey {
    pub org: OrganizationId,
    pub name: String,
    pub scopes: ScopeSet,
    pub project_ids: Option<Vec<ProjectId>>,
    pub created_by: UserId,
}

/// A key that was made or revoked, and what is told of it.
#[derive(Debug)]
pub(super) struct Told {
    pub key: ApiKey,
    pub event: Event,
    pub act: Act,
}

impl NewKey {
    /// Writes the key of this secret.
    pub async fn insert(
        self,
        tx: &Tx,
        (secret, hash): (&KeySecret, &str),
        now: DateTime<Utc>,
    ) -> Result<Told> {
        let key = ApiKey {
            id: ApiKeyId::generate(now),
            org_id: self.org,
            name: self.name,
            lookup: secret.lookup().to_owned(),
            last_four: secret.last_four().to_owned(),
            scopes: self.scopes,
            project_ids: self.project_ids,
            created_by: self.created_by,
            created_at: now,
            revoked_at: None,
            expires_at: None,
            replaced_by: None,
            last_used_at: None,
        };
        let reach = Reach::Tenant { org: self.org, projects: None };
        store::api_keys(reach).insert(tx, &key, hash).await?;
        let scopes: Vec<_> = key.scopes.iter().map(Scope::as_str).collect();
        let details = json!({ "prefix": key.prefix(), "scopes": scopes });
        let act = Act::done("key.create", key.id, details);
        Ok(Told { event: events::key_created(&key), act, key })
    }
}

/// Revokes a key within reach. One that was revoked before stays as it is, and was told of then.
pub(super) async fn revoke_in(
    tx: &Tx,
    reach: Reach,
    id: ApiKeyId,
    now: DateTime<Utc>,
) -> Result<(ApiKey, Option<Told>)> {
    let key = store::api_keys(reach).revoke(tx, id, now).await?;
    if key.revoked_at != Some(store::truncate(now)) {
        return Ok((key, None));
    }
    let act = Act::done("key.revoke", key.id, json!({ "prefix": key.prefix() }));
    let told = Told { event: events::key_revoked(&key, now), act, key: key.clone() };
    Ok((key, Some(told)))
}

/// Lists the organization's keys, revoked ones included, newest first.
///
/// # Errors
/// When the database does not answer.
pub async fn list(app: &Arc<App>, reach: Reach, page: PageRequest) -> Result<Page<ApiKey>> {
    Ok(store::api_keys(reach).list(app.db.read(), page).await?)
}

/// Gets one key.
///
/// # Errors
/// `not_found`.
pub async fn get(app: &Arc<App>, caller: &Caller, id: ApiKeyId) -> Result<ApiKey> {
    Ok(store::api_keys(caller.reach()).get(app.db.read(), id).await?)
}

/// Revokes a key, itself included. A revoked key stays as it is. From the answer on, no server
/// accepts it.
///
/// # Errors
/// `not_found`.
pub async fn revoke(app: &Arc<App>, caller: &Caller, id: ApiKeyId) -> Result<ApiKey> {
    let (working, reach, actor) = (Arc::clone(app), caller.reach(), Actor::of(caller));
    // A client that goes away while this commits must not leave the key in this server's memory.
    let work = async move {
        let tx = working.db.begin().await?;
        let now = working.clock.now();
        let (key, told) = revoke_in(&tx, reach, id, now).await?;
        store::notify(&tx, crate::work::announcements::KEYS).await?;
        if let Some(told) = told {
            events::emit(&tx, &[told.event], now).await?;
            audit::write(&tx, key.org_id, &actor, &[told.act], now).await?;
        }
        tx.commit().await?;
        working.auth.forget_rows();
        Ok(key)
    };
    app.detached(work).await
}
