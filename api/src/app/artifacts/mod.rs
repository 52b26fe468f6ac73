//! Artifacts: create, list, get, download, delete. How bytes and row come to be there together is
//! `write`'s; what commands leave is `collect`'s, and what is left over `sweep`'s.

pub mod collect;
mod pace;
pub mod sweep;
pub mod turns;
pub mod write;

use std::{io, sync::Arc};

use bytes::Bytes;
use domain::{
    artifact::{Artifact, Name},
    id::{ArtifactId, SandboxId},
    path::in_workspace,
};
use futures_util::Stream;
use serde_json::json;
use store::{Page, PageRequest, Reach};
use tokio::time::Instant;

use super::{
    App, Caller, DOWNLOAD_URL_LIFETIME, DownloadUrl,
    audit::{self, Act, Actor},
    downloads,
    error::{Error, Result},
    files,
    idempotency::{self, Answer, Idempotent, Known},
};
use crate::{blobs::Written, signing::Capability};
use write::{Asked, Source};

/// A file to copy.
#[derive(Debug, Clone)]
pub struct NewArtifact {
    /// Its path, absolute or relative to the workspace.
    pub path: String,
    /// What the artifact is to be called; by default the base name.
    pub name: Option<String>,
}

/// Whoever downloads an artifact: a key, or a link made with one.
#[derive(Debug, Clone, Copy)]
pub enum ArtifactAccess<'a> {
    /// A key.
    Caller(&'a Caller),
    /// The token of a link.
    Token(&'a str),
}

/// Copies a file of a live sandbox.
///
/// # Errors
/// `not_found`, `sandbox_destroyed`, those of the path, `file_too_large`, and those of credit and of
/// idempotency.
pub async fn create(
    app: &Arc<App>,
    caller: &Caller,
    idempotent: Option<Idempotent>,
    sandbox_id: SandboxId,
    new: NewArtifact,
    print: impl Fn(&Artifact) -> Answer + Send + Sync + 'static,
) -> Result<Answer> {
    if let Some(answer) = earlier(app, caller, idempotent.as_ref()).await? {
        return Ok(answer);
    }
    let path = in_workspace(&new.path, "path")?;
    let name = new.name.map(|name| Name::parse(name, "name")).transpose()?;
    let limit = u64::from(app.copies.limit());
    let what = "artifacts that are being made at a time";
    let place = app.copies.take(caller.org_id()).ok_or(Error::QuotaExceeded { what, limit })?;
    let sandbox = files::in_use(app, caller.reach(), sandbox_id).await?;
    let source = Source {
        actor: Actor::of(caller),
        retention_days: app.config.artifact_retention_days(&caller.organization, app.clock.now()),
        name: name.unwrap_or_else(|| Name::of_path(&path)),
        path,
        sandbox,
        collected: None,
        turn_by: Instant::now() + write::TURN,
    };
    let (work, asker) = (Arc::clone(app), caller.clone());
    // To its end even if the client goes away: the idempotency key finds what was made.
    let made = app.detached(async move {
        let _place = place;
        let asked = Asked { caller: &asker, request: idempotent.as_ref(), print: &print };
        match write::write(&work, &source, Some(&asked)).await? {
            Some(artifact) => Ok(print(&artifact)),
            // The same request is ahead.
            None => earlier(&work, &asker, asked.request).await?.ok_or(Error::InProgress),
        }
    });
    made.await
}

/// What an earlier request with the same key was answered.
async fn earlier(
    app: &App,
    caller: &Caller,
    request: Option<&Idempotent>,
) -> Result<Option<Answer>> {
    match idempotency::look_up(app, caller, request).await? {
        Known::Fresh => Ok(None),
        Known::Answered(answer) => Ok(Some(answer)),
        Known::Running(..) => Err(Error::InProgress),
    }
}

/// Lists a sandbox's artifacts, newest first; also after its end.
///
/// # Errors
/// `not_found` for the sandbox.
pub async fn list(
    app: &Arc<App>,
    caller: &Caller,
    sandbox_id: SandboxId,
    page: PageRequest,
) -> Result<Page<Artifact>> {
    store::sandboxes(caller.reach()).get(app.db.read(), sandbox_id).await?;
    let artifacts = store::artifacts(caller.reach());
    Ok(artifacts.list(app.db.read(), sandbox_id, page, app.clock.now()).await?)
}

/// Gets an artifact that is still there.
///
/// # Errors
/// `not_found`.
pub async fn get(app: &Arc<App>, caller: &Caller, id: ArtifactId) -> Result<Artifact> {
    Ok(store::artifacts(caller.reach()).get(app.db.read(), id, app.clock.now()).await?)
}

/// Deletes an artifact. From then on nobody reads it; the bytes go as soon as the store lets go.
///
/// # Errors
/// `not_found`, also when it was deleted before.
pub async fn delete(app: &Arc<App>, caller: &Caller, id: ArtifactId) -> Result<Artifact> {
    let (work, caller) = (Arc::clone(app), caller.clone());
    let deleting = async move {
        let now = work.clock.now();
        let tx = work.db.begin().await?;
        let tombstone = store::artifacts(caller.reach()).delete(&tx, id, now).await?;
        let details =
            json!({ "sandboxId": tombstone.sandbox_id, "sizeBytes": tombstone.size_bytes });
        let act = Act::done("artifact.delete", id, details);
        audit::write(&tx, tombstone.org_id, &Actor::of(&caller), &[act], now).await?;
        tx.commit().await?;
        if let Err(error) = sweep::remove(&work, &tombstone).await {
            tracing::warn!(artifact = %id, %error, "the bytes of a deleted artifact go later");
        }
        Ok(tombstone)
    };
    app.detached(deleting).await
}

fn download_path(id: ArtifactId) -> String {
    format!("/v1/artifacts/{id}/download")
}

/// Makes a link to an artifact that works with a key, and without one until it expires.
///
/// # Errors
/// `not_found`.
pub async fn download_url(
    app: &Arc<App>,
    caller: &Caller,
    id: ArtifactId,
    base: &str,
) -> Result<DownloadUrl> {
    let artifact = get(app, caller, id).await?;
    let now = app.clock.now();
    let expires_at = (now + DOWNLOAD_URL_LIFETIME).min(artifact.retention_expires_at);
    let path = download_path(id);
    let capability = Capability { method: "GET", path: &path };
    let token = app.signer.sign(&app.db, caller.org_id(), capability, now, expires_at).await?;
    Ok(DownloadUrl { url: format!("{base}{path}?token={token}"), expires_at })
}

/// Streams an artifact.
///
/// # Errors
/// `not_found`; `unauthorized` for a bad token; `quota_exceeded` for one download too many;
/// `download_export_failed` when the store does not have what was written.
pub async fn download(
    app: &Arc<App>,
    access: ArtifactAccess<'_>,
    id: ArtifactId,
) -> Result<(Artifact, impl Stream<Item = io::Result<Bytes>> + Send + 'static + use<>)> {
    let now = app.clock.now();
    let (org, reach) = match access {
        ArtifactAccess::Caller(caller) => (caller.org_id(), caller.reach()),
        ArtifactAccess::Token(token) => {
            let path = download_path(id);
            let capability = Capability { method: "GET", path: &path };
            let org = app.signer.verify(&app.db, token, capability, now).await?;
            (org, Reach::Tenant { org, projects: None })
        }
    };
    let place = downloads::place(&app.artifact_downloads, org)?;
    let artifact = store::artifacts(reach).get(app.db.read(), id, now).await?;
    let written = Written { size_bytes: artifact.size_bytes, sha256: artifact.sha256 };
    let bytes = app.blobs.read(&artifact.object_key(), written).await;
    Ok((artifact, downloads::held(place, bytes.map_err(Error::NotReadable)?)))
}
