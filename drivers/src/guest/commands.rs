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

/// The largest piece of output.
const MAX_PIECE: usize = 64 << 10;
/// The longest text that says why a command did not start.
const MAX_ERROR: usize = 1 << 10;
/// The last microsecond of the year 9999.
const MAX_MICROS: i64 = 253_402_300_799_999_999;

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
        Ok(stream::unfold(Some((events, after_seq)), next_item).boxed())
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

/// What is still to come, and the seq of the last output.
type Events = Option<(Streaming<WatchEvent>, u64)>;

async fn next_item(events: Events) -> Option<(Result<WatchItem, GuestError>, Events)> {
    let (mut events, last_seq) = events?;
    let item = match events.message().await {
        Ok(Some(event)) => read_item(event, last_seq),
        Ok(None) => Err(GuestError::protocol("a watch ended without an exit")),
        Err(status) => Err(status.into()),
    };
    let rest = match &item {
        Ok(WatchItem::Output(output)) => Some((events, output.seq)),
        Ok(WatchItem::Exit(_)) | Err(_) => None,
    };
    Some((item, rest))
}

/// Nothing in an event is relied on: whoever is in the sandbox may have become its agent.
fn read_item(event: WatchEvent, last_seq: u64) -> Result<WatchItem, GuestError> {
    match event.event {
        Some(Event::Output(output)) => read_output(output, last_seq).map(WatchItem::Output),
        Some(Event::Exit(exit)) => read_exit(exit).map(WatchItem::Exit),
        None => Err(GuestError::protocol("an empty event")),
    }
}

fn read_output(output: WireOutput, last_seq: u64) -> Result<Output, GuestError> {
    let stream = match output.stream() {
        WireStream::Stdout => OutputStream::Stdout,
        WireStream::Stderr => OutputStream::Stderr,
        WireStream::Unspecified => return Err(GuestError::protocol("output of no stream")),
    };
    check_seq(output.seq)?;
    if output.seq <= last_seq {
        return Err(GuestError::protocol("output goes back"));
    }
    if output.data.is_empty() || output.data.len() > MAX_PIECE {
        return Err(GuestError::protocol("a piece of output of no or too many bytes"));
    }
    let at = instant(output.at_unix_micros);
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
        Cause::FailedToStart => {
            let n = exit.error.floor_char_boundary(MAX_ERROR);
            ExitCause::FailedToStart(exit.error.get(..n).unwrap_or_default().to_owned())
        }
        Cause::Unspecified => return Err(GuestError::protocol("an exit without a cause")),
    };
    let signal = match exit.signal.as_str() {
        "SIGTERM" => Some(TerminationSignal::Terminate),
        "SIGKILL" => Some(TerminationSignal::Kill),
        _ => None,
    };
    check_seq(exit.last_seq)?;
    Ok(Exit {
        last_seq: exit.last_seq,
        cause,
        exit_code: exit.exit_code,
        signal,
        started_at: instant(exit.started_at_unix_micros),
        finished_at: instant(exit.finished_at_unix_micros),
    })
}

/// Callers store seqs with a sign.
fn check_seq(seq: u64) -> Result<(), GuestError> {
    match i64::try_from(seq) {
        Ok(_) => Ok(()),
        Err(error) => Err(GuestError::new(GuestErrorKind::Protocol, error)),
    }
}

/// An instant of the years 1970 to 9999, which everybody can store and print.
pub(super) fn instant(unix_micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(unix_micros.clamp(0, MAX_MICROS)).unwrap_or_default()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(seq: u64, data: String) -> WireOutput {
        WireOutput { seq, stream: WireStream::Stdout.into(), data, at_unix_micros: i64::MIN }
    }

    #[test]
    fn output_is_not_trusted() {
        for (seq, n_bytes, fits, why) in [
            (8, 1, true, "the next one"),
            (9, MAX_PIECE, true, "one is not there any more, and it is large"),
            (7, 1, false, "the same again"),
            (0, 1, false, "no seq at all"),
            (u64::MAX, 1, false, "cannot be stored"),
            (8, 0, false, "empty"),
            (8, MAX_PIECE + 1, false, "too large"),
        ] {
            let read = read_output(output(seq, "x".repeat(n_bytes)), 7);
            assert_eq!(read.is_ok(), fits, "{why}");
            assert!(read.is_err() || read.unwrap().at == DateTime::UNIX_EPOCH, "{why}");
        }
    }

    #[test]
    fn an_exit_is_not_trusted() {
        let exit = WireExit {
            cause: Cause::FailedToStart.into(),
            error: "漢".repeat(1000),
            started_at_unix_micros: i64::MIN,
            finished_at_unix_micros: i64::MAX,
            ..WireExit::default()
        };
        let read = read_exit(exit.clone()).unwrap();
        // 341 characters of 3 bytes are the most that fit.
        assert_eq!(read.cause, ExitCause::FailedToStart("漢".repeat(341)));
        assert_eq!(read.started_at, DateTime::UNIX_EPOCH);
        assert_eq!(read.finished_at.to_rfc3339(), "9999-12-31T23:59:59.999999+00:00");
        assert!(read_exit(WireExit { last_seq: u64::MAX, ..exit }).is_err());
    }
}
