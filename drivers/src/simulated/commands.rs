//! The commands that a sandbox remembers: their output, when they are to end, and how they ended.
//! Runs nothing itself; `process` does.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use chrono::{DateTime, Utc};
use protocol::{CancelMode, Cause, Exit, Reason, RememberedCommand};
use tokio::sync::watch;

use super::{clock::later, output::Buffer};

const MAX_RUNNING: usize = 256;

/// A command, running or ended.
#[derive(Debug)]
pub(super) struct Command {
    pub progress: watch::Sender<Progress>,
    pub schedule: watch::Sender<Schedule>,
}

/// What a command has done so far.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub output: Buffer,
    pub exit: Option<Exit>,
}

/// When a command is to end, if it does not by itself before.
#[derive(Debug, Default, Clone)]
pub(super) struct Schedule {
    ending: Option<Ending>,
    term_at: Option<DateTime<Utc>>,
    kill_at: Option<DateTime<Utc>>,
    /// Set by the command itself: only SIGKILL ends it.
    pub ignores_term: bool,
}

/// Why a command is made to end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ending {
    pub at: DateTime<Utc>,
    pub cause: Cause,
    pub mode: CancelMode,
}

/// The signal that ends a command, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fatal {
    pub at: DateTime<Utc>,
    pub signal: &'static str,
}

impl Schedule {
    /// A command that ends at its timeout; zero means that it has none.
    pub fn with_timeout(started_at: DateTime<Utc>, timeout: Duration, grace: Duration) -> Self {
        if timeout.is_zero() {
            return Self::default();
        }
        let at = later(started_at, timeout);
        let (cause, mode) = (Cause::TimedOut, CancelMode::Unspecified);
        Self {
            ending: Some(Ending { at, cause, mode }),
            term_at: Some(at),
            kill_at: Some(later(at, grace)),
            ignores_term: false,
        }
    }

    /// Brings the end forward. The first reason to end stays the cause.
    pub fn cancel(&mut self, now: DateTime<Utc>, mode: CancelMode, grace: Duration) {
        let force = mode == CancelMode::Force;
        let kill_at = if force { now } else { later(now, grace) };
        match &mut self.ending {
            Some(ending) if ending.at <= now => {
                if force && ending.cause == Cause::Canceled {
                    ending.mode = mode;
                }
                self.kill_at = Some(self.kill_at.map_or(kill_at, |at| at.min(kill_at)));
            }
            Some(_) | None => {
                self.ending = Some(Ending { at: now, cause: Cause::Canceled, mode });
                self.term_at = (!force).then_some(now);
                self.kill_at = Some(kill_at);
            }
        }
    }

    /// The first signal that the command will not outlive.
    pub fn fatal(&self) -> Option<Fatal> {
        let term = self.term_at.filter(|_| !self.ignores_term);
        let term = term.map(|at| Fatal { at, signal: "SIGTERM" });
        let kill = self.kill_at.map(|at| Fatal { at, signal: "SIGKILL" });
        match (term, kill) {
            (Some(term), Some(kill)) => Some(if kill.at < term.at { kill } else { term }),
            (term, kill) => term.or(kill),
        }
    }

    /// The reason to end that was there at `instant`.
    pub fn ending_by(&self, instant: DateTime<Utc>) -> Option<Ending> {
        self.ending.filter(|ending| ending.at <= instant)
    }
}

impl Command {
    pub fn new(schedule: Schedule) -> Self {
        Self {
            progress: watch::Sender::new(Progress::default()),
            schedule: watch::Sender::new(schedule),
        }
    }

    pub fn is_running(&self) -> bool {
        self.progress.borrow().exit.is_none()
    }
}

/// All commands that a sandbox remembers.
#[derive(Debug, Default)]
pub(super) struct Commands(Mutex<BTreeMap<String, Arc<Command>>>);

impl Commands {
    pub fn get(&self, id: &str) -> Result<Arc<Command>, Reason> {
        self.lock().get(id).cloned().ok_or(Reason::UnknownCommand)
    }

    /// Remembers a new command; `None` when there is one of that id already.
    pub fn add(&self, id: &str, schedule: Schedule) -> Result<Option<Arc<Command>>, Reason> {
        let mut commands = self.lock();
        if commands.contains_key(id) {
            return Ok(None);
        }
        if commands.values().filter(|command| command.is_running()).count() >= MAX_RUNNING {
            return Err(Reason::TooManyCommands);
        }
        let command = Arc::new(Command::new(schedule));
        commands.insert(id.to_owned(), Arc::clone(&command));
        Ok(Some(command))
    }

    /// Forgets a command that has ended.
    pub fn forget(&self, id: &str) {
        let mut commands = self.lock();
        if commands.get(id).is_some_and(|command| !command.is_running()) {
            commands.remove(id);
        }
    }

    pub fn list(&self) -> Vec<RememberedCommand> {
        let commands = self.lock();
        let describe = |(id, command): (&String, &Arc<Command>)| RememberedCommand {
            command_id: id.clone(),
            running: command.is_running(),
            last_seq: command.progress.borrow().output.last_seq(),
        };
        commands.iter().map(describe).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Command>>> {
        self.0.lock().expect("nobody panics while holding it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    #[test]
    fn the_earliest_signal_that_is_not_ignored_ends_a_command() {
        let second = Duration::from_secs(1);
        let timeout = Schedule::with_timeout(at(0), 10 * second, 5 * second);
        let fatal = |schedule: &Schedule| schedule.fatal().map(|fatal| (fatal.at, fatal.signal));
        let cause = |schedule: &Schedule, when| schedule.ending_by(when).map(|ending| ending.cause);

        assert_eq!(fatal(&Schedule::default()), None, "no timeout");
        assert_eq!(fatal(&timeout), Some((at(10), "SIGTERM")), "timeout");
        assert_eq!(cause(&timeout, at(9)), None, "not yet");

        let ignoring = Schedule { ignores_term: true, ..timeout.clone() };
        assert_eq!(fatal(&ignoring), Some((at(15), "SIGKILL")), "grace is over");

        let mut canceled = timeout.clone();
        canceled.cancel(at(3), CancelMode::Force, second);
        assert_eq!(fatal(&canceled), Some((at(3), "SIGKILL")), "force knows no grace");
        assert_eq!(cause(&canceled, at(3)), Some(Cause::Canceled));

        let mut late = ignoring.clone();
        late.cancel(at(11), CancelMode::Force, second);
        assert_eq!(fatal(&late), Some((at(11), "SIGKILL")), "cancel after the timeout hurries it");
        assert_eq!(cause(&late, at(11)), Some(Cause::TimedOut), "but the timeout was first");
    }
}
