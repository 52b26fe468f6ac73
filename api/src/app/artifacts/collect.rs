//! What commands leave as artifacts (contract, section 10.3). Done by whoever follows a command, after
//! its end, so that a server that dies in the middle leaves it to the next one, which goes on with the
//! files that are missing.

use std::{sync::Arc, time::Duration};

use domain::{
    Code,
    collect::{CollectCode, CollectError, CollectStatus, Item, Request},
    command::Command,
    id::CommandId,
    sandbox::Sandbox,
};
use drivers::guest::Reason;
use store::{Everyone, artifacts::Collected, commands::Commands};
use tokio::time::Instant;

use super::{
    super::{
        App,
        audit::Actor,
        error::{Error, Result},
        files,
    },
    write::{self, Source},
};
use crate::bus::Nudge;

/// How long all files of a command may take. Whoever waits for the command waits for them.
pub const PATIENCE: Duration = Duration::from_secs(600);
/// When too much is being done, it is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

fn commands() -> Commands {
    store::commands(Everyone::for_worker("collect"))
}

/// Copies what a command that is over was asked for, if nobody has.
///
/// # Errors
/// When the database does not answer: somebody else goes on.
pub async fn all_of(app: &Arc<App>, id: CommandId) -> Result<()> {
    let Some(request) = commands().wanted_of(app.db.read(), id).await? else { return Ok(()) };
    let command = commands().get(app.db.read(), id).await?;
    if command.status.is_active() {
        return Ok(());
    }
    let (status, errors) = if request.on.covers(command.status, command.exit_code) {
        let errors = copy_all(app, &command, &request).await?;
        (CollectStatus::of(request.items.len(), errors.len()), errors)
    } else {
        (CollectStatus::Skipped, Vec::new())
    };
    let tx = app.db.begin().await?;
    commands().close_collection(&tx, id, status, &errors).await?;
    tx.commit().await?;
    app.bus.publish(Nudge::Command(id));
    Ok(())
}

/// Copies one after the other, and says which could not be.
async fn copy_all(
    app: &Arc<App>,
    command: &Command,
    request: &Request,
) -> Result<Vec<CollectError>> {
    let everyone = Everyone::for_worker("collect");
    let done = store::artifacts(everyone.clone()).collected_of(app.db.read(), command.id).await?;
    let left = (0_u32..).zip(&request.items).filter(|(place, _)| !done.contains(place));
    let sandbox = match files::in_use(app, everyone, command.sandbox_id).await {
        Ok(sandbox) => sandbox,
        // It is gone, and all that is not copied yet with it.
        Err(Error::Refused(_)) => return Ok(left.map(|(_, item)| lost(item)).collect()),
        Err(error) => return Err(error),
    };
    let organization = store::organizations::get(app.db.read(), command.org_id).await?;
    let (name, origin, request_id) = (request.key_id.to_string(), String::new(), String::new());
    let job = Job {
        app,
        command,
        sandbox,
        retention_days: app.config.artifact_retention_days(&organization, app.clock.now()),
        actor: Actor { name, origin, request_id },
        deadline: Instant::now() + PATIENCE,
    };
    let mut errors = Vec::new();
    for (place, item) in left {
        match job.copy(item, (command.id, place)).await {
            Ok(()) => {}
            Err(Error::Store(
                error @ (store::Error::Unavailable(_) | store::Error::Corrupt(_)),
            )) => return Err(error.into()),
            Err(error) => errors.push(refusal(item, &error)),
        }
    }
    Ok(errors)
}

struct Job<'a> {
    app: &'a Arc<App>,
    command: &'a Command,
    sandbox: Sandbox,
    retention_days: u32,
    actor: Actor,
    deadline: Instant,
}

impl Job<'_> {
    async fn copy(&self, item: &Item, collected: Collected) -> Result<()> {
        let places = item.places(&self.command.cwd)?;
        let last = places.len().saturating_sub(1);
        for (n, path) in places.into_iter().enumerate() {
            let source = Source {
                sandbox: self.sandbox.clone(),
                path,
                name: item.artifact_name(),
                retention_days: self.retention_days,
                collected: Some(collected),
                actor: self.actor.clone(),
                turn_by: self.deadline,
            };
            match tokio::time::timeout_at(self.deadline, self.write(&source)).await {
                Err(_) => return Err(Error::NotReady),
                Ok(Err(error)) if n < last && is_missing(&error) => {}
                // Whoever followed the command before has copied it after all.
                Ok(Err(Error::Store(store::Error::Taken(_)))) => return Ok(()),
                Ok(result) => return result,
            }
        }
        Ok(())
    }

    /// Tries again while too much is being done: that says nothing about the file. Whoever calls this has
    /// a deadline.
    async fn write(&self, source: &Source) -> Result<()> {
        loop {
            match write::write(self.app, source, None).await {
                Err(Error::Overloaded(_)) => tokio::time::sleep(AGAIN).await,
                result => return result.map(drop),
            }
        }
    }
}

/// What the agent says about files that cannot be artifacts.
const TOLD: [(Reason, &str); 3] = [
    (Reason::IsDirectory, "it is a directory"),
    (Reason::FileTooLarge, "it is larger than an artifact may be"),
    (Reason::NotRegularFile, "it is neither a file nor a directory"),
];

fn agents_reason(error: &Error) -> Option<Reason> {
    if let Error::Guest { source, .. } = error { source.reason() } else { None }
}

fn is_missing(error: &Error) -> bool {
    matches!(
        agents_reason(error),
        Some(Reason::FileNotFound | Reason::ParentNotFound | Reason::NotDirectory)
    )
}

fn is_outside(error: &Error) -> bool {
    agents_reason(error) == Some(Reason::OutsideWorkspace)
        || matches!(error, Error::Refused(refused) if refused.code == Code::PathOutsideWorkspace)
}

fn lost(item: &Item) -> CollectError {
    let message = "the sandbox ended before it was copied".to_owned();
    CollectError { code: CollectCode::ArtifactCollectFailed, message, path: item.path.clone() }
}

/// What a caller is told of a failure; what is not theirs to know is logged.
fn refusal(item: &Item, error: &Error) -> CollectError {
    let told = TOLD.iter().find(|(reason, _)| agents_reason(error) == Some(*reason));
    let (code, message) = if is_missing(error) {
        (CollectCode::FileNotFound, "there is nothing")
    } else if is_outside(error) {
        (CollectCode::PathOutsideWorkspace, "it leads outside /workspace")
    } else if let Error::Refused(refused) = error {
        (CollectCode::ArtifactCollectFailed, &*refused.message)
    } else if let Some((_, text)) = told {
        (CollectCode::ArtifactCollectFailed, *text)
    } else if matches!(error, Error::NotReady) {
        (CollectCode::ArtifactCollectFailed, "it could not be copied in time")
    } else {
        tracing::warn!(%error, "a file could not be collected");
        (CollectCode::ArtifactCollectFailed, "it could not be copied")
    };
    CollectError { code, message: message.to_owned(), path: item.path.clone() }
}
