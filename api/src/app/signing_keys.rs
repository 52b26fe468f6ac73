//! The keys that links to logs, files and artifacts and the cookies of previews are signed with: looked
//! at, and rotated without breaking what was given out. Secrets are told to nobody.

use std::sync::Arc;

use chrono::TimeDelta;
use domain::id::SigningKeyId;
use serde_json::json;
use store::{audit::Chain, signing_keys::SigningKey};

use super::{
    App, DOWNLOAD_URL_LIFETIME, PREVIEW_COOKIE_LIFETIME,
    audit::{self, Act, Actor},
    error::Result,
};
use crate::signing;

/// What a retired key is kept for beyond all that it may have signed last: other servers may
/// still have signed with it for a moment, by clocks that differ.
const MARGIN: TimeDelta = TimeDelta::hours(1);

/// What becomes of the keys before the new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Old {
    /// They open what they have signed until it ends by itself.
    Retire,
    /// They open nothing more: somebody knows them.
    Drop,
}

/// Every key, newest first.
///
/// # Errors
/// When the database does not answer.
pub async fn list(app: &App) -> Result<Vec<SigningKey>> {
    Ok(store::signing_keys::list(app.db.read()).await?)
}

/// Makes a new key that signs from now on.
///
/// # Errors
/// When the database does not answer.
pub async fn rotate(app: &Arc<App>, actor: &Actor, old: Old) -> Result<SigningKeyId> {
    let now = app.clock.now();
    let key = signing::new_key(now);
    let tx = app.db.begin().await?;
    store::signing_keys::insert(&tx, &key).await?;
    let n_old = match old {
        Old::Retire => store::signing_keys::retire(&tx, key.id, now).await?,
        Old::Drop => store::signing_keys::remove(&tx, key.id).await?,
    };
    let details = json!({ "dropped": old == Old::Drop, "nOld": n_old });
    let act = Act::done("signing_key.rotate", key.id, details);
    audit::write(&tx, Chain::Installation, actor, &[act], now).await?;
    tx.commit().await?;
    Ok(key.id)
}

/// Removes keys of which every link and every cookie has ended.
///
/// # Errors
/// When the database does not answer.
pub async fn purge(app: &App) -> Result<()> {
    let longest = DOWNLOAD_URL_LIFETIME.max(PREVIEW_COOKIE_LIFETIME);
    let over = app.clock.now() - longest - MARGIN;
    let n = store::signing_keys::purge(app.db.write(), over).await?;
    if n > 0 {
        tracing::info!(n, "removed signing keys of which all that they signed has ended");
    }
    Ok(())
}
