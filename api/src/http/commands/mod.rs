//! Commands on the wire (contract, section 10): run, start, get, cancel. Their output is in `logs`.

pub mod logs;
mod sse;

use std::collections::BTreeMap;

use poem_openapi::{Object, OpenApi, param::Path};
use serde::Deserialize;

use chrono::{DateTime, Utc};
use domain::{
    Refused,
    collect::{self, CollectCode, CollectError, CollectOn, CollectStatus},
    command::{self, CancelMode, Command, KILLED_REASON, Spec, Status, TerminationSignal},
    id::{CommandId, SandboxId},
    scope::Scope,
};

use super::{
    Tag,
    error::ApiError,
    extract::{Auth, IdempotencyKey, JsonBody},
    responses::{Json, Stored, print},
    wire::Wire,
};
use crate::app::commands;

/// A process in a sandbox.
#[derive(Debug, Object)]
#[oai(rename = "Command", rename_all = "camelCase", skip_serializing_if_is_none)]
struct CommandView {
    id: Wire<CommandId>,
    sandbox_id: Wire<SandboxId>,
    /// The shell command line.
    command: String,
    cwd: String,
    /// Always empty: the values that a command is given are not kept.
    env: BTreeMap<String, String>,
    status: Wire<command::Status>,
    /// Present when it ended by itself.
    exit_code: Option<i32>,
    /// The beginning of its output, present once it is over.
    stdout: Option<String>,
    /// The beginning of its error output, present once it is over.
    stderr: Option<String>,
    /// Present and true when there was more output than `stdout` holds; the log has it.
    stdout_truncated: Option<bool>,
    /// As `stdoutTruncated`.
    stderr_truncated: Option<bool>,
    created_at: Wire<DateTime<Utc>>,
    started_at: Option<Wire<DateTime<Utc>>>,
    finished_at: Option<Wire<DateTime<Utc>>>,
    duration_ms: Option<u64>,
    cancel_mode: Option<Wire<CancelMode>>,
    canceled_at: Option<Wire<DateTime<Utc>>>,
    /// The signal that the platform ended it with.
    termination_signal: Option<Wire<TerminationSignal>>,
    killed_reason: Option<String>,
    /// What became of the files that it was asked to leave as artifacts.
    collect_status: Wire<CollectStatus>,
    /// Those of them that could not be had.
    collect_errors: Option<Vec<CollectErrorView>>,
}

/// A file that could not be left as an artifact.
#[derive(Debug, Object)]
#[oai(rename = "CollectError")]
struct CollectErrorView {
    /// Why, for programs.
    code: Wire<CollectCode>,
    /// Why, for people.
    message: String,
    /// The path as it was asked for.
    path: String,
}

impl From<&CollectError> for CollectErrorView {
    fn from(error: &CollectError) -> Self {
        let CollectError { code, message, path } = error;
        Self { code: Wire(*code), message: message.clone(), path: path.clone() }
    }
}

impl From<&Command> for CommandView {
    fn from(command: &Command) -> Self {
        let (stdout, stderr) = (command.stdout.as_ref(), command.stderr.as_ref());
        let killed = command.status == Status::Killed;
        Self {
            id: Wire(command.id),
            sandbox_id: Wire(command.sandbox_id),
            command: command.command_line.clone(),
            cwd: command.cwd.clone(),
            env: BTreeMap::new(),
            status: Wire(command.status),
            exit_code: command.exit_code,
            stdout: stdout.map(|inline| inline.text.clone()),
            stderr: stderr.map(|inline| inline.text.clone()),
            stdout_truncated: stdout.filter(|inline| inline.truncated).map(|_| true),
            stderr_truncated: stderr.filter(|inline| inline.truncated).map(|_| true),
            created_at: Wire(command.created_at),
            started_at: command.started_at.map(Wire),
            finished_at: command.finished_at.map(Wire),
            duration_ms: command.duration_ms(),
            cancel_mode: command.cancel_mode.map(Wire),
            canceled_at: command.canceled_at.map(Wire),
            termination_signal: command.termination_signal.map(Wire),
            killed_reason: killed.then(|| KILLED_REASON.to_owned()),
            collect_status: Wire(command.collect_status),
            collect_errors: (!command.collect_errors.is_empty())
                .then(|| command.collect_errors.iter().map(CollectErrorView::from).collect()),
        }
    }
}

/// One command.
#[derive(Debug, Object)]
struct CommandResponse {
    command: CommandView,
}

