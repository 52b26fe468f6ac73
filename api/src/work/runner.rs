//! Follows commands: starts them in their sandbox, stores what they print in batches, and writes
//! down how they ended. One task per command; a task that dies with its server is taken up by
//! another one, which resumes at the last stored chunk.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::TimeDelta;
use domain::{
    collect::CollectStatus,
    command::{Command, Status},
    id::CommandId,
};
use drivers::guest::{Guest, GuestError, GuestErrorKind, Reason, StartCommand};
use store::Everyone;
use tracing::Instrument;

use super::repeat;
use crate::{
    app::{
        App, artifacts,
        commands::GRACE,
        error::{Error, Result},
        readiness,
    },
    bus::{Nudge, POLL},
    trace,
};

mod pump;

/// A command whose follower says nothing for this long is taken up by another one.
pub const LEASE: TimeDelta = TimeDelta::seconds(15);
const CLAIM: Duration = Duration::from_secs(15);
/// How often followers say something.
const RENEW: Duration = Duration::from_secs(4);
/// Commands taken up at a time.
const BATCH: u32 = 100;

/// The commands that this process follows.
#[derive(Debug, Default)]
pub struct Runner {
    following: Mutex<HashSet<CommandId>>,
}

impl Runner {
    fn begin(&self, id: CommandId) -> bool {
        self.following.lock().unwrap_or_else(PoisonError::into_inner).insert(id)
    }

    fn end(&self, command: &Command) {
        self.following.lock().unwrap_or_else(PoisonError::into_inner).remove(&command.id);
    }

    fn followed(&self) -> Vec<CommandId> {
        let following = self.following.lock().unwrap_or_else(PoisonError::into_inner);
        following.iter().copied().collect()
    }
}

/// Starts and follows a command that was just accepted.
pub fn launch(app: &Arc<App>, command: Command, env: BTreeMap<String, String>) {
    follow(app, command, Some(env));
}

