//! The only place that waits for child processes: it hands the ends of commands to whoever started
//! them and lets orphans, which come here as to a first process, go. Children are started under the
//! same lock that reaping takes, so an end is never seen before its command is known, and a number is
//! signaled only while it cannot belong to another process.

use std::{
    collections::HashMap,
    io,
    process::{Child, Command},
    sync::{Arc, Mutex},
};

use rustix::process::{Pid, WaitOptions, WaitStatus, wait};
use tokio::{
    signal::unix::Signal,
    sync::oneshot,
    task::{self, spawn_blocking},
};

use super::processes;
use crate::locked::lock;

/// Knows the main processes of all commands that run.
pub struct Reaper {
    slots: Mutex<HashMap<Pid, Slot>>,
    /// The soft limit of open files that children get back.
    pub n_files: Option<u64>,
}

struct Slot {
    command_id: String,
    /// The agent has sent a signal: when the main process ends, the others must go too.
    is_doomed: bool,
    ended: oneshot::Sender<WaitStatus>,
}

/// How to end a command's processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// SIGTERM.
    Terminate,
    /// SIGKILL.
    Kill,
}

impl Reaper {
    /// A reaper without children.
    pub fn new(n_files: Option<u64>) -> Self {
        Self { slots: Mutex::default(), n_files }
    }

    /// Reaps whenever the signal says that a child has ended. Never returns.
    pub async fn run(self: Arc<Self>, mut endings: Signal) {
        loop {
            let reaper = Arc::clone(&self);
            // It waits for the lock and may look through all processes.
            let _ = spawn_blocking(move || reaper.reap()).await;
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
            slot.is_doomed = true;
            match end {
                End::Terminate => processes::terminate(leader, &slot.command_id),
                End::Kill => processes::kill(leader, &slot.command_id),
            }
            true
        };
        task::spawn_blocking(work).await.unwrap_or(false)
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