/// What to run.
#[derive(Debug, Object, Deserialize)]
#[oai(rename = "RunCommandBody", rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
struct RunCommand {
    /// A shell command line.
    #[oai(validator(min_length = 1, max_length = 131_072))]
    command: String,
    /// The working directory, absolute or relative to `/workspace`, which is the default.
    #[oai(validator(min_length = 1, max_length = 4096))]
    cwd: Option<String>,
    /// Environment variables, besides those that every command gets. Never kept.
    env: Option<BTreeMap<String, String>>,
    /// Ends the command. One that is waited for has 60000 if nothing is said; one in the background
    /// has none.
    #[oai(validator(minimum(value = "1"), maximum(value = "600000")))]
    timeout_ms: Option<u64>,
    /// Files to keep as artifacts after the end; only for a command that is waited for.
    #[oai(validator(max_items = 100))]
    collect: Option<Vec<CollectItem>>,
    /// Whether to keep them only after exit code 0, which is the default, or after every end.
    collect_on: Option<Wire<CollectOn>>,
    /// Whether to answer without waiting for the end; only at `/commands`.
    background: Option<bool>,
    /// Tells that the caller will read the command, so that a key that may not is refused at once.
    #[oai(skip)]
    #[serde(rename = "_crownestRequireCommandRead")]
    require_command_read: Option<bool>,
}

/// A file to keep.
#[derive(Debug, Object, Deserialize)]
#[oai(rename = "CollectItem")]
struct CollectItem {
    /// Absolute below `/workspace`, or relative to the command's directory or else to `/workspace`.
    #[oai(validator(min_length = 1, max_length = 4096))]
    path: String,
    /// What the artifact is called; by default as the file.
    #[oai(validator(min_length = 1, max_length = 255))]
    name: Option<String>,
}

impl From<CollectItem> for collect::Item {
    fn from(item: CollectItem) -> Self {
        Self { path: item.path, name: item.name }
    }
}

/// Whether a caller waits for a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    Foreground,
    Background,
}

impl RunCommand {
    fn check(self, caller: &Auth, wait: Wait) -> Result<Spec, ApiError> {
        if self.require_command_read == Some(true) {
            caller.must_also(Scope::CommandRead)?;
        }
        let background = wait == Wait::Background;
        if background && (self.collect.is_some() || self.collect_on.is_some()) {
            let text = "collect is only for commands that are waited for";
            return Err(Refused::invalid("collect", text).into());
        }
        let items: Vec<_> = self.collect.into_iter().flatten().map(collect::Item::from).collect();
        if !items.is_empty() {
            caller.must_also(Scope::ArtifactCreate)?;
        }
        let on = self.collect_on.map(|on| on.0);
        let collect = collect::Request::parse(items, on, caller.key.id)?;
        let env = self.env.unwrap_or_default();
        let spec = Spec::parse(self.command, self.cwd, env, self.timeout_ms, background)?;
        Ok(Spec { collect, ..spec })
    }
}

/// How to cancel.
#[derive(Debug, Object, Deserialize)]
#[oai(rename = "CancelCommandBody")]
struct CancelCommand {
    /// `graceful`, the default: SIGTERM, and SIGKILL after some seconds. `force`: SIGKILL at once.
    mode: Option<Wire<CancelMode>>,
}

/// The routes of commands.
#[derive(Debug)]
pub struct Commands;

#[OpenApi(prefix_path = "/v1", tag = "Tag::Commands")]
impl Commands {
    /// Run a command and wait for its end, or start it in the background.
    ///
    /// An exit code other than 0 is no error of the API. A client that goes away does not end the
    /// command.
    #[oai(path = "/sandboxes/:sandboxId/commands", method = "post", operation_id = "runCommand")]
    async fn run(
        &self,
        caller: Auth,
        #[oai(name = "sandboxId")] id: Path<Wire<SandboxId>>,
        #[oai(name = "Idempotency-Key")] key: IdempotencyKey,
        body: JsonBody<RunCommand>,
    ) -> Result<Stored<CommandResponse, 200, 202>, ApiError> {
        let background = body.value.background == Some(true);
        let wait = if background { Wait::Background } else { Wait::Foreground };
        run(&caller, id.0.0, key, body, wait).await
    }

