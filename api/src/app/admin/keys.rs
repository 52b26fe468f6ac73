//! Operators' own keys: list, get, create, revoke. They are in the installation's chain.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::{
    admin::{AdminKey, Role},
    id::AdminKeyId,
    key::{KeyKind, KeySecret},
    organization::check_name,
};
use serde_json::json;
use store::{Db, Page, PageRequest, Tx, audit::Chain};

use super::{AdminCaller, Begun, Change, Outcome};
use crate::{
    app::{
        App,
        audit::{self, Act, Actor},
        error::Result,
        idempotency::{Answer, Idempotent},
    },
    auth,
};

/// An admin key to be made.
#[derive(Debug, Clone)]
pub struct NewAdminKey {
    /// Its name.
    pub name: String,
    /// What it may do.
    pub role: Role,
}

/// Lists the keys, revoked ones included, newest first.
///
/// # Errors
/// When the database does not answer.
pub async fn list(app: &App, page: PageRequest) -> Result<Page<AdminKey>> {
    Ok(store::admin_keys::list(app.db.read(), page).await?)
}

/// Gets one key.
///
/// # Errors
/// `not_found`.
pub async fn get(app: &App, id: AdminKeyId) -> Result<AdminKey> {
    Ok(store::admin_keys::get(app.db.read(), id).await?)
}

/// Makes a key. Its secret is printed once, and for no replay.
///
/// # Errors
/// `invalid_request` for the name, and those of idempotency.
pub async fn create(
    app: &Arc<App>,
    caller: &AdminCaller,
    idempotent: Option<Idempotent>,
    new: NewAdminKey,
    print: impl Fn(&AdminKey, Option<&KeySecret>) -> Answer + Send,
) -> Result<Answer> {
    let name = check_name(&new.name, "name")?;
    let secret = auth::generate_key(KeyKind::Admin);
    let hash = app.auth.hash(&secret).await?;
    let change = match Change::begin(app, caller, idempotent).await? {
        Begun::Fresh(change) => change,
        Begun::Answered(answer) => return Ok(answer),
    };
    let key = make(name, new.role, Some(caller.key.id), &secret, change.now);
    let act = insert(&change.tx, &key, &hash).await?;
    let outcome = Outcome {
        answer: print(&key, Some(&secret)),
        replay: Some(print(&key, None)),
        chain: Chain::Installation,
        events: Vec::new(),
        acts: vec![act],
    };
    change.commit(outcome).await
}

/// Revokes a key, itself included; one that is revoked stays as it is.
///
/// # Errors
/// `not_found`, and those of idempotency.
pub async fn revoke(
    app: &Arc<App>,
    caller: &AdminCaller,
    idempotent: Option<Idempotent>,
    id: AdminKeyId,
    print: impl Fn(&AdminKey) -> Answer + Send,
) -> Result<Answer> {
    let change = match Change::begin(app, caller, idempotent).await? {
        Begun::Fresh(change) => change,
        Begun::Answered(answer) => return Ok(answer),
    };
    // One that was revoked before keeps its instant, and was written down then.
    let is_new = store::admin_keys::revoke(&change.tx, id, change.now).await? == 1;
    let key = store::admin_keys::get(&change.tx, id).await?;
    let act = Act::done("admin_key.revoke", key.id, json!({ "prefix": key.prefix() }));
    let outcome = Outcome {
        answer: print(&key),
        replay: None,
        chain: Chain::Installation,
        events: Vec::new(),
        acts: is_new.then_some(act).into_iter().collect(),
    };
    change.commit(outcome).await
}

fn make(
    name: String,
    role: Role,
    created_by: Option<AdminKeyId>,
    secret: &KeySecret,
    now: DateTime<Utc>,
) -> AdminKey {
    AdminKey {
        id: AdminKeyId::generate(now),
        name,
        lookup: secret.lookup().to_owned(),
        last_four: secret.last_four().to_owned(),
        role,
        created_by,
        created_at: now,
        revoked_at: None,
        last_used_at: None,
    }
}

/// Writes a key, and says what is to be written down.
async fn insert(tx: &Tx, key: &AdminKey, hash: &str) -> Result<Act> {
    store::admin_keys::insert(tx, key, hash).await?;
    let details = json!({ "prefix": key.prefix(), "role": key.role.as_str() });
    Ok(Act::done("admin_key.create", key.id, details))
}

/// Makes a key for whoever has access to the installation itself: the first one, or one more when the
/// owners have lost theirs.
///
/// # Errors
/// `invalid_request` for the name.
pub async fn bootstrap(db: &Db, name: &str, now: DateTime<Utc>) -> Result<(AdminKey, KeySecret)> {
    let name = check_name(name, "key-name")?;
    let secret = auth::generate_key(KeyKind::Admin);
    let hash = auth::hash_key(&secret);
    let key = make(name, Role::Owner, None, &secret, now);
    let tx = db.begin().await?;
    let act = insert(&tx, &key, &hash).await?;
    audit::write(&tx, Chain::Installation, &Actor::operator(), &[act], now).await?;
    tx.commit().await?;
    Ok((key, secret))
}
