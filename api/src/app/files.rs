//! Files in a sandbox's workspace. The agent inside does the work and judges the paths; here is who
//! may, and that the sandbox is up.

use std::{io, sync::Arc};

use bytes::Bytes;
use chrono::TimeDelta;
use domain::{
    Code, Refused,
    id::SandboxId,
    path::{WORKSPACE, in_workspace},
    sandbox::Sandbox,
};
use drivers::guest::{Existing, FileStat, Guest, GuestError, Parents, Reason, WriteOptions};
use futures_util::Stream;
use store::{
    Everyone, Reach,
    usage::{Metric, UsageRecordId},
};

use super::{
    App, Caller, DOWNLOAD_URL_LIFETIME, DownloadUrl, downloads,
    error::{Error, Result},
    readiness,
};
use crate::signing::Capability;

/// Activity is written down at most this often per sandbox; idle times are minutes.
const ACTIVITY_STEP: TimeDelta = TimeDelta::seconds(10);

/// Whoever downloads a file: a key, or a link made with one.
#[derive(Debug, Clone, Copy)]
pub enum FileAccess<'a> {
    /// A key.
    Caller(&'a Caller),
    /// The token of a link.
    Token(&'a str),
}

/// Lists a directory, sorted by name.
///
/// # Errors
/// `not_found`, `sandbox_destroyed`, and those of the path.
pub async fn list(
    app: &Arc<App>,
    caller: &Caller,
    id: SandboxId,
    path: &str,
) -> Result<Vec<FileStat>> {
    let path = in_workspace(path, "path")?;
    let at = at(app, caller, id).await?;
    at.call("path", |guest| {
        let path = path.clone();
        async move { guest.list_directory(&path).await }
    })
    .await
}

/// Describes a file or directory.
///
/// # Errors
/// As [`list`].
pub async fn stat(app: &Arc<App>, caller: &Caller, id: SandboxId, path: &str) -> Result<FileStat> {
    let path = in_workspace(path, "path")?;
    let at = at(app, caller, id).await?;
    at.call("path", |guest| {
        let path = path.clone();
        async move { guest.stat(&path).await }
    })
    .await
}

/// Reads a small file whole.
///
/// # Errors
/// As [`list`], and `file_too_large`.
pub async fn read(
    app: &Arc<App>,
    caller: &Caller,
    id: SandboxId,
    path: &str,
) -> Result<(FileStat, Bytes)> {
    let path = in_workspace(path, "path")?;
    let max = caller.limits.max_direct_write_bytes;
    let at = at(app, caller, id).await?;
    at.call("path", |guest| {
        let path = path.clone();
        async move { guest.read_whole(&path, max).await }
    })
    .await
}

/// Writes a small file whole; it appears complete or not at all.
///
/// # Errors
/// As [`list`], and `file_too_large`, `file_already_exists`, `parent_directory_not_found`.
pub async fn write(
    app: &Arc<App>,
    caller: &Caller,
    id: SandboxId,
    path: &str,
    content: Bytes,
    existing: Existing,
    parents: Parents,
) -> Result<FileStat> {
    let path = in_workspace(path, "path")?;
    let max = caller.limits.max_direct_write_bytes;
    let n_bytes = u64::try_from(content.len()).unwrap_or(u64::MAX);
    if n_bytes > max {
        return Err(Refused::field(
            Code::FileTooLarge,
            "content",
            format!("content must be at most {max} bytes"),
        )
        .into());
    }
    let at = at(app, caller, id).await?;
    let options = WriteOptions { existing, parents, max_bytes: Some(max) };
    // To its end even if the client goes away: what was written is counted.
    app.detached(async move {
        // Not repeated over a new connection: with overwrite=false the second try would find the
        // first.
        let stat = at
            .once("path", |guest| async move { guest.write_whole(&path, options, content).await })
            .await?;
        at.metered(n_bytes).await?;
        Ok(stat)
    })
    .await
}

/// Deletes a file or an empty directory.
///
/// # Errors
/// As [`list`], and `directory_not_empty`; `invalid_request` for the workspace itself.
pub async fn delete(app: &Arc<App>, caller: &Caller, id: SandboxId, path: &str) -> Result<()> {
    let path = in_workspace(path, "path")?;
    if path == WORKSPACE {
        return Err(Refused::invalid("path", "path must not be the workspace itself").into());
    }
    let at = at(app, caller, id).await?;
    at.once("path", |guest| async move { guest.delete(&path).await }).await
}

/// Makes a directory.
///
/// # Errors
/// As [`list`], and `file_already_exists`, `parent_directory_not_found`.
pub async fn make_directory(
    app: &Arc<App>,
    caller: &Caller,
    id: SandboxId,
    path: &str,
    parents: Parents,
) -> Result<FileStat> {
    let path = in_workspace(path, "path")?;
    let at = at(app, caller, id).await?;
    at.once("path", |guest| async move { guest.make_directory(&path, parents).await }).await
}

/// Moves a file or directory.
///
/// # Errors
/// As [`list`], and `file_already_exists`, `parent_directory_not_found`.
pub async fn rename(
    app: &Arc<App>,
    caller: &Caller,
    id: SandboxId,
    from: &str,
    to: &str,
    existing: Existing,
) -> Result<FileStat> {
    let (from, to) = (in_workspace(from, "from")?, in_workspace(to, "to")?);
    let at = at(app, caller, id).await?;
    let renamed = at.once("from", |guest| async move { guest.rename(&from, &to, existing).await });
    renamed.await.map_err(|error| {
        if let Error::Guest { source, .. } = error {
            let field = if is_about_the_target(&source) { "to" } else { "from" };
            return Error::Guest { field, source };
        }
        error
    })
}

/// Of the two paths of a move, these can only be wrong about the second.
fn is_about_the_target(error: &GuestError) -> bool {
    matches!(
        error.reason(),
        Some(Reason::AlreadyExists | Reason::ParentNotFound | Reason::DirectoryNotEmpty)
    )
}

fn download_path(id: SandboxId) -> String {
    format!("/v1/sandboxes/{id}/files/download")
}

/// The path and query that a link is bound to; `path` is percent-encoded so that it stays one value.
fn download_target(id: SandboxId, path: &str) -> String {
    let encoded: String = path.bytes().map(encode).collect();
    format!("{}?path={encoded}", download_path(id))
}

fn encode(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'.' | b'_' | b'~') {
        char::from(byte).to_string()
    } else {
        format!("%{byte:02X}")
    }
}

