//! The life of one command from its start to its exit: starts it, has its output read, ends it when
//! it is asked to or its time is over, and says how it ended. Keeps nothing itself.

use std::{os::fd::OwnedFd, sync::Arc, time::Duration};

use protocol::{CancelMode, Cause, Exit};
use rustix::process::{Pid, WaitStatus};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, sleep_until},
};

use super::{
    launch::{Main, Order},
    pump::pump,
    reaper::{End, Reaper},
    record::Record,
};
use crate::clock;

/// A wish to end a command.
pub struct Cancel {
    /// How.
    pub mode: CancelMode,
    /// With `GRACEFUL`: how long it has.
    pub grace: Duration,
    /// Told when the first signal is sent: whether the command was running.
    pub answer: oneshot::Sender<bool>,
}

/// What is needed to look after one command.
pub struct Supervision {
    /// Where its output goes.
    pub record: Arc<Record>,
    /// Who starts, signals and reaps it.
    pub reaper: Arc<Reaper>,
    /// The wishes to end it.
    pub cancels: mpsc::Receiver<Cancel>,
    /// How long it may run.
    pub timeout: Option<Duration>,
    /// How long it has after that.
    pub grace: Duration,
}

/// The exit of a command that could not be started.
pub fn failed(error: String) -> Exit {
    let now = clock::unix_micros();
    Exit {
        cause: Cause::FailedToStart.into(),
        error,
        started_at_unix_micros: now,
        finished_at_unix_micros: now,
        ..Exit::default()
    }
}

/// How the agent came to end the command, if it did.
#[derive(Default)]
struct Ending {
    cause: Option<Cause>,
    mode: CancelMode,
    strongest: Option<End>,
    kill_at: Option<Instant>,
}

impl Supervision {
    /// Runs the command to its end. `launched` is told when it runs or could not be started.
    pub async fn run(self, order: Order, cwd: OwnedFd, launched: oneshot::Sender<()>) -> Exit {
        let started_at_unix_micros = clock::unix_micros();
        let id = order.command_id.clone();
        let main = order.launch(&self.reaper, cwd).await;
        // The caller may be gone, which does not matter to the command.
        let _ = launched.send(());
        let exit = match main {
            Ok(main) => self.look_after(main).await,
            Err(error) => {
                // It may have got half way.
                self.reaper.abandon(&id).await;
                failed(error.to_string())
            }
        };
        Exit { started_at_unix_micros, ..exit }
    }

    async fn look_after(self, main: Main) -> Exit {
        let Main { pid, stdout, stderr, ended } = main;
        let record = Arc::clone(&self.record);
        let (exited, has_exited) = oneshot::channel();
        let until_exit = async {
            let (status, ending) = self.wait(pid, ended).await;
            let finished_at = clock::unix_micros();
            let _ = exited.send(());
            (status, ending, finished_at)
        };
        let ((status, ending, finished_at_unix_micros), ()) =
            tokio::join!(until_exit, pump(&record, stdout, stderr, has_exited));
        Exit {
            cause: ending.cause.unwrap_or(Cause::Exited).into(),
            exit_code: status.map_or(-1, exit_code),
            signal: ending.strongest.map_or("", signal_name).to_owned(),
            cancel_mode: ending.mode.into(),
            finished_at_unix_micros,
            ..Exit::default()
        }
    }

    /// Waits for the main process, and ends it when it has to be.
    async fn wait(
        mut self,
        pid: Pid,
        mut ended: oneshot::Receiver<WaitStatus>,
    ) -> (Option<WaitStatus>, Ending) {
        let mut ending = Ending::default();
        let time_is_over = sleep(self.timeout.unwrap_or(Duration::MAX));
        tokio::pin!(time_is_over);
        loop {
            tokio::select! {
                biased;
                status = &mut ended => return (status.ok(), ending),
                Some(cancel) = self.cancels.recv() => {
                    let was_running = ending.cancel(&self.reaper, pid, &cancel).await;
                    // The one who asked may be gone.
                    let _ = cancel.answer.send(was_running);
                }
                () = &mut time_is_over, if ending.cause.is_none() => {
                    ending.time_out(&self.reaper, pid, self.grace).await;
                }
                () = until(ending.kill_at) => {
                    ending.kill_at = None;
                    ending.send(&self.reaper, pid, End::Kill).await;
                }
            }
        }
    }
}

impl Ending {
    async fn cancel(&mut self, reaper: &Arc<Reaper>, pid: Pid, cancel: &Cancel) -> bool {
        let end = match cancel.mode {
            CancelMode::Force => End::Kill,
            CancelMode::Graceful | CancelMode::Unspecified => End::Terminate,
        };
        if !self.send(reaper, pid, end).await {
            return false;
        }
        // A command that is out of time stays timed out, whoever cancels it then.
        if *self.cause.get_or_insert(Cause::Canceled) == Cause::Canceled {
            let mode = if end == End::Kill { CancelMode::Force } else { CancelMode::Graceful };
            self.mode = std::cmp::max(self.mode, mode);
        }
        if end == End::Terminate {
            self.kill_after(cancel.grace);
        }
        true
    }

    async fn time_out(&mut self, reaper: &Arc<Reaper>, pid: Pid, grace: Duration) {
        // Noted even if the process is just ending by itself, so that this is not asked again; then
        // its end comes next and was within the time.
        if self.send(reaper, pid, End::Terminate).await {
            self.cause = Some(Cause::TimedOut);
            self.kill_after(grace);
        } else {
            self.cause = Some(Cause::Exited);
        }
    }

    /// A second wish can only bring the end nearer.
    fn kill_after(&mut self, grace: Duration) {
        let at = Instant::now().checked_add(grace);
        self.kill_at = match (self.kill_at, at) {
            (Some(earlier), Some(at)) => Some(earlier.min(at)),
            (earlier, at) => earlier.or(at),
        };
    }

    async fn send(&mut self, reaper: &Arc<Reaper>, pid: Pid, end: End) -> bool {
        let was_running = reaper.end(pid, end).await;
        if was_running && self.strongest != Some(End::Kill) {
            self.strongest = Some(end);
        }
        was_running
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn exit_code(status: WaitStatus) -> i32 {
    let signaled = || status.terminating_signal().map(|signal| 128 + signal);
    status.exit_status().or_else(signaled).unwrap_or(-1)
}

fn signal_name(end: End) -> &'static str {
    match end {
        End::Terminate => "SIGTERM",
        End::Kill => "SIGKILL",
    }
}
