//! From the agent's stream of one command into the database: chunks in batches, then the end. Stops
//! without a word when the command was ended by somebody else.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use domain::{
    command::{CancelMode, Command, Inline, OutputStream, Status, TerminationSignal},
    limits::MAX_LOG_BYTES,
    sandbox::EndReason,
};
use drivers::guest::{self, Exit, ExitCause, Guest, GuestError, GuestErrorKind, WatchItem};
use futures_util::StreamExt;
use store::{
    Everyone, Tx,
    commands::{Commands, End, LogChunk},
};
use tokio::time::{Instant, timeout_at};

use crate::{
    app::{
        App,
        commands::GRACE,
        error::{Error, Result},
        events,
    },
    bus::Nudge,
    work::reconcile,
};

/// A batch waits for more output at most this long.
const LINGER: Duration = Duration::from_millis(15);
/// After its own timeout and grace, a command's end is waited for this long. An agent that does not
/// tell it by then is not well, and neither is its sandbox.
const PATIENCE: Duration = Duration::from_secs(30);
const MAX_BATCH_BYTES: usize = 256 << 10;
const MAX_BATCH_CHUNKS: usize = 500;

fn commands() -> Commands {
    store::commands(Everyone::for_worker("runner"))
}

/// Follows a command from the last stored chunk to its end.
///
/// # Errors
/// The agent's, when the stream breaks: follow again. The database's.
pub async fn follow(app: &Arc<App>, command: &Command, guest: Guest) -> Result<()> {
    let stored = commands().get(app.db.read(), command.id).await?;
    if !stored.status.is_active() {
        return Ok(());
    }
    let (stdout, stderr) = commands().heads(app.db.read(), command.id).await?;
    let (batch, heard_at) = (Vec::new(), DateTime::<Utc>::MIN_UTC);
    let mut pump = Pump { app, command, guest, stdout, stderr, batch, n_bytes: 0, heard_at };
    let watched = pump.guest.watch(command.id, stored.last_seq).await;
    let mut items = watched.map_err(|source| Error::Guest { field: "commandId", source })?;
    pump.mark_running().await?;
    let own = command.timeout_ms.map(Duration::from_millis);
    let overdue = own.and_then(|own| Instant::now().checked_add(own + GRACE + PATIENCE));
    loop {
        let linger = (!pump.batch.is_empty()).then(|| Instant::now() + LINGER);
        let next = match linger.or(overdue) {
            None => items.next().await,
            Some(until) => match timeout_at(until, items.next()).await {
                Ok(next) => next,
                Err(_) if linger.is_none() => return pump.give_up().await,
                Err(_) if pump.flush().await? => continue,
                Err(_) => return Ok(()),
            },
        };
        match next {
            Some(Ok(WatchItem::Output(output))) => {
                pump.hear(output.at);
                pump.push(LogChunk {
                    seq: output.seq,
                    stream: stream(output.stream),
                    data: output.data,
                    created_at: output.at,
                });
                if pump.is_full() && !pump.flush().await? {
                    return Ok(());
                }
            }
            Some(Ok(WatchItem::Exit(exit))) => {
                pump.hear(exit.finished_at);
                return pump.finish(exit).await;
            }
            Some(Err(source)) => {
                pump.flush().await?;
                return Err(Error::Guest { field: "commandId", source });
            }
            None => {
                pump.flush().await?;
                let source =
                    GuestError::new(GuestErrorKind::Gone, "the stream ended without an exit");
                return Err(Error::Guest { field: "commandId", source });
            }
        }
    }
}

/// Ends a command that cannot be followed: it could not be started, or was lost.
///
/// # Errors
/// When the database does not answer.
pub async fn fail(app: &App, command: &Command) -> Result<()> {
    let (stdout, stderr) = commands().heads(app.db.read(), command.id).await?;
    let end = End {
        status: Status::Failed,
        exit_code: None,
        started_at: command.started_at,
        finished_at: app.clock.now(),
        cancel_mode: None,
        canceled_at: None,
        termination_signal: None,
        stdout,
        stderr,
    };
    let tx = app.db.begin().await?;
    if commands().finish(&tx, command.id, &end).await? {
        tell(app, &tx, command, &end).await?;
    }
    tx.commit().await?;
    app.bus.publish(Nudge::Command(command.id));
    Ok(())
}

async fn tell(app: &App, tx: &Tx, command: &Command, end: &End) -> Result<()> {
    let over = Command {
        status: end.status,
        exit_code: end.exit_code,
        started_at: end.started_at.or(command.started_at),
        finished_at: Some(end.finished_at),
        ..command.clone()
    };
    events::emit(tx, &[events::finished(&over)], app.clock.now()).await
}

struct Pump<'a> {
    app: &'a Arc<App>,
    command: &'a Command,
    guest: Guest,
    stdout: Inline,
    stderr: Inline,
    batch: Vec<LogChunk>,
    n_bytes: usize,
    /// When the agent said the last that was heard of it.
    heard_at: DateTime<Utc>,
}