    /// Run a command and wait for its end: the old name of `runCommand`.
    #[oai(
        path = "/sandboxes/:sandboxId/commands/run",
        method = "post",
        operation_id = "runCommandDeprecated",
        deprecated
    )]
    async fn run_deprecated(
        &self,
        caller: Auth,
        #[oai(name = "sandboxId")] id: Path<Wire<SandboxId>>,
        #[oai(name = "Idempotency-Key")] key: IdempotencyKey,
        body: JsonBody<RunCommand>,
    ) -> Result<Stored<CommandResponse, 200>, ApiError> {
        run(&caller, id.0.0, key, body, Wait::Foreground).await
    }

    /// Start a command in the background: the old name of `runCommand` with `background`.
    #[oai(
        path = "/sandboxes/:sandboxId/commands/start",
        method = "post",
        operation_id = "startCommandDeprecated",
        deprecated
    )]
    async fn start_deprecated(
        &self,
        caller: Auth,
        #[oai(name = "sandboxId")] id: Path<Wire<SandboxId>>,
        #[oai(name = "Idempotency-Key")] key: IdempotencyKey,
        body: JsonBody<RunCommand>,
    ) -> Result<Stored<CommandResponse, 202>, ApiError> {
        run(&caller, id.0.0, key, body, Wait::Background).await
    }

    /// Get a command, also after its sandbox is gone.
    #[oai(path = "/commands/:commandId", method = "get", operation_id = "getCommand")]
    async fn get(
        &self,
        caller: Auth,
        #[oai(name = "commandId")] id: Path<Wire<CommandId>>,
    ) -> Result<Json<CommandResponse>, ApiError> {
        let command = commands::get(caller.app(), &caller, id.0.0).await?;
        Ok(Json(CommandResponse { command: (&command).into() }))
    }

    /// Cancel a command and wait for its end; one that is over stays as it is.
    #[oai(path = "/commands/:commandId/cancel", method = "post", operation_id = "cancelCommand")]
    async fn cancel(
        &self,
        caller: Auth,
        #[oai(name = "commandId")] id: Path<Wire<CommandId>>,
        body: JsonBody<CancelCommand>,
    ) -> Result<Json<CommandResponse>, ApiError> {
        let mode = body.value.mode.map_or(CancelMode::Graceful, |mode| mode.0);
        let command = commands::cancel(caller.app(), &caller, id.0.0, mode).await?;
        Ok(Json(CommandResponse { command: (&command).into() }))
    }
}

async fn run<const STATUS: u16, const OTHER: u16>(
    caller: &Auth,
    id: SandboxId,
    key: IdempotencyKey,
    body: JsonBody<RunCommand>,
    wait: Wait,
) -> Result<Stored<CommandResponse, STATUS, OTHER>, ApiError> {
    let idempotent = key.of(&body.json);
    let spec = body.value.check(caller, wait)?;
    let print = |command: &Command| print(&CommandResponse { command: command.into() });
    Ok(commands::run(caller.app(), caller, idempotent, id, spec, print).await?.into())
}

#[cfg(test)]
mod tests {
    use domain::{
        command::Inline,
        id::{OrganizationId, ProjectId},
    };
    use poem_openapi::types::ToJSON;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    /// A command that ran for a second and a half and exited with 3.
    pub(super) fn command() -> Command {
        let at = |ms: i64| DateTime::from_timestamp_millis(1_781_182_800_000 + ms).unwrap();
        Command {
            id: CommandId::from_uuid(Uuid::from_u128(1)),
            org_id: OrganizationId::from_uuid(Uuid::from_u128(2)),
            project_id: ProjectId::from_uuid(Uuid::from_u128(3)),
            sandbox_id: SandboxId::from_uuid(Uuid::from_u128(4)),
            command_line: "exit 3".to_owned(),
            cwd: "/workspace".to_owned(),
            status: Status::Exited,
            background: false,
            timeout_ms: Some(60_000),
            exit_code: Some(3),
            stdout: Some(Inline { text: "out\n".to_owned(), truncated: false }),
            stderr: Some(Inline { text: String::new(), truncated: true }),
            created_at: at(0),
            started_at: Some(at(10)),
            finished_at: Some(at(1510)),
            cancel_mode: None,
            canceled_at: None,
            termination_signal: None,
            last_seq: 1,
            first_seq: 1,
            collect_status: CollectStatus::NotRequested,
            collect_errors: Vec::new(),
        }
    }

    #[test]
    fn absent_members_are_left_out() {
        let view = CommandView::from(&command()).to_json().unwrap();
        assert_eq!(
            view,
            json!({
                "id": "cmd_00000000000000000000000000000001",
                "sandboxId": "sbx_00000000000000000000000000000004",
                "command": "exit 3",
                "cwd": "/workspace",
                "env": {},
                "status": "exited",
                "exitCode": 3,
                "stdout": "out\n",
                "stderr": "",
                "stderrTruncated": true,
                "createdAt": "2026-06-11T13:00:00.000Z",
                "startedAt": "2026-06-11T13:00:00.010Z",
                "finishedAt": "2026-06-11T13:00:01.510Z",
                "durationMs": 1500,
                "collectStatus": "not_requested",
            })
        );
    }
}
