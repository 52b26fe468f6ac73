//! A command: a process in a sandbox, its statuses, its record and what a request for one must
//! satisfy. Runs nothing.

use std::{collections::BTreeMap, str::FromStr};

use chrono::{DateTime, Utc};

use crate::{
    code::{Code, Refused},
    collect::{self, CollectError, CollectStatus},
    id::{CommandId, OrganizationId, ProjectId, SandboxId},
    limits,
};

/// Where a command is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Accepted; the sandbox may not be ready yet.
    Queued,
    /// The agent was asked to start it.
    Starting,
    /// It runs.
    Running,
    /// It ended by itself.
    Exited,
    /// It could not be started, or was lost.
    Failed,
    /// It was ended by a cancel.
    Canceled,
    /// It was ended by its timeout.
    TimedOut,
    /// It was ended with its sandbox.
    Killed,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 8] = [
        Self::Queued,
        Self::Starting,
        Self::Running,
        Self::Exited,
        Self::Failed,
        Self::Canceled,
        Self::TimedOut,
        Self::Killed,
    ];
    /// The statuses that something will still leave.
    pub const ACTIVE: [Self; 3] = [Self::Queued, Self::Starting, Self::Running];

    /// The wire and storage form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Exited => "exited",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::TimedOut => "timed_out",
            Self::Killed => "killed",
        }
    }

    /// Whether the command is not over yet.
    #[must_use]
    pub fn is_active(self) -> bool {
        Self::ACTIVE.contains(&self)
    }
}

impl FromStr for Status {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(())
    }
}

/// How a command is canceled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelMode {
    /// SIGTERM, then SIGKILL after the grace time.
    Graceful,
    /// SIGKILL.
    Force,
}

impl CancelMode {
    /// The wire and storage form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Graceful => "graceful",
            Self::Force => "force",
        }
    }
}

impl FromStr for CancelMode {
    type Err = Refused;
    fn from_str(text: &str) -> Result<Self, Refused> {
        match text {
            "graceful" => Ok(Self::Graceful),
            "force" => Ok(Self::Force),
            _ => Err(Refused::invalid("mode", "mode must be graceful or force")),
        }
    }
}

/// One of the two output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum OutputStream {
    Stdout,
    Stderr,
}

impl OutputStream {
    /// The wire and storage form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

impl FromStr for OutputStream {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "stdout" => Ok(Self::Stdout),
            "stderr" => Ok(Self::Stderr),
            _ => Err(()),
        }
    }
}

/// The signal the platform ended a command with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum TerminationSignal {
    Sigterm,
    Sigkill,
}

impl TerminationSignal {
    /// The wire and storage form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sigterm => "SIGTERM",
            Self::Sigkill => "SIGKILL",
        }
    }
}

impl FromStr for TerminationSignal {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "SIGTERM" => Ok(Self::Sigterm),
            "SIGKILL" => Ok(Self::Sigkill),
            _ => Err(()),
        }
    }
}

/// The kept beginning of one output stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inline {
    /// At most [`limits::MAX_INLINE_OUTPUT_BYTES`] bytes.
    pub text: String,
    /// Whether there was more.
    pub truncated: bool,
}

impl Inline {
    /// Appends a piece as far as there is room, never cutting a character.
    pub fn push(&mut self, piece: &str) {
        if self.truncated {
            return;
        }
        let room = limits::MAX_INLINE_OUTPUT_BYTES - self.text.len();
        let cut = piece.floor_char_boundary(room);
        self.text.push_str(&piece[..cut]);
        self.truncated = cut < piece.len();
    }
}

