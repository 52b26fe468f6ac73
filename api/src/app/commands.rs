//! Commands: run, start, get, cancel. Following what runs is `work/runner.rs`'s; logs are
//! `app/command_logs.rs`'s.

use std::{sync::Arc, time::Duration};

use domain::{
    Code, Refused,
    collect::{CollectStatus, Request},
    command::{CancelMode, Command, Spec, Status},
    id::{CommandId, SandboxId},
    path::WORKSPACE,
    sandbox::{Phase, Sandbox, Wish},
};
use drivers::guest::{self, GuestErrorKind, Reason};
use serde_json::json;
use store::{Reach, usage::Metric};
use tokio::time::Instant;

use super::command_logs::too_many;
pub use super::command_logs::{CommandEvent, LogPage, log_download_url, log_text, logs, stream};
use super::{
    App, Caller, artifacts,
    audit::{self, Act, Actor},
    error::{Error, Result},
    events,
    idempotency::{self, Answer, Idempotent, Known},
    readiness,
};
use crate::{
    bus::{Nudge, POLL},
    work::runner,
};

/// Between SIGTERM and SIGKILL (contract, section 10.4).
pub const GRACE: Duration = Duration::from_secs(5);
/// Commands that run in a sandbox at a time; the agent takes no more.
const MAX_RUNNING: usize = 256;
/// How long a cancel waits for the end that it caused, beyond the grace.
const CANCEL_WAIT: Duration = Duration::from_secs(10);
/// What a foreground caller waits beyond the command's own timeout: grace, storage, a slow host.
const FOREGROUND_SLACK: Duration = Duration::from_secs(90);

/// Runs a command and waits for its end, or starts one and does not.
///
/// # Errors
/// `not_found`, `sandbox_destroyed`, `file_not_found` for the working directory, `invalid_request` for
/// a timeout above the plan's, `runtime_error` when the sandbox does not become ready, and those of
/// credit and of idempotency.
pub async fn run(
    app: &Arc<App>,
    caller: &Caller,
    idempotent: Option<Idempotent>,
    sandbox_id: SandboxId,
    spec: Spec,
    print: impl Fn(&Command) -> Vec<u8> + Send + Sync + 'static,
) -> Result<Answer> {
    if let Some(answer) = earlier(app, caller, idempotent.as_ref(), &print).await? {
        return Ok(answer);
    }
    let spec = spec.on_plan(caller.limits.max_command_ms)?;
    let reach = caller.reach();
    let place = if spec.background {
        None
    } else {
        Some(app.places.take(caller.org_id()).ok_or_else(|| too_many(app))?)
    };
    let sandbox = if spec.background {
        let sandbox = store::sandboxes(reach.clone()).get(app.db.read(), sandbox_id).await?;
        sandbox.ask(Wish::Use, app.clock.now())?;
        sandbox
    } else {
        readiness::ready(app, reach.clone(), sandbox_id).await?
    };
    check_cwd(app, &sandbox, &spec).await?;
    let (app, caller) = (Arc::clone(app), caller.clone());
    // From here on a client that goes away changes nothing: the command runs, and the idempotency
    // key finds it.
    let work = Arc::clone(&app);
    let running = async move {
        let _place = place;
        run_accepted(&work, &caller, idempotent, &sandbox, spec, print).await
    };
    app.detached(running).await
}

async fn run_accepted(
    app: &Arc<App>,
    caller: &Caller,
    idempotent: Option<Idempotent>,
    sandbox: &Sandbox,
    spec: Spec,
    print: impl Fn(&Command) -> Vec<u8> + Send + Sync,
) -> Result<Answer> {
    let command = new_command(app, sandbox, &spec);
    let answer = spec.background.then(|| Answer { status: 202, body: print(&command) });
    let collect = spec.collect.as_ref();
    if !accept(app, caller, idempotent.as_ref(), sandbox, (&command, collect), answer.as_ref())
        .await?
    {
        return match idempotency::look_up(app, caller, idempotent.as_ref()).await? {
            Known::Answered(answer) => Ok(answer),
            Known::Fresh | Known::Running(..) => Err(Error::InProgress),
        };
    }
    runner::launch(app, command.clone(), spec.env);
    if let Some(answer) = answer {
        return Ok(answer);
    }
    let mut at_most = Duration::from_millis(spec.timeout_ms.unwrap_or(0)) + FOREGROUND_SLACK;
    if spec.collect.is_some() {
        at_most += artifacts::collect::PATIENCE;
    }
    let ended = until(app, caller.reach(), command.id, at_most, Command::is_settled).await?;
    finish(app, caller, idempotent.as_ref(), Answer { status: 200, body: print(&ended) }).await
}