impl Pump<'_> {
    /// Remembers when the agent was alive. Not when that is stored, which may be long after its death if
    /// the database stalls. What it said may have waited to be read, so its own clock counts; but nobody
    /// hears of the future.
    fn hear(&mut self, said_at: DateTime<Utc>) {
        self.heard_at = said_at.min(self.app.clock.now()).max(self.heard_at);
    }

    async fn mark_running(&self) -> Result<()> {
        let now = self.app.clock.now();
        let from = [Status::Queued, Status::Starting];
        let db = self.app.db.write();
        if commands().mark(db, self.command.id, &from, Status::Running, Some(now)).await? {
            self.app.bus.publish(Nudge::Command(self.command.id));
        }
        Ok(())
    }

    fn push(&mut self, chunk: LogChunk) {
        self.n_bytes += chunk.data.len();
        self.batch.push(chunk);
    }

    fn is_full(&self) -> bool {
        self.n_bytes >= MAX_BATCH_BYTES || self.batch.len() >= MAX_BATCH_CHUNKS
    }

    /// Moves the batch into the inline heads.
    fn take_batch(&mut self) -> Vec<LogChunk> {
        self.n_bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        for chunk in &batch {
            match chunk.stream {
                OutputStream::Stdout => self.stdout.push(&chunk.data),
                OutputStream::Stderr => self.stderr.push(&chunk.data),
            }
        }
        batch
    }

    /// Stores the batch; `false` when the command was ended meanwhile.
    async fn flush(&mut self) -> Result<bool> {
        let batch = self.take_batch();
        let Some(last) = batch.last().map(|chunk| chunk.seq) else { return Ok(true) };
        let tx = self.app.db.begin().await?;
        let active = commands().append_logs(&tx, self.command.id, &batch).await?;
        if active {
            commands().evict_logs(&tx, self.command.id, MAX_LOG_BYTES).await?;
        }
        tx.commit().await?;
        self.app.sightings.note(self.command.sandbox_id, self.heard_at);
        self.app.bus.publish(Nudge::Command(self.command.id));
        if active {
            let acknowledged = self.guest.acknowledge(self.command.id, last).await;
            acknowledged.map_err(|source| Error::Guest { field: "commandId", source })?;
        }
        Ok(active)
    }

    /// Ends the sandbox of a command that nobody ends: its agent can be trusted with nothing more.
    async fn give_up(self) -> Result<()> {
        tracing::error!("a command went on after its timeout: ending its sandbox");
        let everyone = store::sandboxes(Everyone::for_worker("runner"));
        let sandbox = everyone.get(self.app.db.read(), self.command.sandbox_id).await?;
        if !sandbox.phase.is_live() {
            return Ok(());
        }
        reconcile::end(self.app, &sandbox, EndReason::PlatformCleanup).await
    }

    async fn finish(mut self, exit: Exit) -> Result<()> {
        let batch = self.take_batch();
        let end = end_of(&exit, self.stdout, self.stderr);
        let tx = self.app.db.begin().await?;
        if commands().append_logs(&tx, self.command.id, &batch).await? {
            commands().evict_logs(&tx, self.command.id, MAX_LOG_BYTES).await?;
            if commands().finish(&tx, self.command.id, &end).await? {
                tell(self.app, &tx, self.command, &end).await?;
            }
        }
        tx.commit().await?;
        // Not inside: a kill takes the sandbox's row first and its commands' second.
        let everyone = store::sandboxes(Everyone::for_worker("runner"));
        let now = self.app.clock.now();
        everyone.touch_activity(self.app.db.write(), self.command.sandbox_id, now).await?;
        self.app.sightings.note(self.command.sandbox_id, self.heard_at);
        self.app.bus.publish(Nudge::Command(self.command.id));
        // Only memory is at stake: the agent forgets by itself in time.
        if let Err(error) = self.guest.forget(self.command.id).await {
            tracing::debug!(%error, "the agent could not be told to forget a command");
        }
        Ok(())
    }
}

fn end_of(exit: &Exit, stdout: Inline, stderr: Inline) -> End {
    let (status, mode) = match &exit.cause {
        ExitCause::Exited => (Status::Exited, None),
        ExitCause::Canceled(guest::CancelMode::Graceful) => {
            (Status::Canceled, Some(CancelMode::Graceful))
        }
        ExitCause::Canceled(guest::CancelMode::Force) => {
            (Status::Canceled, Some(CancelMode::Force))
        }
        ExitCause::TimedOut => (Status::TimedOut, None),
        ExitCause::FailedToStart(reason) => {
            tracing::warn!(reason, "a command could not be started");
            (Status::Failed, None)
        }
    };
    let signal = exit.signal.filter(|_| status != Status::Exited);
    End {
        status,
        exit_code: (status == Status::Exited).then_some(exit.exit_code),
        started_at: Some(exit.started_at),
        finished_at: exit.finished_at,
        cancel_mode: mode,
        canceled_at: mode.map(|_| exit.finished_at),
        termination_signal: signal.map(|signal| match signal {
            guest::TerminationSignal::Terminate => TerminationSignal::Sigterm,
            guest::TerminationSignal::Kill => TerminationSignal::Sigkill,
        }),
        stdout,
        stderr,
    }
}

const fn stream(stream: guest::OutputStream) -> OutputStream {
    match stream {
        guest::OutputStream::Stdout => OutputStream::Stdout,
        guest::OutputStream::Stderr => OutputStream::Stderr,
    }
}