/// A command's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Its id.
    pub id: CommandId,
    /// Whose it is.
    pub org_id: OrganizationId,
    /// The project its sandbox lies in.
    pub project_id: ProjectId,
    /// The sandbox it runs in.
    pub sandbox_id: SandboxId,
    /// The shell command line.
    pub command_line: String,
    /// The absolute working directory.
    pub cwd: String,
    /// Where it is in its life.
    pub status: Status,
    /// Whether its caller did not wait for it.
    pub background: bool,
    /// Its own timeout in milliseconds; `None` = until the sandbox ends.
    pub timeout_ms: Option<u64>,
    /// The exit code, when it ended by itself.
    pub exit_code: Option<i32>,
    /// The beginning of its output; `None` until it is over.
    pub stdout: Option<Inline>,
    /// The beginning of its error output; `None` until it is over.
    pub stderr: Option<Inline>,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// When it started in the sandbox.
    pub started_at: Option<DateTime<Utc>>,
    /// When it was over.
    pub finished_at: Option<DateTime<Utc>>,
    /// How it was canceled.
    pub cancel_mode: Option<CancelMode>,
    /// When it was canceled.
    pub canceled_at: Option<DateTime<Utc>>,
    /// The signal the platform ended it with.
    pub termination_signal: Option<TerminationSignal>,
    /// The highest stored log sequence number; 0 = none.
    pub last_seq: u64,
    /// The lowest retained one; above 1 when older chunks were dropped.
    pub first_seq: u64,
    /// What became of the files that it was asked for.
    pub collect_status: CollectStatus,
    /// Those of them that could not be had.
    pub collect_errors: Vec<CollectError>,
}

impl Command {
    /// Whether nothing of it will change any more: it is over, and so is what is collected from it.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        !self.status.is_active() && self.collect_status != CollectStatus::Pending
    }

    /// From start to end, in milliseconds.
    #[must_use]
    pub fn duration_ms(&self) -> Option<u64> {
        let (start, end) = (self.started_at?, self.finished_at?);
        u64::try_from((end - start).num_milliseconds()).ok()
    }
}

/// A checked request to run something.
#[derive(Clone, PartialEq, Eq)]
pub struct Spec {
    /// The shell command line.
    pub command_line: String,
    /// The absolute working directory.
    pub cwd: String,
    /// Environment variables. Never stored, never logged.
    pub env: BTreeMap<String, String>,
    /// The timeout in milliseconds; as asked for until [`Self::on_plan`].
    pub timeout_ms: Option<u64>,
    /// Whether the caller does not wait.
    pub background: bool,
    /// The files that it is to leave as artifacts.
    pub collect: Option<collect::Request>,
}

const MAX_ENV_BYTES: usize = 128 << 10;

impl Spec {
    /// Checks a request (contract, section 10.2).
    ///
    /// # Errors
    /// `invalid_request`, `reserved_env_key` or `path_outside_workspace`, with the field.
    pub fn parse(
        command_line: String,
        cwd: Option<String>,
        env: BTreeMap<String, String>,
        timeout_ms: Option<u64>,
        background: bool,
    ) -> Result<Self, Refused> {
        if command_line.trim().is_empty() || command_line.contains('\0') {
            return Err(Refused::invalid("command", "command must not be empty or hold a NUL"));
        }
        if command_line.len() > limits::MAX_COMMAND_BYTES {
            return Err(Refused::invalid(
                "command",
                format!("command must be at most {} bytes", limits::MAX_COMMAND_BYTES),
            ));
        }
        check_env(&env)?;
        check_timeout(timeout_ms)?;
        let cwd =
            crate::path::in_workspace(cwd.as_deref().unwrap_or(crate::path::WORKSPACE), "cwd")?;
        Ok(Self { command_line, cwd, env, timeout_ms, background, collect: None })
    }

    /// Gives it the timeout that it has on a plan, whose longest run is `max_ms`: the default if it
    /// names none and a caller waits, and never a longer one than the plan's.
    ///
    /// # Errors
    /// `invalid_request` naming `timeoutMs` if it asks for a longer one.
    pub fn on_plan(self, max_ms: Option<u64>) -> Result<Self, Refused> {
        let timeout_ms = match (self.timeout_ms, max_ms) {
            (Some(asked), Some(max)) if asked > max => {
                let text = format!("timeoutMs must be at most {max} on this plan");
                return Err(Refused::invalid("timeoutMs", text));
            }
            (Some(asked), _) => Some(asked),
            (None, max) if self.background => max,
            (None, max) => {
                let default = limits::DEFAULT_COMMAND_TIMEOUT_MS;
                Some(max.map_or(default, |max| max.min(default)))
            }
        };
        Ok(Self { timeout_ms, ..self })
    }
}

