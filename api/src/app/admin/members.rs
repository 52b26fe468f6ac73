//! Members of organizations: add, list, remove. They have no credentials of their own here; keys name
//! who they were made for.

use std::sync::Arc;

use domain::{
    Code, Refused,
    id::{OrganizationId, UserId},
    organization::{MemberRole, User, check_email},
};
use serde_json::json;
use store::{Page, PageRequest, Reach};

use super::{AdminCaller, Begun, Change, Outcome};
use crate::app::{
    App, api_keys,
    audit::Act,
    error::Result,
    idempotency::{Answer, Idempotent},
};

/// Lists an organization's members, newest first.
///
/// # Errors
/// `not_found` for the organization.
pub async fn list(app: &App, org: OrganizationId, page: PageRequest) -> Result<Page<User>> {
    store::organizations::get(app.db.read(), org).await?;
    Ok(store::users::list(app.db.read(), org, page).await?)
}

/// Adds a member. One who was removed is back with what they did before.
///
/// # Errors
/// `invalid_request` for the address, `not_found`, `conflict` for one who is there or an organization
/// that is closed, and those of idempotency.
pub async fn add(
    app: &Arc<App>,
    caller: &AdminCaller,
    idempotent: Option<Idempotent>,
    (org, email, role): (OrganizationId, &str, MemberRole),
    print: impl Fn(&User) -> Answer + Send,
) -> Result<Answer> {
    let email = check_email(email)?;
    let change = match Change::begin(app, caller, idempotent).await? {
        Begun::Fresh(change) => change,
        Begun::Answered(answer) => return Ok(answer),
    };
    let tx = &change.tx;
    store::organizations::lock(tx, org).await?.organization.standing.check_open()?;
    let user = match store::users::find_by_email(tx, org, &email).await? {
        Some(found) if found.removed_at.is_none() => {
            return Err(Refused::field(Code::Conflict, "email", "they are a member already").into());
        }
        Some(removed) => {
            let user = User { role, removed_at: None, ..removed };
            store::users::update(tx, &user).await?;
            user
        }
        None => {
            let (id, now) = (UserId::generate(change.now), change.now);
            let user = User { id, org_id: org, email, role, created_at: now, removed_at: None };
            store::users::insert(tx, &user).await?;
            user
        }
    };
    // No address: who reads the trail need not know it.
    let act = Act::done("member.add", user.id, json!({ "role": role.as_str() }));
    let outcome = Outcome {
        answer: print(&user),
        replay: None,
        chain: org.into(),
        events: Vec::new(),
        acts: vec![act],
    };
    change.commit(outcome).await
}

/// Removes a member and revokes the keys that were made for them: whoever leaves knows those secrets.
/// What needs one of them is to be given another key before. A removed member stays removed.
///
/// # Errors
/// `not_found`, and those of idempotency.
pub async fn remove(
    app: &Arc<App>,
    caller: &AdminCaller,
    idempotent: Option<Idempotent>,
    (org, id): (OrganizationId, UserId),
    print: impl Fn(&User) -> Answer + Send,
) -> Result<Answer> {
    let change = match Change::begin(app, caller, idempotent).await? {
        Begun::Fresh(change) => change,
        Begun::Answered(answer) => return Ok(answer),
    };
    let (tx, now) = (&change.tx, change.now);
    store::organizations::lock(tx, org).await?;
    let found = store::users::get(tx, org, id).await?;
    let (mut events, mut acts) = (Vec::new(), Vec::new());
    let user = if found.removed_at.is_some() {
        found
    } else {
        let user = User { removed_at: Some(now), ..found };
        store::users::update(tx, &user).await?;
        let reach = Reach::Tenant { org, projects: None };
        let keys = store::api_keys(reach.clone()).lock_made_by(tx, id).await?;
        acts.push(Act::done("member.remove", id, json!({ "revokedKeys": keys.len() })));
        for key in keys {
            let (_, told) = api_keys::revoke_in(tx, reach.clone(), key.id, now).await?;
            events.extend(told.as_ref().map(|told| told.event.clone()));
            acts.extend(told.map(|told| told.act));
        }
        user
    };
    let answer = print(&user);
    change.commit(Outcome { answer, replay: None, chain: org.into(), events, acts }).await
}
