//! Runs one command by the simulated clock. Time inside a command passes only while it sleeps or is
//! held back, so what it prints when does not depend on how tests and tasks interleave.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use protocol::{Cause, Exit, Stream};

use super::{
    commands::{Command, Fatal},
    machine::Machine,
    shell::Shell,
};

const PIECE_BYTES: usize = 32 * 1024;

/// What a running command can do: print, sleep, ignore signals.
#[derive(Debug)]
pub(super) struct Process {
    pub machine: Arc<Machine>,
    command: Arc<Command>,
    /// The instant up to which the command has come. It lags behind the clock until it catches up.
    local_now: DateTime<Utc>,
}

impl Process {
    pub fn new(machine: Arc<Machine>, command: Arc<Command>, started_at: DateTime<Utc>) -> Self {
        Self { machine, command, local_now: started_at }
    }

    pub fn now(&self) -> DateTime<Utc> {
        self.local_now
    }

    /// Prints, or waits until what was printed before is stored elsewhere. It pauses for nothing
    /// else, so that how much a command printed when it was ended is always the same.
    pub async fn print(&mut self, stream: Stream, bytes: &[u8]) {
        for piece in bytes.chunks(PIECE_BYTES) {
            if !self.command.progress.borrow().output.has_room() {
                let mut progress = self.command.progress.subscribe();
                // The sender lives in `self`, so the wait cannot end with a closed channel.
                let _ = progress.wait_for(|progress| progress.output.has_room()).await;
                self.local_now = self.local_now.max(self.machine.now());
            }
            let now = self.local_now;
            self.command.progress.send_modify(|progress| progress.output.push(stream, piece, now));
        }
    }

    /// Sleeps until `instant`, unless a signal ends the command before or at that instant.
    pub async fn sleep_until(&mut self, instant: DateTime<Utc>) {
        self.machine.clock.reaches(instant).await;
        let mut schedule = self.command.schedule.subscribe();
        let outlives = |fatal: Option<Fatal>| fatal.is_none_or(|fatal| instant < fatal.at);
        let _ = schedule.wait_for(|schedule| outlives(schedule.fatal())).await;
        self.local_now = self.local_now.max(instant);
    }

    /// From now on only SIGKILL ends the command.
    pub fn ignore_term(&mut self) {
        self.command.schedule.send_modify(|schedule| schedule.ignores_term = true);
    }
}

/// Runs a command line to its end and records how it ended. If the sandbox ends before, nothing is
/// recorded, as nobody is left to tell.
pub(super) async fn run(mut shell: Shell, command: Arc<Command>, line: String) {
    let machine = Arc::clone(&shell.process.machine);
    let started_at = shell.process.now();
    let ended = machine.ended().clone();
    let by_signal = async {
        let mut schedule = command.schedule.subscribe();
        loop {
            let fatal = schedule.borrow_and_update().fatal();
            tokio::select! {
                // A dropped sender cannot be: `command` holds it.
                _ = schedule.changed() => {}
                fatal = reached(&machine, fatal) => break fatal,
            }
        }
    };
    // In this order: what a command does before a signal comes, it has done.
    let (fatal, exit_code) = tokio::select! {
        biased;
        () = ended.cancelled() => return,
        code = shell.run(&line) => (None, code),
        fatal = by_signal => (Some(fatal), 0),
    };
    let finished_at = fatal.map_or(shell.process.now(), |fatal| fatal.at);
    let ending = command.schedule.borrow().ending_by(finished_at);
    command.progress.send_modify(|progress| {
        progress.output.finish(finished_at);
        progress.exit = Some(Exit {
            last_seq: progress.output.last_seq(),
            cause: ending.map_or(Cause::Exited, |ending| ending.cause).into(),
            exit_code: fatal.map_or(exit_code, |fatal| fatal.exit_code()),
            signal: match (fatal, ending) {
                (Some(fatal), _) => fatal.signal.to_owned(),
                (None, Some(_)) => "SIGTERM".to_owned(),
                (None, None) => String::new(),
            },
            cancel_mode: ending.map_or(0, |ending| ending.mode.into()),
            started_at_unix_micros: started_at.timestamp_micros(),
            finished_at_unix_micros: finished_at.timestamp_micros(),
            error: String::new(),
        });
    });
}

async fn reached(machine: &Machine, fatal: Option<Fatal>) -> Fatal {
    match fatal {
        Some(fatal) => {
            machine.clock.reaches(fatal.at).await;
            fatal
        }
        None => std::future::pending().await,
    }
}

impl Fatal {
    fn exit_code(self) -> i32 {
        if self.signal == "SIGKILL" { 137 } else { 143 }
    }
}