/// What an earlier request with the same key led to. A foreground run whose server died in the
/// middle is answered here, from the command's own record.
async fn earlier(
    app: &Arc<App>,
    caller: &Caller,
    idempotent: Option<&Idempotent>,
    print: &(impl Fn(&Command) -> Vec<u8> + Send + Sync),
) -> Result<Option<Answer>> {
    match idempotency::look_up(app, caller, idempotent).await? {
        Known::Fresh => Ok(None),
        Known::Answered(answer) => Ok(Some(answer)),
        Known::Running(_, None) => Err(Error::InProgress),
        Known::Running(_, Some(id)) => {
            let command = store::commands(caller.reach()).get(app.db.read(), id).await?;
            if !command.is_settled() {
                return Err(Error::InProgress);
            }
            let answer = Answer { status: 200, body: print(&command) };
            finish(app, caller, idempotent, answer).await.map(Some)
        }
    }
}

async fn finish(
    app: &Arc<App>,
    caller: &Caller,
    idempotent: Option<&Idempotent>,
    answer: Answer,
) -> Result<Answer> {
    if let Known::Running(record, _) = idempotency::look_up(app, caller, idempotent).await? {
        let tx = app.db.begin().await?;
        match store::idempotency::finish(&tx, record.id, answer.status, &answer.body).await {
            Ok(()) => tx.commit().await?,
            // A retry was faster; its answer is printed from the same record.
            Err(store::Error::Stale) => tx.rollback().await?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(answer)
}

/// A directory that is missing is the caller's mistake and no command; it can be told only once the
/// sandbox is up. A queued command whose directory turns out to be missing fails.
async fn check_cwd(app: &App, sandbox: &Sandbox, spec: &Spec) -> Result<()> {
    if sandbox.phase != Phase::Ready || spec.cwd == WORKSPACE {
        return Ok(());
    }
    let stat = app
        .guests
        .call(app.driver.as_ref(), sandbox.id, |guest| async move { guest.stat(&spec.cwd).await });
    match stat.await {
        Ok(stat) if stat.kind == guest::FileKind::Directory => Ok(()),
        Ok(_) => {
            Err(Refused::field(Code::PathNotDirectory, "cwd", "cwd must be a directory").into())
        }
        Err(source) => Err(Error::Guest { field: "cwd", source }),
    }
}

fn new_command(app: &App, sandbox: &Sandbox, spec: &Spec) -> Command {
    let now = app.clock.now();
    Command {
        id: CommandId::generate(now),
        org_id: sandbox.org_id,
        project_id: sandbox.project_id,
        sandbox_id: sandbox.id,
        command_line: spec.command_line.clone(),
        cwd: spec.cwd.clone(),
        status: Status::Queued,
        background: spec.background,
        timeout_ms: spec.timeout_ms,
        exit_code: None,
        stdout: None,
        stderr: None,
        created_at: now,
        started_at: None,
        finished_at: None,
        cancel_mode: None,
        canceled_at: None,
        termination_signal: None,
        last_seq: 0,
        first_seq: 1,
        collect_status: match spec.collect {
            Some(_) => CollectStatus::Pending,
            None => CollectStatus::NotRequested,
        },
        collect_errors: Vec::new(),
    }
}

/// The transaction that makes a command. `false`: the same idempotent request is ahead.
async fn accept(
    app: &App,
    caller: &Caller,
    idempotent: Option<&Idempotent>,
    sandbox: &Sandbox,
    (command, collect): (&Command, Option<&Request>),
    answer: Option<&Answer>,
) -> Result<bool> {
    let tx = app.db.begin().await?;
    // The sandbox may have ended since it was looked at; its row is held so that it cannot end
    // between this check and the insert, which would leave an active command in an ended sandbox.
    let sandbox = store::sandboxes(caller.reach()).hold(&tx, sandbox.id).await?;
    sandbox.ask(Wish::Use, app.clock.now())?;
    if !idempotency::record(app, &tx, caller, idempotent, Some(command.id), answer).await? {
        return Ok(false);
    }
    let commands = store::commands(caller.reach());
    if commands.active_of(&tx, sandbox.id).await?.len() >= MAX_RUNNING {
        let limit = u64::try_from(MAX_RUNNING).unwrap_or(u64::MAX);
        return Err(Error::QuotaExceeded { what: "commands at a time in a sandbox", limit });
    }
    commands.insert(&tx, command, collect, app.clock.now() + runner::LEASE).await?;
    let (id, at) = (command.id.to_string(), command.created_at);
    super::usage::count(app, &tx, &sandbox, Metric::CommandInvocations, id, 1, at).await?;
    let details = json!({ "sandboxId": sandbox.id, "background": command.background });
    let act = Act::done("command.run", command.id, details);
    audit::write(&tx, sandbox.org_id, &Actor::of(caller), &[act], at).await?;
    tx.commit().await?;
    app.bus.publish(Nudge::Sandbox(sandbox.id));
    Ok(true)
}

/// Waits until a command is over.
async fn terminal(app: &App, reach: Reach, id: CommandId, at_most: Duration) -> Result<Command> {
    until(app, reach, id, at_most, |command| !command.status.is_active()).await
}

async fn until(
    app: &App,
    reach: Reach,
    id: CommandId,
    at_most: Duration,
    is_so: impl Fn(&Command) -> bool,
) -> Result<Command> {
    let deadline = Instant::now() + at_most;
    let mut nudges = app.bus.subscribe();
    loop {
        let command = store::commands(reach.clone()).get(app.db.read(), id).await?;
        if is_so(&command) {
            return Ok(command);
        }
        if Instant::now() >= deadline {
            return Err(Error::NotReady);
        }
        nudges.wait(POLL, |nudge| nudge == Nudge::Command(id)).await;
    }
}

/// Gets a command; works after its sandbox is gone.
///
/// # Errors
/// `not_found`.
pub async fn get(app: &Arc<App>, caller: &Caller, id: CommandId) -> Result<Command> {
    Ok(store::commands(caller.reach()).get(app.db.read(), id).await?)
}

/// Cancels a command and returns when it is over. One that is over stays as it is.
///
/// # Errors
/// `not_found`; `runtime_error` when the command does not end in time.
pub async fn cancel(
    app: &Arc<App>,
    caller: &Caller,
    id: CommandId,
    mode: CancelMode,
) -> Result<Command> {
    let command = store::commands(caller.reach()).get(app.db.read(), id).await?;
    if !command.status.is_active() || cancel_queued(app, &command, mode).await? {
        return Ok(store::commands(caller.reach()).get(app.db.read(), id).await?);
    }
    let deadline = Instant::now() + GRACE + CANCEL_WAIT;
    let mut nudges = app.bus.subscribe();
    loop {
        let asked = app
            .guests
            .call(app.driver.as_ref(), command.sandbox_id, |guest| async move {
                guest.cancel(id, guest_mode(mode), GRACE).await
            })
            .await;
        let unknown = match asked {
            Ok(_) => false,
            // Accepted, but not started inside yet: ask again until it is, or is over.
            Err(error) if error.reason() == Some(Reason::UnknownCommand) => true,
            // The sandbox went away: its end ends the command.
            Err(error) if matches!(error.kind, GuestErrorKind::Gone) => false,
            Err(source) => return Err(Error::Guest { field: "commandId", source }),
        };
        if !unknown {
            let left = deadline.saturating_duration_since(Instant::now());
            return terminal(app, caller.reach(), id, left).await;
        }
        let command = store::commands(caller.reach()).get(app.db.read(), id).await?;
        if !command.status.is_active() {
            return Ok(command);
        }
        if Instant::now() >= deadline {
            return Err(Error::NotReady);
        }
        nudges.wait(POLL / 5, |nudge| nudge == Nudge::Command(id)).await;
    }
}

/// Cancels a command whose sandbox is not up yet: nothing runs that could be signaled.
async fn cancel_queued(app: &App, command: &Command, mode: CancelMode) -> Result<bool> {
    if command.status != Status::Queued {
        return Ok(false);
    }
    let now = app.clock.now();
    let tx = app.db.begin().await?;
    let everyone = store::Everyone::for_worker("cancel");
    let canceled = store::commands(everyone).cancel_queued(&tx, command.id, mode, now).await?;
    if canceled {
        let over = Command { status: Status::Canceled, finished_at: Some(now), ..command.clone() };
        events::emit(&tx, &[events::finished(&over)], now).await?;
    }
    tx.commit().await?;
    app.bus.publish(Nudge::Command(command.id));
    Ok(canceled)
}

const fn guest_mode(mode: CancelMode) -> guest::CancelMode {
    match mode {
        CancelMode::Graceful => guest::CancelMode::Graceful,
        CancelMode::Force => guest::CancelMode::Force,
    }
}
