//! Templates' versions: publish and deprecate. They are the installation's; what a version is made of is
//! the hosts' to know by its template's name and its id.

use std::sync::Arc;

use domain::{
    Code, Refused,
    id::{TemplateId, TemplateVersionId},
    organization::check_reason,
    sandbox::TemplateVersion,
};
use serde_json::json;
use store::{Page, PageRequest, Tx, audit::Chain, templates::Published};

use super::{AdminCaller, Begun, Change, Outcome};
use crate::app::{
    App,
    audit::Act,
    error::Result,
    idempotency::{Answer, Idempotent},
};

const MAX_VERSION: usize = 64;

/// Lists a template's versions, newest first.
///
/// # Errors
/// `not_found`.
pub async fn versions(app: &App, id: TemplateId, page: PageRequest) -> Result<Page<Published>> {
    store::templates::get(app.db.read(), id).await?;
    Ok(store::templates::versions(app.db.read(), id, page).await?)
}

/// Gets a version, deprecated or not.
///
/// # Errors
/// `not_found`.
pub async fn version(app: &App, id: TemplateVersionId) -> Result<Published> {
    let found = store::templates::version(app.db.read(), id).await?;
    Ok(found.ok_or(store::Error::Missing("template version"))?)
}

/// Publishes a version, which new sandboxes that name none are made from, from now on.
///
/// # Errors
/// `invalid_request` for the version, `not_found` for the template, `conflict` for a version that is
/// published already, and those of idempotency.
pub async fn publish(
    app: &Arc<App>,
    caller: &AdminCaller,
    idempotent: Option<Idempotent>,
    (template, version): (TemplateId, String),
    print: impl Fn(&Published) -> Answer + Send,
) -> Result<Answer> {
    let letter = |b: u8| b.is_ascii_alphanumeric() || b"-_.+".contains(&b);
    if version.is_empty() || version.len() > MAX_VERSION || !version.bytes().all(letter) {
        let text =
            format!("version must be 1 to {MAX_VERSION} letters, digits, '-', '_', '.' or '+'");
        return Err(Refused::invalid("version", text).into());
    }
    let change = match Change::begin(app, caller, idempotent).await? {
        Begun::Fresh(change) => change,
        Begun::Answered(answer) => return Ok(answer),
    };
    let found = store::templates::get(&change.tx, template).await?;
    let id = TemplateVersionId::generate(change.now);
    let version = TemplateVersion { template_id: template, slug: found.slug, id, version };
    match store::templates::insert_version(&change.tx, &version, change.now).await {
        Ok(()) => {}
        Err(store::Error::Taken(_)) => {
            let text = "this version of the template is published already";
            return Err(Refused::field(Code::Conflict, "version", text).into());
        }
        Err(error) => return Err(error.into()),
    }
    let details = json!({ "template": version.slug, "version": version.version });
    let act = Act::done("template_version.publish", id, details);
    commit(change, id, vec![act], print).await
}

/// Deprecates a version: no new sandbox is made from it, neither by default nor by its id. Those that
/// run go on. One that is deprecated already stays as it is.
///
/// # Errors
/// `invalid_request` for the reason, `not_found`, and those of idempotency.
pub async fn deprecate(
    app: &Arc<App>,
    caller: &AdminCaller,
    idempotent: Option<Idempotent>,
    (id, reason): (TemplateVersionId, &str),
    print: impl Fn(&Published) -> Answer + Send,
) -> Result<Answer> {
    let reason = check_reason(reason)?;
    let change = match Change::begin(app, caller, idempotent).await? {
        Begun::Fresh(change) => change,
        Begun::Answered(answer) => return Ok(answer),
    };
    let is_new = store::templates::deprecate(&change.tx, id, change.now, &reason).await?;
    let act = Act::done("template_version.deprecate", id, json!({ "reason": reason }));
    commit(change, id, is_new.then_some(act).into_iter().collect(), print).await
}

async fn commit(
    change: Box<Change>,
    id: TemplateVersionId,
    acts: Vec<Act>,
    print: impl Fn(&Published) -> Answer + Send,
) -> Result<Answer> {
    let found = read(&change.tx, id).await?;
    let (answer, chain) = (print(&found), Chain::Installation);
    change.commit(Outcome { answer, replay: None, chain, events: Vec::new(), acts }).await
}

async fn read(tx: &Tx, id: TemplateVersionId) -> Result<Published> {
    let found = store::templates::version(tx, id).await?;
    Ok(found.ok_or(store::Error::Missing("template version"))?)
}
