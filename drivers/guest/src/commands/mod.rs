//! Commands of the sandbox: starting them once, following their output, ending them with everything
//! they started, and remembering a bounded number of them.

mod launch;
mod processes;
mod pump;
mod reaper;
mod record;
mod supervise;
mod text;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use protocol::{CancelRequest, Reason, RememberedCommand, StartRequest};
use tokio::sync::oneshot;
use tonic::Status;

pub use self::reaper::Reaper;
use self::{
    launch::Order,
    record::{Budget, Record},
    supervise::{Cancel, Supervision},
};
use crate::{
    files::{self, Workspace},
    locked::lock,
};

const MAX_RUNNING: usize = 256;
const MAX_ENDED: usize = 1024;

/// All commands that the agent remembers.
pub struct Commands {
    table: Arc<Mutex<Table>>,
    reaper: Arc<Reaper>,
    workspace: Arc<Workspace>,
    budget: Arc<Budget>,
}

#[derive(Default)]
struct Table {
    known: HashMap<String, Known>,
    n_ended: u64,
}

struct Known {
    record: Arc<Record>,
    /// `None` while it runs; else how many had ended before it.
    ended: Option<u64>,
}

impl Commands {
    /// A table without commands.
    pub fn new(reaper: Arc<Reaper>, workspace: Arc<Workspace>) -> Self {
        Self { table: Arc::default(), reaper, workspace, budget: Arc::default() }
    }

    /// Starts a command and returns when it runs (or could not); true if its id is known already.
    pub async fn start(&self, request: StartRequest) -> Result<bool, Status> {
        let timeout = Some(request.timeout_ms).filter(|ms| *ms > 0).map(Duration::from_millis);
        let grace = Duration::from_millis(request.grace_ms);
        let cwd = if request.cwd.is_empty() { ".".to_owned() } else { request.cwd.clone() };
        let order = Order::read(request)?;
        if self.get(&order.command_id).is_ok() {
            return Ok(true);
        }
        let workspace = Arc::clone(&self.workspace);
        let cwd = files::blocking(move || workspace.open_directory(&cwd.parse()?)).await?;
        let (record, cancels) = Record::new(Arc::clone(&self.budget));
        let record = Arc::new(record);
        if !lock(&self.table).admit(&order.command_id, &record)? {
            return Ok(true);
        }
        let supervision =
            Supervision { record, reaper: Arc::clone(&self.reaper), cancels, timeout, grace };
        let table = Arc::clone(&self.table);
        let (launched, running) = oneshot::channel();
        // In a task of its own: the command does not depend on who asked for it.
        let reaper = Arc::clone(&self.reaper);
        tokio::spawn(async move {
            let id = order.command_id.clone();
            // And another one, so that there is an exit even if that has panicked.
            let exit = match tokio::spawn(supervision.run(order, cwd, launched)).await {
                Ok(exit) => exit,
                Err(error) => {
                    reaper.abandon(&id).await;
                    supervise::failed(format!("the agent has lost it: {error}"))
                }
            };
            lock(&table).end(&id, exit);
        });
        // Fails only if the command was lost, which its exit says.
        let _ = running.await;
        Ok(false)
    }

    /// The command with this id.
    pub fn get(&self, command_id: &str) -> Result<Arc<Record>, Status> {
        let known = lock(&self.table).known.get(command_id).map(|known| Arc::clone(&known.record));
        known.ok_or_else(|| Reason::UnknownCommand.status("no such command"))
    }

    /// Ends a command; false if it had ended already.
    pub async fn cancel(&self, request: CancelRequest) -> Result<bool, Status> {
        let record = self.get(&request.command_id)?;
        let (answer, was_running) = oneshot::channel();
        let grace = Duration::from_millis(request.grace_ms);
        let cancel = Cancel { mode: request.mode(), grace, answer };
        // Nobody receives once the command has ended.
        let sent = record.cancels.send(cancel).await.is_ok();
        Ok(sent && was_running.await.unwrap_or(false))
    }

    /// Drops an ended command.
    pub fn forget(&self, command_id: &str) {
        let mut table = lock(&self.table);
        if table.known.get(command_id).is_some_and(|known| known.ended.is_some()) {
            table.known.remove(command_id);
        }
    }

    /// All remembered commands, sorted by id.
    pub fn list(&self) -> Vec<RememberedCommand> {
        let table = lock(&self.table);
        let describe = |(id, known): (&String, &Known)| RememberedCommand {
            command_id: id.clone(),
            running: known.ended.is_none(),
            last_seq: known.record.last_seq(),
        };
        let mut commands: Vec<_> = table.known.iter().map(describe).collect();
        commands.sort_by(|a, b| a.command_id.cmp(&b.command_id));
        commands
    }
}

impl Table {
    /// Enters a command; false if its id is known already.
    fn admit(&mut self, command_id: &str, record: &Arc<Record>) -> Result<bool, Status> {
        if self.known.contains_key(command_id) {
            return Ok(false);
        }
        let n_running = self.known.values().filter(|known| known.ended.is_none()).count();
        if n_running >= MAX_RUNNING {
            return Err(Reason::TooManyCommands.status("too many commands are running"));
        }
        let known = Known { record: Arc::clone(record), ended: None };
        self.known.insert(command_id.to_owned(), known);
        Ok(true)
    }

    /// Notes that a command is over, and forgets another if there are too many.
    fn end(&mut self, command_id: &str, exit: protocol::Exit) {
        let serial = self.n_ended;
        self.n_ended += 1;
        if let Some(known) = self.known.get_mut(command_id) {
            known.ended = Some(serial);
            // Under the table's lock, so that one who has seen the exit can have it forgotten.
            known.record.finish(exit);
        }
        let ended = self.known.iter().filter_map(|(id, known)| {
            known.ended.map(|serial| (!known.record.is_acknowledged(), serial, id))
        });
        let (n, first) = ended.fold((0, None), |(n, first), next| {
            (n + 1, Some(first.map_or(next, |first| std::cmp::min(first, next))))
        });
        if n > MAX_ENDED
            && let Some((_, _, id)) = first
        {
            let id = id.clone();
            self.known.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(i: usize) -> String {
        format!("cmd_{i:04}")
    }

    /// Starts and ends a command that prints something or nothing; nobody acknowledges it.
    fn lives(table: &mut Table, i: usize, said: &str) {
        let (record, _) = Record::new(Arc::default());
        record.push(protocol::Stream::Stdout, said);
        assert!(table.admit(&id(i), &Arc::new(record)).unwrap());
        table.end(&id(i), protocol::Exit::default());
    }

    #[test]
    fn old_and_stored_commands_are_forgotten_first() {
        let mut table = Table::default();
        lives(&mut table, 0, "not stored");
        lives(&mut table, 1, "");
        lives(&mut table, 2, "not stored");
        lives(&mut table, 3, "");
        let (running, _) = Record::new(Arc::default());
        table.admit(&id(4), &Arc::new(running)).unwrap();
        for i in 5..MAX_ENDED + 1 {
            lives(&mut table, i, "not stored");
        }
        assert_eq!(table.known.len(), MAX_ENDED + 1, "nothing is forgotten yet");
        for (i, forgotten) in [(5000, 1), (5001, 3), (5002, 0), (5003, 2), (5004, 5)] {
            assert!(table.known.contains_key(&id(forgotten)), "{forgotten}");
            lives(&mut table, i, "not stored");
            assert!(!table.known.contains_key(&id(forgotten)), "{forgotten}");
            assert_eq!(table.known.len(), MAX_ENDED + 1);
        }
        assert!(table.known.contains_key(&id(4)), "running commands are never forgotten");
    }
}
