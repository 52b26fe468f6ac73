//! From a file in a sandbox to an artifact, such that a crash between any two steps leaves neither a
//! row without bytes nor bytes without a row: it is noted that something will be written, then the
//! bytes are, and then the note becomes the artifact in one transaction. A note that nobody looks after
//! is swept, bytes and all.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use chrono::TimeDelta;
use domain::{
    Code, Refused,
    artifact::{Artifact, Name, object_key},
    id::ArtifactId,
    sandbox::Sandbox,
};
use futures_util::{Stream, StreamExt as _};
use serde_json::json;
use store::{
    Reach,
    artifacts::{Collected, Lease},
    idempotency::RecordId,
    usage::Metric,
};
use tokio::time::Instant;

use super::{
    super::{
        App, Caller,
        audit::{self, Act, Actor},
        error::{Error, Result},
        idempotency::{self, Answer, Idempotent},
        usage,
    },
    pace, sweep,
};
use crate::blobs::Written;

/// A write whose writer says nothing for this long is swept.
const LEASE: TimeDelta = TimeDelta::seconds(60);
/// How often a writer says something.
const RENEW: Duration = Duration::from_secs(10);
/// A write that somebody took for lost is begun again so often.
const TRIES: usize = 3;
/// How long a request for an artifact waits for its turn.
pub const TURN: Duration = Duration::from_secs(60);

/// What is copied, and for whom.
#[derive(Debug)]
pub struct Source {
    /// The sandbox, which is up.
    pub sandbox: Sandbox,
    /// The absolute path.
    pub path: String,
    /// What the artifact is called.
    pub name: Name,
    /// How long it is kept.
    pub retention_days: u32,
    /// The command that leaves it, if it is collected.
    pub collected: Option<Collected>,
    /// Who is written down to have made it.
    pub actor: Actor,
    /// Until when it waits for its turn.
    pub turn_by: Instant,
}

/// The request that asks for it, and how it is answered.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// Who asks.
    pub caller: &'a Caller,
    /// What for, if it can come again.
    pub request: Option<&'a Idempotent>,
    /// Prints the answer.
    pub print: &'a (dyn Fn(&Artifact) -> Answer + Send + Sync),
}

impl fmt::Debug for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked").field("request", &self.request).finish_non_exhaustive()
    }
}

/// Makes an artifact; `None`: the same idempotent request is ahead.
///
/// # Errors
/// The agent's, the store's, `file_too_large`, those of credit, and `Overloaded` when no turn comes.
pub async fn write(
    app: &Arc<App>,
    source: &Source,
    asked: Option<&Asked<'_>>,
) -> Result<Option<Artifact>> {
    // Kept while it is begun again: its time to wait may be over by then.
    let _turn = app.turns.take(source.sandbox.org_id, source.turn_by).await?;
    let mut tries = 1;
    loop {
        match attempt(app, source, asked).await {
            // Another server of this host took it for lost.
            Err(Error::Store(store::Error::Stale)) if tries < TRIES => tries += 1,
            result => return result,
        }
    }
}

async fn attempt(
    app: &Arc<App>,
    source: &Source,
    asked: Option<&Asked<'_>>,
) -> Result<Option<Artifact>> {
    let Some((id, record)) = begin(app, source, asked).await? else { return Ok(None) };
    let copied = tokio::select! {
        copied = copy(app, source, id) => copied,
        lost = keep(app, source, id) => Err(lost),
    };
    let done = match copied {
        Ok(written) => close(app, source, asked, (id, record), written).await,
        Err(error) => Err(error),
    };
    if done.is_err() {
        give_up(app, source, (id, record)).await;
    }
    done.map(Some)
}

fn reach(source: &Source) -> Reach {
    Reach::Tenant { org: source.sandbox.org_id, projects: None }
}

/// Notes what is about to be written, with the request that it is for.
async fn begin(
    app: &App,
    source: &Source,
    asked: Option<&Asked<'_>>,
) -> Result<Option<(ArtifactId, Option<RecordId>)>> {
    let now = app.clock.now();
    let id = ArtifactId::generate(now);
    let tx = app.db.begin().await?;
    let mut record = None;
    if let Some(Asked { caller, request: Some(request), .. }) = asked {
        record = idempotency::reserve(app, &tx, *caller, request).await?;
        if record.is_none() {
            tx.rollback().await?;
            return Ok(None);
        }
    }
    let lease = Lease { host: &app.config.host, until: now + LEASE };
    let artifacts = store::artifacts(reach(source));
    artifacts.begin_write(&tx, id, source.sandbox.org_id, record, lease).await?;
    tx.commit().await?;
    Ok(Some((id, record)))
}

