//! API keys: their organization lists, gets and revokes them; making them is for operators, because
//! keys never make keys.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::{
    id::{ApiKeyId, OrganizationId, ProjectId, UserId},
    key::{ApiKey, KeySecret},
    scope::{Scope, ScopeSet},
};
use serde_json::json;
use store::{Page, PageRequest, Reach, Tx};

use super::{
    App, Caller,
    audit::{self, Act, Actor},
    error::Result,
    events::{self, Event},
};

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
pub async fn list(app: &Arc<App>, caller: &Caller, page: PageRequest) -> Result<Page<ApiKey>> {
    Ok(store::api_keys(caller.reach()).list(app.db.read(), page).await?)
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
