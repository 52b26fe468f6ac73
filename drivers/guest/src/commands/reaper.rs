//! The only place that waits for child processes: it hands the ends of commands to whoever started
//! them and lets orphans, which come here as to a first process, go. Children are started under the
//! same lock that reaping takes, so an end is never seen before its command is known, and a number is
//! signaled only while it cannot belong to another process. Works on one thread that is made at the
//! start, because commands may use up all processes that the sandbox may have, and threads count.

use std::{
    collections::HashMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    process::{Child, Command},
    sync::{Arc, Mutex, mpsc},
    thread,
};

use rustix::process::{Pid, WaitOptions, WaitStatus, wait};
use tokio::{signal::unix::Signal, sync::oneshot};

use super::processes;
use crate::locked::lock;

/// Knows the main processes of all commands that run.
pub struct Reaper {
    slots: Mutex<HashMap<Pid, Slot>>,
    work: mpsc::Sender<Work>,
    /// The soft limit of open files that children get back.
    pub n_files: Option<u64>,
}

struct Slot {
    command_id: String,
    /// The agent has sent a signal: when the main process ends, the others must go too.
    is_doomed: bool,
    ended: oneshot::Sender<WaitStatus>,
}

/// What the thread does: it waits for the lock and may look through all processes.
type Work = Box<dyn FnOnce() + Send>;

/// How to end a command's processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// SIGTERM.
    Terminate,
    /// SIGKILL.
    Kill,
}

impl Reaper {
    /// A reaper without children, and its thread.
    ///
    /// # Errors
    /// No thread can be made.
    pub fn new(n_files: Option<u64>) -> io::Result<Self> {
        let (work, orders) = mpsc::channel::<Work>();
        thread::Builder::new().name("reaper".to_owned()).spawn(move || {
            for work in orders {
                // The next one must be done whatever happens to this one; who waits for it sees that
                // there is no answer.
                let _ = catch_unwind(AssertUnwindSafe(work));
            }
        })?;
        Ok(Self { slots: Mutex::default(), work, n_files })
    }

    /// Reaps whenever the signal says that a child has ended. Never returns.
    pub async fn run(self: Arc<Self>, mut endings: Signal) {
        loop {
            let reaper = Arc::clone(&self);
            // Waited for, so that no more than one such order is in the queue.
            let _ = self.order(move || reaper.reap()).await;
            if endings.recv().await.is_none() {
                return;
            }
        }
    }

    /// Starts the main process of a command. Blocks until the new process has begun.
    pub fn spawn(
        &self,
        mut command: Command,
        command_id: &str,
    ) -> io::Result<(Child, oneshot::Receiver<WaitStatus>)> {
        // The standard library waits for a child itself if it cannot be started; the lock keeps
        // `reap` from taking that end away.
        let mut slots = lock(&self.slots);
        let child = command.spawn()?;
        let (ended, end) = oneshot::channel();
        let slot = Slot { command_id: command_id.to_owned(), is_doomed: false, ended };
        slots.insert(Pid::from_child(&child), slot);
        Ok((child, end))
    }

    /// Signals all processes of a command; false if its main process has ended.
    pub async fn end(self: &Arc<Self>, leader: Pid, end: End) -> bool {
        let reaper = Arc::clone(self);
        let work = move || {
            let mut slots = lock(&reaper.slots);
            let Some(slot) = slots.get_mut(&leader) else { return false };
            slot.signal(leader, end);
            true
        };
        // Without an answer nothing says that it has ended, so it will be asked again.
        self.order(work).await.unwrap_or(true)
    }

    /// Kills a command that nobody looks after any more, if it has a main process.
    pub async fn abandon(self: &Arc<Self>, command_id: &str) {
        let reaper = Arc::clone(self);
        let command_id = command_id.to_owned();
        let work = move || {
            let mut slots = lock(&reaper.slots);
            for (leader, slot) in slots.iter_mut().filter(|(_, it)| it.command_id == command_id) {
                slot.signal(*leader, End::Kill);
            }
        };
        let _ = self.order(work).await;
    }

    /// Has work done on the thread; fails if it has panicked.
    async fn order<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, oneshot::error::RecvError> {
        let (answer, done) = oneshot::channel();
        // Nobody may be interested any more. The thread lives as long as `self`.
        let _ = self.work.send(Box::new(move || drop(answer.send(work()))));
        done.await
    }

    fn reap(&self) {
        loop {
            let mut slots = lock(&self.slots);
            // No children, or none that has ended.
            let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) else { return };
            let Some(slot) = slots.remove(&pid) else { continue };
            if slot.is_doomed {
                // Numbers are given out in a circle, so this one has not come round again yet.
                processes::kill(pid, &slot.command_id);
            }
            // Nobody may be interested any more.
            let _ = slot.ended.send(status);
        }
    }
}

impl Slot {
    fn signal(&mut self, leader: Pid, end: End) {
        self.is_doomed = true;
        match end {
            End::Terminate => processes::terminate(leader, &self.command_id),
            End::Kill => processes::kill(leader, &self.command_id),
        }
    }
}