fn check_timeout(timeout_ms: Option<u64>) -> Result<(), Refused> {
    let max = limits::MAX_COMMAND_TIMEOUT_MS;
    if timeout_ms.is_some_and(|ms| ms == 0 || ms > max) {
        let text = format!("timeoutMs must be an integer from 1 to {max}");
        return Err(Refused::invalid("timeoutMs", text));
    }
    Ok(())
}

fn check_env(env: &BTreeMap<String, String>) -> Result<(), Refused> {
    for (key, value) in env {
        if key.starts_with("CROWNEST") {
            return Err(Refused::field(
                Code::ReservedEnvKey,
                "env",
                "names that start with CROWNEST are reserved",
            ));
        }
        if key.is_empty() || key.contains(['=', '\0']) || value.contains('\0') {
            return Err(Refused::invalid(
                "env",
                "env names must not be empty or hold = or NUL, values must not hold NUL",
            ));
        }
    }
    let total: usize = env.iter().map(|(key, value)| key.len() + value.len() + 2).sum();
    if total > MAX_ENV_BYTES {
        return Err(Refused::invalid(
            "env",
            format!("env must be at most {MAX_ENV_BYTES} bytes in all"),
        ));
    }
    Ok(())
}

/// Why a command was ended with its sandbox; the contract knows one value.
pub const KILLED_REASON: &str = "sandbox_destroyed";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        let check = |line: &str,
                     cwd: Option<&str>,
                     env: &[(&str, &str)],
                     timeout,
                     background,
                     wanted: Option<Code>,
                     why: &str| {
            let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let got =
                Spec::parse(line.to_owned(), cwd.map(str::to_owned), env, timeout, background);
            assert_eq!(got.err().map(|refused| refused.code), wanted, "{why}");
        };
        let invalid = Some(Code::InvalidRequest);
        check("true", None, &[], None, false, None, "the least");
        check("  \n", None, &[], None, false, invalid, "nothing to run");
        check("a\0b", None, &[], None, false, invalid, "NUL");
        check(
            "true",
            None,
            &[("CROWNEST_X", "1")],
            None,
            false,
            Some(Code::ReservedEnvKey),
            "reserved",
        );
        check("true", None, &[("a=b", "1")], None, false, invalid, "= in a name");
        check("true", None, &[], Some(600_000), false, None, "the longest");
        check("true", None, &[], Some(600_001), true, invalid, "longer");
        check("true", None, &[], Some(0), false, invalid, "zero");
        check("true", Some("/etc"), &[], None, false, Some(Code::PathOutsideWorkspace), "outside");
        check("true", Some("sub/dir"), &[], None, false, None, "relative");
    }

    #[test]
    fn timeouts_on_a_plan() {
        let on_plan = |asked, background, max| {
            let spec = Spec::parse("true".into(), None, BTreeMap::new(), asked, background);
            spec.unwrap().on_plan(max).map(|spec| spec.timeout_ms).map_err(|refused| refused.code)
        };
        let refused = Err(Code::InvalidRequest);
        for (asked, background, max, wanted, why) in [
            (None, false, None, Ok(Some(60_000)), "the default"),
            (None, true, None, Ok(None), "nobody waits"),
            (None, false, Some(5_000), Ok(Some(5_000)), "the plan's is below the default"),
            (None, false, Some(300_000), Ok(Some(60_000)), "the plan's is above the default"),
            (None, true, Some(300_000), Ok(Some(300_000)), "nobody waits, but the plan does not"),
            (Some(300_000), true, Some(300_000), Ok(Some(300_000)), "the limit itself"),
            (Some(300_001), true, Some(300_000), refused, "above the plan's"),
            (Some(300_001), false, Some(300_000), refused, "above the plan's"),
        ] {
            assert_eq!(on_plan(asked, background, max), wanted, "{why}");
        }
    }

    #[test]
    fn inline_output_is_cut_at_a_character() {
        let mut inline = Inline::default();
        inline.push(&"a".repeat(limits::MAX_INLINE_OUTPUT_BYTES - 1));
        assert!(!inline.truncated);
        inline.push("ü");
        inline.push("b");
        assert_eq!(inline.text.len(), limits::MAX_INLINE_OUTPUT_BYTES - 1);
        assert!(inline.truncated);
    }
}
