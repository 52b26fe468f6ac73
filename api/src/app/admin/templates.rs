//! Templates' versions: publish, register with an image, deprecate. They are the installation's; the
//! images themselves are files of the hosts.

use std::{future::Future, sync::Arc};

use chrono::{DateTime, Utc};
use domain::{
    Code, Refused,
    id::{TemplateId, TemplateVersionId},
    image::ImageDigest,
    organization::check_reason,
    sandbox::TemplateVersion,
};
use serde_json::json;
use store::{
    Page, PageRequest, Tx,
    audit::Chain,
    templates::{Published, Template},
};

use super::{AdminCaller, Begun, Change, Outcome};
use crate::app::{
    App,
    audit::{self, Act, Actor},
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
    check_version(&version)?;
    let change = match Change::begin(app, caller, idempotent).await? {
        Begun::Fresh(change) => change,
        Begun::Answered(answer) => return Ok(answer),
    };
    let found = store::templates::get(&change.tx, template).await?;
    let id = TemplateVersionId::generate(change.now);
    let version = TemplateVersion { template_id: template, slug: found.slug, id, version };
    insert(&change.tx, &version, None, change.now).await?;
    let details = json!({ "template": version.slug, "version": version.version });
    let act = Act::done("template_version.publish", id, details);
    commit(change, id, vec![act], print).await
}

/// What [`register`] found or made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// The version.
    pub version: Published,
    /// Whether there was none of this image before.
    pub is_new: bool,
}

/// Refuses what no template or version is called, before any work is done for it.
///
/// # Errors
/// `invalid_request` for the version, `not_found` for the template.
pub async fn check(app: &App, slug: &str, version: Option<&str>) -> Result<Template> {
    version.map_or(Ok(()), check_version)?;
    let found = store::templates::find(app.db.read(), slug).await?;
    Ok(found.ok_or(store::Error::Missing("template"))?)
}

/// Publishes the version of a template that is made of an image, unless there is one of this image: then
/// it is that one, whatever name is asked for. `place` puts the image where the host's machines are
/// made from it, and comes first: new sandboxes are made from the version once it is published.
///
/// # Errors
/// As [`check`], `conflict` for a version that is another image's, and what `place` fails with.
pub async fn register<P: Future<Output = anyhow::Result<()>>>(
    app: &App,
    actor: &Actor,
    (slug, version, image): (&str, Option<String>, &ImageDigest),
    place: impl FnOnce(TemplateVersionId) -> P,
) -> anyhow::Result<Registered> {
    let template = check(app, slug, version.as_deref()).await?;
    let now = app.clock.now();
    let tx = app.db.begin().await?;
    // Of two hosts that import the same image at once, one publishes it.
    store::templates::hold(&tx, template.id).await?;
    if let Some(version) = store::templates::find_by_image(&tx, template.id, image).await? {
        drop(tx);
        place(version.version.id).await?;
        return Ok(Registered { version, is_new: false });
    }
    let id = TemplateVersionId::generate(now);
    let name = version.unwrap_or_else(|| format!("{}-{}", now.format("%Y-%m-%d"), image.short()));
    let version =
        TemplateVersion { template_id: template.id, slug: template.slug, id, version: name };
    insert(&tx, &version, Some(image), now).await?;
    let details = json!({
        "template": version.slug, "version": version.version, "imageDigest": image.as_str(),
    });
    let act = Act::done("template_version.publish", id, details);
    let version = read(&tx, id).await?;
    place(id).await?;
    audit::write(&tx, Chain::Installation, actor, &[act], now).await?;
    tx.commit().await?;
    Ok(Registered { version, is_new: true })
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

fn check_version(version: &str) -> Result<()> {
    let letter = |b: u8| b.is_ascii_alphanumeric() || b"-_.+".contains(&b);
    if version.is_empty() || version.len() > MAX_VERSION || !version.bytes().all(letter) {
        let text =
            format!("version must be 1 to {MAX_VERSION} letters, digits, '-', '_', '.' or '+'");
        return Err(Refused::invalid("version", text).into());
    }
    Ok(())
}

async fn insert(
    tx: &Tx,
    version: &TemplateVersion,
    image: Option<&ImageDigest>,
    now: DateTime<Utc>,
) -> Result<()> {
    match store::templates::insert_version(tx, version, image, now).await {
        Err(store::Error::Taken(_)) => {
            let text = "this version of the template is published already";
            Err(Refused::field(Code::Conflict, "version", text).into())
        }
        done => Ok(done?),
    }
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
