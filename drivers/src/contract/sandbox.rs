//! A sandbox as the cases use it, and as tests of single drivers may: made, spoken to, removed.
//! Panics where something goes wrong that the case is not about.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use chrono::DateTime;
use domain::id::{CommandId, SandboxId};
use futures_util::StreamExt as _;

use super::{Subject, new_id, spec};
use crate::{
    Driver, Spec,
    guest::{
        Existing, Exit, Guest, Output, OutputStream, Parents, Reason, StartCommand, Started,
        WatchItem, WriteOptions,
    },
};

/// How long anything in a case may take on a busy machine before the case fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// A sandbox under test.
pub struct Sandbox {
    /// The driver that made it.
    pub driver: Arc<dyn Driver>,
    /// Its id.
    pub id: SandboxId,
    /// A connection to its agent.
    pub guest: Guest,
}

/// A command that has ended.
#[derive(Debug)]
pub struct Ended {
    /// What it printed.
    pub output: Vec<Output>,
    /// How it ended.
    pub exit: Exit,
}

impl Sandbox {
    /// Makes a sandbox of the usual spec.
    pub async fn new(subject: &dyn Subject) -> Self {
        Self::with(subject.driver(), &spec()).await
    }

    /// Makes a sandbox of another spec.
    pub async fn with(driver: Arc<dyn Driver>, spec: &Spec) -> Self {
        let id = new_id();
        driver.ensure(id, spec).await.unwrap();
        let guest = Guest::connect(&*driver, id).await.unwrap();
        Self { driver, id, guest }
    }

    /// Removes it.
    pub async fn remove(self) {
        self.driver.remove(self.id).await.unwrap();
    }

    /// Starts a command line.
    pub async fn start(&self, command_line: &str) -> CommandId {
        let command = command(command_line);
        let id = command.id;
        assert_eq!(self.guest.start(command).await.unwrap(), Started::Now);
        id
    }

    /// Runs a command line to its end.
    pub async fn run(&self, command_line: &str) -> Ended {
        let id = self.start(command_line).await;
        self.end_of(id).await
    }

    /// Runs a command line that must succeed and returns what it printed.
    pub async fn printed(&self, command_line: &str) -> String {
        let ended = self.run(command_line).await;
        let complaint = ended.text(OutputStream::Stderr);
        assert_eq!(ended.exit.exit_code, 0, "{command_line}: {complaint}");
        ended.text(OutputStream::Stdout)
    }

    /// Follows a command to its end.
    pub async fn end_of(&self, id: CommandId) -> Ended {
        let mut items = self.guest.watch(id, 0).await.unwrap();
        let mut output = Vec::new();
        let following = async {
            loop {
                match items.next().await.unwrap().unwrap() {
                    WatchItem::Output(piece) => {
                        // So that no amount of output holds the command back for ever.
                        self.guest.acknowledge(id, piece.seq).await.unwrap();
                        output.push(piece);
                    }
                    WatchItem::Exit(exit) => break exit,
                }
            }
        };
        let exit = tokio::time::timeout(PATIENCE, following).await.expect("the command ends");
        assert!(items.next().await.is_none(), "nothing comes after the exit");
        Ended { output, exit }
    }

    /// Waits until a command has printed something.
    pub async fn has_printed(&self, id: CommandId) {
        let mut items = self.guest.watch(id, 0).await.unwrap();
        let first = tokio::time::timeout(PATIENCE, items.next()).await.expect("it prints");
        assert!(matches!(first, Some(Ok(WatchItem::Output(_)))), "it prints: {first:?}");
    }

    /// Writes a whole file; the error is the reason of a refusal.
    pub async fn write(&self, path: &str, bytes: &[u8]) -> Result<(), Option<Reason>> {
        let bytes = Bytes::copy_from_slice(bytes);
        let written = self.guest.write_whole(path, OVERWRITE, bytes).await;
        written.map(drop).map_err(|error| error.reason())
    }

    /// Reads a whole file; the error is the reason of a refusal.
    pub async fn read(&self, path: &str) -> Result<Bytes, Option<Reason>> {
        let read = self.guest.read_whole(path, 1 << 30).await;
        read.map(|(_, bytes)| bytes).map_err(|error| error.reason())
    }

    /// The names in a directory.
    pub async fn names(&self, path: &str) -> Vec<String> {
        let entries = self.guest.list_directory(path).await.unwrap();
        entries.into_iter().map(|entry| entry.name).collect()
    }
}

impl Ended {
    /// All that came out on one stream.
    pub fn text(&self, stream: OutputStream) -> String {
        let pieces = self.output.iter().filter(|piece| piece.stream == stream);
        pieces.map(|piece| piece.data.as_str()).collect()
    }
}

/// Replaces what is there, and makes no directories.
pub const OVERWRITE: WriteOptions =
    WriteOptions { existing: Existing::Replace, parents: Parents::Require, max_bytes: None };

/// A command in the workspace, without a timeout.
pub fn command(command_line: &str) -> StartCommand {
    StartCommand {
        id: CommandId::generate(DateTime::UNIX_EPOCH),
        command_line: command_line.to_owned(),
        cwd: None,
        env: BTreeMap::new(),
        timeout: None,
        grace: Duration::from_secs(5),
    }
}
