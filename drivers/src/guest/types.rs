//! What the client takes and gives: plain Rust, with the domain's ids and chrono's instants. No type
//! of the wire gets out.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use domain::id::CommandId;

/// The agent's answer to a greeting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Another one at each start of the agent: commands of an earlier one are lost.
    pub boot_id: String,
}

/// A command to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartCommand {
    /// Its id; a second start with the same one starts nothing.
    pub id: CommandId,
    /// A shell command line.
    pub command_line: String,
    /// Where; `None` is the workspace.
    pub cwd: Option<String>,
    /// Merged over the environment of the sandbox.
    pub env: BTreeMap<String, String>,
    /// How long it may run.
    pub timeout: Option<Duration>,
    /// How long it has after that, between SIGTERM and SIGKILL.
    pub grace: Duration,
}

/// Whether a start has started something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    /// It has.
    Now,
    /// The command was started earlier.
    Already,
}

/// Where output came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A piece of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// 1, 2, 3 ... without gaps, over both streams.
    pub seq: u64,
    /// Where it came out.
    pub stream: OutputStream,
    /// Its text; no character is split across two pieces.
    pub data: String,
    /// When it was read.
    pub at: DateTime<Utc>,
}

/// What a watch brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchItem {
    /// A piece of output.
    Output(Output),
    /// The last item.
    Exit(Exit),
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// The seq of its last output, 0 if it had none.
    pub last_seq: u64,
    /// Why it ended.
    pub cause: ExitCause,
    /// What its main process returned, 128 + n after a signal n. Means nothing unless it `Exited`.
    pub exit_code: i32,
    /// The strongest signal that it was sent.
    pub signal: Option<TerminationSignal>,
    /// When it was started.
    pub started_at: DateTime<Utc>,
    /// When its main process ended.
    pub finished_at: DateTime<Utc>,
}

/// Why a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitCause {
    /// By itself.
    Exited,
    /// It was canceled; the mode is the stronger one if it was canceled twice.
    Canceled(CancelMode),
    /// Its time was over.
    TimedOut,
    /// No shell could be started, for this reason (for logs).
    FailedToStart(String),
}

/// A signal that the agent ends commands with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TerminationSignal {
    /// SIGTERM.
    Terminate,
    /// SIGKILL.
    Kill,
}

impl TerminationSignal {
    /// The name that users know.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Terminate => "SIGTERM",
            Self::Kill => "SIGKILL",
        }
    }
}

/// How to end a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelMode {
    /// SIGTERM, and SIGKILL after the grace.
    Graceful,
    /// SIGKILL at once.
    Force,
}

/// A command that the agent remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RememberedCommand {
    /// Its id.
    pub id: CommandId,
    /// Whether its exit is still to come.
    pub running: bool,
    /// The seq of its last output so far.
    pub last_seq: u64,
}

/// A file or a directory; other things appear as files of 0 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A file.
    File,
    /// A directory.
    Directory,
}

/// A file or directory as the user sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStat {
    /// Absolute, below `/workspace`.
    pub path: String,
    /// The last part of the path.
    pub name: String,
    /// Which of the two.
    pub kind: FileKind,
    /// 0 for directories.
    pub size_bytes: u64,
    /// When it was changed last.
    pub modified_at: DateTime<Utc>,
}

/// What happens to something that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It is replaced.
    Replace,
    /// The call is refused: `already_exists`.
    Refuse,
}

/// What happens when a directory on the way is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parents {
    /// It is made.
    Make,
    /// The call is refused: `parent_not_found`.
    Require,
}

/// How to write a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteOptions {
    /// What happens to a file that is there already.
    pub existing: Existing,
    /// What happens when its directory is missing.
    pub parents: Parents,
    /// More bytes are refused: `file_too_large`. A limit of 0 counts as 1.
    pub max_bytes: Option<u64>,
}