/// From the agent to the store.
async fn copy(app: &Arc<App>, source: &Source, id: ArtifactId) -> Result<Written> {
    let bytes = read(app, source).await?;
    let begun = |upload_id: String| async move {
        let artifacts = store::artifacts(reach(source));
        Ok(artifacts.note_upload(app.db.write(), id, &upload_id).await?)
    };
    app.blobs.write(&object_key(source.sandbox.org_id, id), bytes, begun).await
}

/// The bytes of the file as they are now, and no more than an artifact may have, whatever the agent
/// says.
async fn read(
    app: &Arc<App>,
    source: &Source,
) -> Result<impl Stream<Item = Result<Bytes>> + Send + 'static + use<>> {
    let max = app.config.max_artifact_bytes;
    let failed = |source| Error::Guest { field: "path", source };
    let reading =
        |guest: drivers::guest::Guest| async move { guest.read(&source.path, Some(max)).await };
    let (_, bytes) =
        app.guests.call(app.driver.as_ref(), source.sandbox.id, reading).await.map_err(failed)?;
    Ok(pace::paced(bytes).scan(0_u64, move |n, piece| {
        let piece = piece.map_err(failed).and_then(|piece| {
            *n = n.saturating_add(piece.len() as u64);
            if *n > max {
                let text = format!("an artifact must be at most {max} bytes");
                return Err(Refused::field(Code::FileTooLarge, "path", text).into());
            }
            Ok(piece)
        });
        std::future::ready(Some(piece))
    }))
}

/// Renews the lease until it is lost.
async fn keep(app: &App, source: &Source, id: ArtifactId) -> Error {
    let artifacts = store::artifacts(reach(source));
    loop {
        tokio::time::sleep(RENEW).await;
        let until = app.clock.now() + LEASE;
        match artifacts.renew_write(app.db.write(), id, until).await {
            Ok(()) => {}
            Err(error @ store::Error::Stale) => return error.into(),
            // The lease is longer than the time to the next renewal.
            Err(error) => tracing::warn!(artifact = %id, %error, "a write's lease was not renewed"),
        }
    }
}

/// The transaction that makes what was written an artifact.
async fn close(
    app: &App,
    source: &Source,
    asked: Option<&Asked<'_>>,
    (id, record): (ArtifactId, Option<RecordId>),
    written: Written,
) -> Result<Artifact> {
    let now = app.clock.now();
    let retention = TimeDelta::days(i64::from(source.retention_days));
    let sandbox = &source.sandbox;
    let artifact = Artifact {
        id,
        org_id: sandbox.org_id,
        project_id: sandbox.project_id,
        sandbox_id: sandbox.id,
        name: source.name.clone(),
        content_type: mime_guess::from_path(source.name.as_str()).first().map(|it| it.to_string()),
        source_path: source.path.clone(),
        size_bytes: written.size_bytes,
        sha256: written.sha256,
        created_at: now,
        retention_expires_at: now + retention,
        deleted_at: None,
    };
    let tx = app.db.begin().await?;
    store::artifacts(reach(source)).insert(&tx, &artifact, source.collected).await?;
    let amount = i64::try_from(artifact.size_bytes).unwrap_or(i64::MAX);
    let metric = Metric::ArtifactBytesStored;
    usage::count(app, &tx, sandbox, metric, id.to_string(), amount, now).await?;
    if let Some((record, asked)) = record.zip(asked) {
        let answer = (asked.print)(&artifact);
        store::idempotency::finish(&tx, record, answer.status, &answer.body).await?;
    }
    let details = json!({ "sandboxId": sandbox.id, "sizeBytes": artifact.size_bytes });
    let act = Act::done("artifact.create", id, details);
    audit::write(&tx, sandbox.org_id, &source.actor, &[act], now).await?;
    tx.commit().await?;
    Ok(artifact)
}

/// Removes what was written and forgets the request, so that it may come again. If that fails, the
/// sweeper does it. What was closed after all stays: nobody can take it any more.
async fn give_up(app: &App, source: &Source, (id, record): (ArtifactId, Option<RecordId>)) {
    let org_id = source.sandbox.org_id;
    if let Err(error) = sweep::give_up(app, reach(source), (id, org_id), record).await {
        tracing::warn!(artifact = %id, %error, "what was not written to the end is swept later");
    }
}
