//! API keys as their organization sees them: list, get, revoke. Keys never make keys.

use std::sync::Arc;

use domain::{id::ApiKeyId, key::ApiKey};
use serde_json::json;
use store::{Page, PageRequest};

use super::{
    App, Caller,
    audit::{self, Act, Actor},
    error::Result,
    events,
};

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
        let key = store::api_keys(reach).revoke(&tx, id, now).await?;
        store::notify(&tx, crate::work::announcements::KEYS).await?;
        // One that was revoked before keeps its instant, and was told of then.
        if key.revoked_at == Some(store::truncate(now)) {
            events::emit(&tx, &[events::key_revoked(&key, now)], now).await?;
            let details = json!({ "prefix": key.prefix() });
            let act = Act::done("key.revoke", key.id, details);
            audit::write(&tx, key.org_id, &actor, &[act], now).await?;
        }
        tx.commit().await?;
        working.auth.forget_rows();
        Ok(key)
    };
    app.detached(work).await
}
