//! Removes bytes that no row needs: of writes that nobody looks after any more, and of artifacts that
//! were deleted or kept for long enough. Any number of servers may do so at the same time.

use std::time::Duration;

use domain::{
    artifact::{Artifact, object_key},
    id::{ArtifactId, OrganizationId},
};
use store::{
    Everyone, Reach,
    artifacts::{Artifacts, Write},
    idempotency::RecordId,
};

use super::super::{
    App,
    error::{Error, Result},
};

/// How long a sweep may take, and how long after it a write is swept once more: its writer may have
/// been asleep.
const AGAIN: Duration = Duration::from_secs(600);
/// What is swept in one round.
const BATCH: u32 = 50;

fn artifacts() -> Artifacts {
    store::artifacts(Everyone::for_worker("sweep"))
}

/// Ends the leases of what the last server of this host was writing: it was stopped or killed, and a
/// retry of its requests is told that they still run. If that server still lives, it begins again.
///
/// # Errors
/// When the database does not answer.
pub async fn take_over(app: &App) -> Result<()> {
    let (host, now) = (&app.config.host, app.clock.now());
    let n = store::artifacts::take_over_writes(app.db.write(), host, now).await?;
    if n > 0 {
        tracing::info!(n, "sweeping what was being written");
    }
    Ok(())
}

/// One round; `true` when there may be more.
///
/// # Errors
/// When the database or the store does not answer. What is left is due again later.
pub async fn round(app: &App) -> Result<bool> {
    let now = app.clock.now();
    let mut outcome = Ok(());
    let lost = store::artifacts::claim_writes(app.db.write(), now, AGAIN, BATCH).await?;
    for write in &lost {
        let swept = sweep(app, write).await;
        outcome = outcome.and(swept);
    }
    let due = artifacts().claim_removals(app.db.write(), now, AGAIN, BATCH).await?;
    for artifact in &due {
        let removed = remove(app, artifact).await;
        outcome = outcome.and(removed);
    }
    let full = |n: usize| u32::try_from(n).unwrap_or(u32::MAX) >= BATCH;
    outcome.map(|()| full(lost.len()) || full(due.len()))
}

/// Removes the bytes of an artifact that is there no longer.
///
/// # Errors
/// When the database or the store does not answer.
pub async fn remove(app: &App, artifact: &Artifact) -> Result<()> {
    app.blobs.remove(&artifact.object_key(), None).await.map_err(Error::NotStored)?;
    Ok(artifacts().note_removal(app.db.write(), artifact.id).await?)
}

async fn sweep(app: &App, write: &Write) -> Result<()> {
    tracing::info!(artifact = %write.id, "sweeping a write that nobody looks after");
    let key = object_key(write.org_id, write.id);
    let removed = app.blobs.remove(&key, write.upload_id.as_deref()).await;
    removed.map_err(Error::NotStored)?;
    let tx = app.db.begin().await?;
    if write.is_last {
        artifacts().forget_write(&tx, write.id).await?;
    }
    // The request that it was for may come again.
    if let Some(record) = write.record {
        store::idempotency::remove(&tx, record).await?;
    }
    Ok(tx.commit().await?)
}

/// Removes what its writer gives up, unless it is an artifact by now. What somebody else has taken is
/// theirs to sweep; only the request is not. That may come again before the bytes are gone: nobody can
/// close a write that is given up.
///
/// # Errors
/// When the database or the store does not answer.
pub(super) async fn give_up(
    app: &App,
    reach: Reach,
    (id, org_id): (ArtifactId, OrganizationId),
    record: Option<RecordId>,
) -> Result<()> {
    let until = app.clock.now() + AGAIN;
    let tx = app.db.begin().await?;
    let taken = store::artifacts(reach).give_up_write(&tx, id, until).await?;
    if let Some(record) = record
        && (taken.is_some() || artifacts().disown_write(&tx, id).await?)
    {
        store::idempotency::remove(&tx, record).await?;
    }
    tx.commit().await?;
    let Some(write) = taken else { return Ok(()) };
    let removed = app.blobs.remove(&object_key(org_id, id), write.upload_id.as_deref()).await;
    removed.map_err(Error::NotStored)?;
    // Else it stays noted, and is swept once more, after whatever was still under way.
    if !app.blobs.may_write_late() {
        let tx = app.db.begin().await?;
        artifacts().forget_write(&tx, id).await?;
        tx.commit().await?;
    }
    Ok(())
}