fn follow(app: &Arc<App>, command: Command, env: Option<BTreeMap<String, String>>) {
    if !app.runner.begin(command.id) {
        return;
    }
    let span = tracing::info_span!("command", command = %command.id, sandbox = %command.sandbox_id);
    let (app, shutdown) = (Arc::clone(app), app.shutdown.clone());
    app.clone().tasks.spawn(
        trace::carried(async move {
            let work = async {
                if let Err(error) = drive(&app, &command, env).await {
                    // The lease runs out and somebody takes the command up again.
                    app.metrics.failures.commands.increment(1);
                    tracing::warn!(%error, "following a command failed");
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = work => {}
            }
            app.runner.end(&command);
        })
        .instrument(span),
    );
}

/// Renews the leases of what is followed here and takes up what nobody follows, for ever.
pub async fn run(app: Arc<App>) {
    if let Err(error) = take_over(&app).await {
        tracing::warn!(%error, "what the last server followed waits until its leases run out");
    }
    repeat(RENEW, &app.metrics.failures.commands, || round(&app)).await;
}

/// Takes up at once what the last server of this host followed: it was stopped or killed, and whoever
/// reads one of its commands would hear nothing for the whole lease. If that server still lives, a
/// command has two followers, of which the first one to store something wins. Only what runs: what is
/// not started yet can be started by nobody but the one who accepted it, if that one lives.
async fn take_over(app: &Arc<App>) -> Result<()> {
    let commands = store::commands(Everyone::for_worker("runner"));
    let leased_until = app.clock.now() + LEASE;
    loop {
        // Leased until then exactly, so that none is found again.
        let (db, host) = (app.db.write(), &app.config.host);
        let found = commands.claim_orphans(db, host, leased_until, Duration::ZERO, BATCH).await?;
        let full = is_full(&found);
        let taken = |status| status == Status::Running || !Status::is_active(status);
        for command in found.into_iter().filter(|command| taken(command.status)) {
            tracing::info!(command = %command.id, "taking over a command");
            follow(app, command, None);
        }
        if !full {
            return Ok(());
        }
    }
}

fn is_full(batch: &[Command]) -> bool {
    u32::try_from(batch.len()).unwrap_or(u32::MAX) >= BATCH
}

/// One renewal and one look for abandoned commands; `true` when a batch was full.
///
/// # Errors
/// When the database does not answer.
pub async fn round(app: &Arc<App>) -> Result<bool> {
    let commands = store::commands(Everyone::for_worker("runner"));
    let (host, now) = (&app.config.host, app.clock.now());
    let followed = app.runner.followed();
    if !followed.is_empty() {
        commands.renew(app.db.write(), &followed, now + LEASE).await?;
    }
    let orphans = commands.claim_orphans(app.db.write(), host, now, CLAIM, BATCH).await?;
    let full = is_full(&orphans);
    for command in orphans {
        tracing::info!(command = %command.id, "taking up a command");
        follow(app, command, None);
    }
    Ok(full)
}

/// From accepted to settled: to its end, and then what it leaves as artifacts.
async fn drive(
    app: &Arc<App>,
    command: &Command,
    env: Option<BTreeMap<String, String>>,
) -> Result<()> {
    if command.status.is_active() {
        run_to_end(app, command, env).await?;
    }
    if command.collect_status == CollectStatus::Pending {
        artifacts::collect::all_of(app, command.id).await?;
    }
    Ok(())
}

/// From accepted to over. `env` is known only to the process that accepted the command: it is never
/// stored, so a command that was not started before that process died cannot be started any more.
async fn run_to_end(
    app: &Arc<App>,
    command: &Command,
    env: Option<BTreeMap<String, String>>,
) -> Result<()> {
    let everyone = || Everyone::for_worker("runner");
    let reach = everyone();
    match readiness::ready(app, reach, command.sandbox_id).await {
        Ok(_) => {}
        // The end of the sandbox has ended its commands.
        Err(Error::Refused(_)) => return Ok(()),
        Err(Error::NotReady) => return pump::fail(app, command).await,
        Err(error) => return Err(error),
    }
    if let Some(env) = env {
        let queued = [Status::Queued];
        let db = app.db.write();
        if !store::commands(everyone())
            .mark(db, command.id, &queued, Status::Starting, None)
            .await?
        {
            return Ok(());
        }
        let start = StartCommand {
            id: command.id,
            command_line: command.command_line.clone(),
            cwd: Some(command.cwd.clone()),
            env,
            timeout: command.timeout_ms.map(Duration::from_millis),
            grace: GRACE,
        };
        if !start_surely(app, command, start).await? {
            return Ok(());
        }
    }
    loop {
        let guest = match app.guests.get(app.driver.as_ref(), command.sandbox_id).await {
            Ok(guest) => guest,
            Err(error) => {
                if !try_again(app, command, &error).await? {
                    return Ok(());
                }
                continue;
            }
        };
        match pump::follow(app, command, guest).await {
            Ok(()) => return Ok(()),
            Err(Error::Guest { source, .. }) if source.reason() == Some(Reason::UnknownCommand) => {
                // Never started, or its agent started anew: nothing is there to follow.
                return pump::fail(app, command).await;
            }
            Err(Error::Guest { source, .. }) => {
                if !try_again(app, command, &source).await? {
                    return Ok(());
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// Starts a command inside; `false` = there is nothing to follow. Only a refusal says that it did not
/// start: whatever else went wrong, it may have, so it is asked again, which starts nothing twice.
async fn start_surely(app: &App, command: &Command, start: StartCommand) -> Result<bool> {
    loop {
        let Err(error) = start_inside(app, command, start.clone()).await else { return Ok(true) };
        if error.reason().is_some() {
            tracing::warn!(%error, "a command could not be started");
            pump::fail(app, command).await?;
            return Ok(false);
        }
        if !try_again(app, command, &error).await? {
            return Ok(false);
        }
    }
}

async fn start_inside(
    app: &App,
    command: &Command,
    start: StartCommand,
) -> std::result::Result<(), GuestError> {
    // Start is idempotent by the command's id, so it may be repeated over a new connection.
    let starting = |guest: Guest| {
        let start = start.clone();
        async move { guest.start(start).await.map(|_| ()) }
    };
    app.guests.call(app.driver.as_ref(), command.sandbox_id, starting).await
}

async fn still_there(app: &App, command: &Command) -> Result<bool> {
    let commands = store::commands(Everyone::for_worker("runner"));
    Ok(commands.get(app.db.read(), command.id).await?.status.is_active())
}

/// After a broken connection: whether the command is still to be followed, after a moment.
async fn try_again(app: &App, command: &Command, error: &GuestError) -> Result<bool> {
    app.guests.forget(command.sandbox_id);
    if !matches!(error.kind, GuestErrorKind::Gone) {
        tracing::warn!(%error, "following a command: connecting again");
    }
    let id = command.id;
    app.bus.subscribe().wait(POLL, |nudge| nudge == Nudge::Command(id)).await;
    still_there(app, command).await
}