/// Makes a link to a file that works with a key, and without one until it expires.
///
/// # Errors
/// As [`stat`]; `path_is_directory`.
pub async fn download_url(
    app: &Arc<App>,
    caller: &Caller,
    id: SandboxId,
    path: &str,
    base: &str,
) -> Result<DownloadUrl> {
    let stat = stat(app, caller, id, path).await?;
    if stat.kind == drivers::guest::FileKind::Directory {
        return Err(Refused::field(Code::PathIsDirectory, "path", "path is a directory").into());
    }
    let now = app.clock.now();
    let expires_at = now + DOWNLOAD_URL_LIFETIME;
    let target = download_target(id, &in_workspace(path, "path")?);
    let capability = Capability { method: "GET", path: &target };
    let token = app.signer.sign(&app.db, caller.org_id(), capability, now, expires_at).await?;
    Ok(DownloadUrl { url: format!("{base}{target}&token={token}"), expires_at })
}

/// Streams a file of any size.
///
/// # Errors
/// As [`stat`]; `unauthorized` for a bad token; `quota_exceeded` for one download too many.
pub async fn download(
    app: &Arc<App>,
    access: FileAccess<'_>,
    id: SandboxId,
    path: &str,
) -> Result<(FileStat, impl Stream<Item = io::Result<Bytes>> + Send + 'static + use<>)> {
    use futures_util::TryStreamExt;
    let path = in_workspace(path, "path")?;
    let (org, reach) = match access {
        FileAccess::Caller(caller) => (caller.org_id(), caller.reach()),
        FileAccess::Token(token) => {
            let target = download_target(id, &path);
            let capability = Capability { method: "GET", path: &target };
            let org = app.signer.verify(&app.db, token, capability, app.clock.now()).await?;
            (org, Reach::Tenant { org, projects: None })
        }
    };
    let place = downloads::place(&app.file_downloads, org)?;
    let at = usable(app, reach, id).await?;
    let (stat, bytes) = at
        .call("path", |guest| {
            let path = path.clone();
            async move { guest.read(&path, None).await }
        })
        .await?;
    Ok((stat, downloads::held(place, bytes.map_err(io::Error::other))))
}

/// A sandbox that is up, for file calls.
struct At {
    app: Arc<App>,
    sandbox: Sandbox,
}

async fn at(app: &Arc<App>, caller: &Caller, id: SandboxId) -> Result<At> {
    usable(app, caller.reach(), id).await
}

async fn usable(app: &Arc<App>, reach: Reach, id: SandboxId) -> Result<At> {
    Ok(At { sandbox: in_use(app, reach, id).await?, app: Arc::clone(app) })
}

/// A sandbox that is up, once it is, for work on its files; the work counts as activity.
///
/// # Errors
/// `not_found`, `sandbox_destroyed`.
pub(super) async fn in_use(app: &App, reach: Reach, id: SandboxId) -> Result<Sandbox> {
    let sandbox = readiness::ready(app, reach, id).await?;
    let now = app.clock.now();
    if now - sandbox.last_activity_at >= ACTIVITY_STEP {
        let everyone = store::sandboxes(Everyone::for_worker("activity"));
        everyone.touch_activity(app.db.write(), id, now).await?;
    }
    Ok(sandbox)
}

impl At {
    /// A call that may be repeated.
    async fn call<T, F, Fut>(&self, field: &'static str, call: F) -> Result<T>
    where
        F: Fn(Guest) -> Fut + Send + Sync,
        Fut: Future<Output = std::result::Result<T, GuestError>> + Send,
        T: Send,
    {
        let guests = &self.app.guests;
        let result = guests.call(self.app.driver.as_ref(), self.sandbox.id, call).await;
        result.map_err(|source| Error::Guest { field, source })
    }

    /// A call that must not be repeated. The connection is tried first, so that one left over from
    /// before does not fail it.
    async fn once<T, F, Fut>(&self, field: &'static str, call: F) -> Result<T>
    where
        F: FnOnce(Guest) -> Fut + Send,
        Fut: Future<Output = std::result::Result<T, GuestError>> + Send,
    {
        self.call(field, |guest| async move { guest.hello().await.map(|_| ()) }).await?;
        let (app, id) = (&self.app, self.sandbox.id);
        let result = match app.guests.get(app.driver.as_ref(), id).await {
            Ok(guest) => call(guest).await,
            Err(error) => Err(error),
        };
        result.map_err(|source| Error::Guest { field, source })
    }

    async fn metered(&self, n_bytes: u64) -> Result<()> {
        let now = self.app.clock.now();
        let amount = i64::try_from(n_bytes).unwrap_or(i64::MAX);
        let tx = self.app.db.begin().await?;
        // Each write is counted: nothing repeats this call, so its own id is what was counted.
        let id = UsageRecordId::generate(now).to_string();
        super::usage::count(
            &self.app,
            &tx,
            &self.sandbox,
            Metric::FileBytesWritten,
            id,
            amount,
            now,
        )
        .await?;
        Ok(tx.commit().await?)
    }
}
