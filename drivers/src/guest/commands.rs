//! Commands: start, follow, acknowledge, cancel, forget. Translates between the wire and plain types.

use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::id::CommandId;
use futures_util::{StreamExt as _, stream, stream::BoxStream};
use protocol::{
    AcknowledgeRequest, CancelMode as WireMode, CancelRequest, Cause, Exit as WireExit,
    ForgetRequest, ListCommandsRequest, Output as WireOutput, StartRequest, Stream as WireStream,
    WatchEvent, WatchRequest, watch_event::Event,
};
use tonic::Streaming;

use super::{
    CALL_DEADLINE, CancelMode, Exit, ExitCause, Guest, GuestError, GuestErrorKind, Output,
    OutputStream, RememberedCommand, StartCommand, Started, TerminationSignal, WatchItem, within,
};

/// What a watch brings: output, then one exit or error, then nothing.
pub type WatchStream = BoxStream<'static, Result<WatchItem, GuestError>>;

impl Guest {
    /// Starts a command, once for each id. It runs, or has failed to start, when this returns.
    ///
    /// # Errors
    /// Refused for the cwd's reasons and `too_many_commands`.
    pub async fn start(&self, command: StartCommand) -> Result<Started, GuestError> {
        let request = StartRequest {
            command_id: command.id.to_string(),
            command_line: command.command_line,
            cwd: command.cwd.unwrap_or_default(),
            env: command.env.into_iter().collect(),
            // On the wire 0 is no timeout; none at all rounds up to the shortest.
            timeout_ms: command.timeout.map_or(0, |timeout| millis(timeout).max(1)),
            grace_ms: millis(command.grace),
        };
        let answer = within(CALL_DEADLINE, self.client.clone().start(request)).await?;
        Ok(if answer.already_started { Started::Already } else { Started::Now })
    }

    /// Follows a command from the first output after `after_seq` (or the first that is still there)
    /// to its exit. Has no deadline, but ends with an error when the connection is lost.
    ///
    /// # Errors
    /// Refused with `unknown_command`.
    pub async fn watch(&self, id: CommandId, after_seq: u64) -> Result<WatchStream, GuestError> {
        let request = WatchRequest { command_id: id.to_string(), after_seq };
        let events = within(CALL_DEADLINE, self.client.clone().watch(request)).await?;
        Ok(stream::unfold(Some(events), next_item).boxed())
    }

    /// Tells that output up to `seq` is stored, so that the agent may drop it.
    ///
    /// # Errors
    /// Refused with `unknown_command`.
    pub async fn acknowledge(&self, id: CommandId, seq: u64) -> Result<(), GuestError> {
        let request = AcknowledgeRequest { command_id: id.to_string(), seq };
        within(CALL_DEADLINE, self.client.clone().acknowledge(request)).await.map(drop)
    }

    /// Ends a command; false if it had ended already. Returns when the first signal is sent: the end
    /// is seen in a watch. `grace` means nothing with [`CancelMode::Force`].
    ///
    /// # Errors
    /// Refused with `unknown_command`.
    pub async fn cancel(
        &self,
        id: CommandId,
        mode: CancelMode,
        grace: Duration,
    ) -> Result<bool, GuestError> {
        let mode = match mode {
            CancelMode::Graceful => WireMode::Graceful,
            CancelMode::Force => WireMode::Force,
        };
        let command_id = id.to_string();
        let request = CancelRequest { command_id, mode: mode.into(), grace_ms: millis(grace) };
        Ok(within(CALL_DEADLINE, self.client.clone().cancel(request)).await?.was_running)
    }

    /// Lets the agent forget an ended command.
    ///
    /// # Errors
    /// None but those of the connection.
    pub async fn forget(&self, id: CommandId) -> Result<(), GuestError> {
        let request = ForgetRequest { command_id: id.to_string() };
        within(CALL_DEADLINE, self.client.clone().forget(request)).await.map(drop)
    }

    /// Lists the commands that the agent remembers, sorted by id.
    ///
    /// # Errors
    /// None but those of the connection.
    pub async fn list_commands(&self) -> Result<Vec<RememberedCommand>, GuestError> {
        let mut client = self.client.clone();
        let answer = within(CALL_DEADLINE, client.list_commands(ListCommandsRequest {})).await?;
        answer
            .commands
            .into_iter()
            .map(|command| {
                let id = command.command_id.parse();
                Ok(RememberedCommand {
                    id: id.map_err(|error| GuestError::new(GuestErrorKind::Protocol, error))?,
                    running: command.running,
                    last_seq: command.last_seq,
                })
            })
            .collect()
    }
}

type Events = Option<Streaming<WatchEvent>>;

async fn next_item(events: Events) -> Option<(Result<WatchItem, GuestError>, Events)> {
    let mut events = events?;
    let item = match events.message().await {
        Ok(Some(event)) => item(event),
        Ok(None) => Err(GuestError::protocol("a watch ended without an exit")),
        Err(status) => Err(status.into()),
    };
    let goes_on = matches!(item, Ok(WatchItem::Output(_)));
    Some((item, goes_on.then_some(events)))
}

fn item(event: WatchEvent) -> Result<WatchItem, GuestError> {
    match event.event {
        Some(Event::Output(output)) => read_output(output).map(WatchItem::Output),
        Some(Event::Exit(exit)) => read_exit(exit).map(WatchItem::Exit),
        None => Err(GuestError::protocol("an empty event")),
    }
}

fn read_output(output: WireOutput) -> Result<Output, GuestError> {
    let stream = match output.stream() {
        WireStream::Stdout => OutputStream::Stdout,
        WireStream::Stderr => OutputStream::Stderr,
        WireStream::Unspecified => return Err(GuestError::protocol("output of no stream")),
    };
    let at = instant(output.at_unix_micros)?;
    Ok(Output { seq: output.seq, stream, data: output.data, at })
}

fn read_exit(exit: WireExit) -> Result<Exit, GuestError> {
    let cause = match exit.cause() {
        Cause::Exited => ExitCause::Exited,
        Cause::Canceled => ExitCause::Canceled(match exit.cancel_mode() {
            WireMode::Force => CancelMode::Force,
            WireMode::Graceful | WireMode::Unspecified => CancelMode::Graceful,
        }),
        Cause::TimedOut => ExitCause::TimedOut,
        Cause::FailedToStart => ExitCause::FailedToStart(exit.error.clone()),
        Cause::Unspecified => return Err(GuestError::protocol("an exit without a cause")),
    };
    let signal = match exit.signal.as_str() {
        "SIGTERM" => Some(TerminationSignal::Terminate),
        "SIGKILL" => Some(TerminationSignal::Kill),
        _ => None,
    };
    Ok(Exit {
        last_seq: exit.last_seq,
        cause,
        exit_code: exit.exit_code,
        signal,
        started_at: instant(exit.started_at_unix_micros)?,
        finished_at: instant(exit.finished_at_unix_micros)?,
    })
}

pub(super) fn instant(unix_micros: i64) -> Result<DateTime<Utc>, GuestError> {
    DateTime::from_timestamp_micros(unix_micros)
        .ok_or_else(|| GuestError::protocol("an instant beyond the calendar"))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
