//! `crownest command`: commands that run or ran in sandboxes, and what they print. Starting one is
//! `run`'s.

use std::{collections::BTreeMap, io::Write};

use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::{
    Ending, Failure,
    client::{Access, Client, Follow, Happening, Stream},
    failure::Form,
    help,
    output::{self, Format},
    values,
};

/// What to do with a command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show a command, also after its sandbox is gone.
    #[command(after_help = help::with(&["crownest command get cmd_019a --json"], help::CLIENT))]
    Get(One),
    /// Print what a command has printed, each stream to the one of the same name; then, until it is
    /// over, what comes.
    #[command(after_help = help::with(
        &["crownest command logs cmd_019a", "crownest command logs cmd_019a --json"],
        help::CLIENT,
    ))]
    Logs(One),
    /// Ask a command to end, and wait until it did.
    #[command(after_help = help::with(
        &["crownest command cancel cmd_019a", "crownest command cancel cmd_019a --force"],
        help::CLIENT,
    ))]
    Cancel {
        #[command(flatten)]
        one: One,
        /// Kill it at once, instead of after some seconds in which it can end by itself.
        #[arg(long)]
        force: bool,
    },
}

/// A command that was started.
#[derive(Debug, Args)]
pub struct One {
    /// The command.
    #[arg(value_name = "COMMAND", value_parser = values::command_id)]
    id: String,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    access: Access,
}

impl Command {
    /// For whom answers are.
    #[must_use]
    pub const fn form(&self) -> Form {
        match self {
            Self::Get(one) | Self::Logs(one) | Self::Cancel { one, .. } => one.format.form(),
        }
    }
}

/// Does what was asked; answers go to `out`.
///
/// # Errors
/// As [`Failure`] says.
pub async fn run(command: Command, out: &mut impl Write) -> Result<Ending, Failure> {
    match command {
        Command::Get(one) => {
            let path = format!("/v1/commands/{}", one.id);
            let answer = one.access.client()?.call(Method::GET, &path).json().await?;
            show(&answer["command"], one.format, out)?;
        }
        Command::Logs(one) => {
            let client = one.access.client()?;
            let mut follow = Follow::new(&client, &one.id);
            let mut printer = Printer::new(one.format.form());
            while let Happening::Printed(stream, text, event) = follow.next().await? {
                printer.print(stream, &text, &event).await?;
            }
        }
        Command::Cancel { one, force } => {
            let client = one.access.client()?;
            let mode = if force { "force" } else { "graceful" };
            let answer = cancel(&client, &one.id, mode).await?;
            show(&answer["command"], one.format, out)?;
        }
    }
    Ok(Ending::Done)
}

fn show(command: &Value, format: Format, out: &mut impl Write) -> Result<(), Failure> {
    let names = [
        ("command", "id"),
        ("sandbox", "sandboxId"),
        ("line", "command"),
        ("folder", "cwd"),
        ("status", "status"),
        ("exit code", "exitCode"),
        ("ended by", "terminationSignal"),
        ("created", "createdAt"),
        ("started", "startedAt"),
        ("finished", "finishedAt"),
        ("milliseconds", "durationMs"),
    ];
    output::facts(command, &names, format, out)
}

/// What to start in a sandbox.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Start {
    pub command: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// Starts a command in the background and returns its id.
pub(super) async fn start(client: &Client, sandbox: &str, what: &Start) -> Result<String, Failure> {
    let mut body = json!(what);
    body["background"] = true.into();
    // A key that may not read what it started is refused before anything runs.
    body["_crownestRequireCommandRead"] = true.into();
    let path = format!("/v1/sandboxes/{sandbox}/commands");
    let answer = client.call(Method::POST, &path).body(body).once().json().await?;
    let id = answer["command"]["id"].as_str().and_then(|id| values::command_id(id).ok());
    id.ok_or_else(|| Failure::Undone(anyhow::Error::msg("the answer names no command")))
}

/// Cancels a command and waits for its end.
pub(super) async fn cancel(client: &Client, id: &str, mode: &str) -> Result<Value, Failure> {
    let path = format!("/v1/commands/{id}/cancel");
    let call = client.call(Method::POST, &path).body(json!({ "mode": mode }));
    // One that is over stays as it is.
    call.repeatable().json().await
}

/// Prints what comes to where it belongs, as it comes.
#[derive(Debug)]
pub(super) struct Printer {
    form: Form,
    // Not the standard library's: a reader that is slow must not keep signals from being heard.
    stdout: tokio::io::Stdout,
    stderr: tokio::io::Stderr,
}

impl Printer {
    pub fn new(form: Form) -> Self {
        Self { form, stdout: tokio::io::stdout(), stderr: tokio::io::stderr() }
    }

    /// Prints a piece of a program's output.
    pub async fn print(
        &mut self,
        stream: Stream,
        text: &str,
        event: &Value,
    ) -> Result<(), Failure> {
        match (self.form, stream) {
            (Form::Programs, _) => self.line(event).await,
            (Form::People, Stream::Stdout) => put(&mut self.stdout, text.as_bytes()).await,
            (Form::People, Stream::Stderr) => put(&mut self.stderr, text.as_bytes()).await,
        }
    }

    /// Prints a line of JSON.
    pub async fn line(&mut self, event: &Value) -> Result<(), Failure> {
        put(&mut self.stdout, format!("{event}\n").as_bytes()).await
    }
}

async fn put(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<(), Failure> {
    to.write_all(bytes).await?;
    Ok(to.flush().await?)
}
