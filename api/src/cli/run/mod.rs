//! `crownest run`: a program in a sandbox, as if it ran here. What it makes it also takes away again,
//! whatever happens in between: a signal, a failure, a reader that goes away.

mod quote;

use std::{collections::BTreeMap, path::PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::{
    Ending, Failure,
    client::{Access, Client, Follow, Happening},
    command::{self, Printer, Start},
    failure::Form,
    files::upload::{self, Upload},
    interrupts::Interrupts,
    output::{self, Format},
    sandbox::{self, Make},
    values,
};

/// A program that was ended by its timeout, as `timeout` says it.
const TIMED_OUT: u8 = 124;
/// This program failed, and not the one it was to run.
const FAILED: u8 = 125;
/// Ended by SIGKILL, by a pipe without reader, by SIGTERM: as shells say it.
const KILLED: u8 = 137;
const UNREAD: u8 = 141;
const TERMINATED: u8 = 143;
/// A sandbox lives so much longer than the program's timeout, in milliseconds, if this program should
/// be killed before it can end it.
const SPARE: u64 = 300_000;

/// What to run, and where.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    make: Make,
    /// Run in this sandbox, which goes on living, instead of in a new one.
    #[arg(
        long,
        value_name = "SANDBOX",
        value_parser = values::sandbox_id,
        conflicts_with_all = ["template", "template_version", "project", "ttl", "metadata", "keep"]
    )]
    sandbox: Option<String>,
    /// Leave the new sandbox running, and say which it is.
    #[arg(long)]
    keep: bool,
    /// End the program after this time, such as 90s or 10m.
    #[arg(long, value_name = "TIME", value_parser = values::milliseconds)]
    timeout: Option<u64>,
    /// A variable for the program; may be repeated. Without `=VALUE` it gets the one that it has here,
    /// which nobody can read from the list of processes.
    #[arg(long, value_name = "NAME[=VALUE]", value_parser = variable)]
    env: Vec<(String, String)>,
    /// The folder to run in; /workspace otherwise.
    #[arg(long, value_name = "FOLDER")]
    cwd: Option<String>,
    /// A file to put into the sandbox before; may be repeated. REMOTE, its path there, is the file's
    /// name if it is left out, and begins after the last colon.
    #[arg(long, value_name = "LOCAL[:REMOTE]", value_parser = put)]
    put: Vec<Put>,
    /// The program and its arguments, which get there as they are here: no shell reads them. For one
    /// that does: `-- sh -c '...'`.
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    program: Vec<String>,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    access: Access,
}

/// A file for the sandbox.
#[derive(Debug, Clone)]
struct Put {
    local: PathBuf,
    remote: String,
}

fn variable(text: &str) -> Result<(String, String), String> {
    if text.contains('=') {
        return values::pair(text);
    }
    let held = std::env::var(text).map_err(|_| format!("there is no variable {text} here"))?;
    Ok((text.to_owned(), held))
}

fn put(text: &str) -> Result<Put, String> {
    let (local, remote) = text.rsplit_once(':').unwrap_or((text, ""));
    let local = PathBuf::from(local);
    let name = || local.file_name().map(|name| name.to_string_lossy().into_owned());
    let remote = Some(remote.to_owned()).filter(|remote| !remote.is_empty()).or_else(name);
    let remote = remote.ok_or("expected the path of a file")?;
    if !local.is_file() {
        return Err(format!("{} is not a file", local.display()));
    }
    Ok(Put { local, remote })
}

impl Arguments {
    /// For whom answers are.
    #[must_use]
    pub const fn form(&self) -> Form {
        self.format.form()
    }
}

/// What there is to clean up.
#[derive(Debug, Default)]
struct Left {
    /// A sandbox that was made.
    made: Option<String>,
    /// A program that runs.
    running: Option<String>,
}

/// Runs the program and says how it ended.
///
/// # Errors
/// As [`Failure`] says; each has an exit code of its own.
pub async fn run(arguments: Arguments) -> Result<Ending, Failure> {
    let client = arguments.access.client()?;
    let mut interrupts = Interrupts::new()?;
    let mut left = Left::default();
    let done = work(&client, &arguments, &mut left, &mut interrupts).await;
    let kept = left.made.clone().filter(|_| arguments.keep);
    let cleaned = tokio::select! {
        cleaned = clean_up(&client, &arguments, left) => cleaned,
        code = interrupts.next() => Err(Failure::Interrupted(code)),
    };
    if let Some(sandbox) = kept.filter(|_| arguments.form() == Form::People) {
        tell(&format!("crownest: sandbox {sandbox} is kept"));
    }
    match (done, cleaned) {
        (Ok(code), Ok(())) => Ok(Ending::Program(code)),
        (Err(failure), Ok(())) => Err(with_code(failure)),
        (done, Err(uncleaned)) => {
            if let Err(failure) = done {
                tell(&failure.told(arguments.form()).unwrap_or_default());
            }
            Err(with_code(uncleaned))
        }
    }
}

fn with_code(failure: Failure) -> Failure {
    let code = match &failure {
        Failure::Unread => UNREAD,
        Failure::Argument(_) | Failure::Refused(_) | Failure::Undone(_) => FAILED,
        Failure::Ended(..) | Failure::Interrupted(_) => return failure,
    };
    Failure::Ended(code, Box::new(failure))
}

/// Says something beside what the program says.
fn tell(text: &str) {
    use std::io::Write;
    // Nobody is left to be told if this fails.
    let _ = writeln!(std::io::stderr(), "{text}");
}

async fn work(
    client: &Client,
    arguments: &Arguments,
    left: &mut Left,
    interrupts: &mut Interrupts,
) -> Result<u8, Failure> {
    let mut printer = Printer::new(arguments.form());
    let sandbox = match &arguments.sandbox {
        Some(id) => id.clone(),
        None => {
            let mut make = arguments.make.clone();
            make.ttl = make.ttl.or_else(|| Some(arguments.timeout?.saturating_add(SPARE)));
            // Only its answer says what there is to clean up.
            let made = interrupts.finish(sandbox::create(client, &make)).await;
            if let Err(Failure::Interrupted(_)) = made {
                tell(
                    "crownest: whether a sandbox was made is not known; see `crownest sandbox list`",
                );
            }
            let made = made?;
            let id = values::sandbox_id(&output::text(&made, "id"));
            let id = id.map_err(|_| broken("the answer names no sandbox"))?;
            left.made = Some(id.clone());
            if arguments.format.json {
                let event = json!({ "type": "sandbox", "sandbox": made });
                interrupts.cut(printer.line(&event)).await?;
            }
            id
        }
    };
    for put in &arguments.put {
        let upload = Upload::to(&sandbox, &put.remote).with_parents();
        upload::file(client, &upload, &put.local, arguments.form(), interrupts).await?;
    }
    let start = Start {
        command: quote::join(&arguments.program),
        cwd: arguments.cwd.clone(),
        env: arguments.env.iter().cloned().collect::<BTreeMap<_, _>>(),
        timeout_ms: arguments.timeout,
    };
    interrupts.cut(async { Ok(()) }).await?;
    let id = interrupts.finish(command::start(client, &sandbox, &start)).await?;
    left.running = Some(id.clone());
    let mut follow = Follow::new(client, &id);
    loop {
        match interrupts.cut(follow.next()).await? {
            Happening::Printed(stream, text, event) => {
                interrupts.cut(printer.print(stream, &text, &event)).await?;
            }
            Happening::Over(command) => {
                left.running = None;
                if arguments.format.json {
                    let event = json!({ "type": "terminal", "command": command });
                    interrupts.cut(printer.line(&event)).await?;
                }
                return ending(&command);
            }
        }
    }
}

/// How the program ended, as an exit code.
fn ending(command: &Value) -> Result<u8, Failure> {
    let because = |code, text: &str| Err(Failure::Ended(code, Box::new(broken(text))));
    match output::text(command, "status").as_str() {
        "exited" => {
            let code = command["exitCode"].as_i64().and_then(|code| u8::try_from(code).ok());
            code.ok_or_else(|| broken("the answer has no exit code"))
        }
        "timed_out" => because(TIMED_OUT, "the program was ended by its timeout"),
        "canceled" if command["terminationSignal"] == "SIGKILL" => {
            because(KILLED, "the program was canceled by force")
        }
        "canceled" => because(TERMINATED, "the program was canceled"),
        "killed" => because(KILLED, "the sandbox ended while the program ran"),
        "failed" => Err(broken("the program could not be started, or was lost")),
        other => Err(broken(&format!("the program has the unknown status {other:?}"))),
    }
}

fn broken(text: &str) -> Failure {
    Failure::Undone(anyhow::Error::msg(text.to_owned()))
}

/// Ends what was begun: the sandbox that was made, or the program if the sandbox is to live on.
async fn clean_up(client: &Client, arguments: &Arguments, left: Left) -> Result<(), Failure> {
    match (left.made, left.running) {
        (Some(sandbox), _) if !arguments.keep => {
            let killed = sandbox::kill(client, &sandbox).await;
            killed.map_err(|failure| still(&format!("sandbox {sandbox}"), &failure))?;
        }
        (_, Some(program)) => {
            let canceled = command::cancel(client, &program, "graceful").await;
            canceled.map_err(|failure| still(&format!("command {program}"), &failure))?;
        }
        (Some(_) | None, None) => {}
    }
    Ok(())
}

fn still(what: &str, failure: &Failure) -> Failure {
    broken(&format!("{what} could not be ended and may live on: {failure}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_has_its_code() {
        for (command, wanted) in [
            (json!({ "status": "exited", "exitCode": 7 }), Ok(7)),
            (json!({ "status": "timed_out" }), Err(124)),
            (json!({ "status": "canceled", "terminationSignal": "SIGTERM" }), Err(143)),
            (json!({ "status": "canceled", "terminationSignal": "SIGKILL" }), Err(137)),
            (json!({ "status": "killed" }), Err(137)),
            (json!({ "status": "failed" }), Err(125)),
            (json!({ "status": "exited" }), Err(125)),
            (json!({ "status": "paused" }), Err(125)),
        ] {
            let ended = ending(&command).map_err(|failure| {
                let Failure::Ended(code, _) = with_code(failure) else { panic!("{command}") };
                code
            });
            assert_eq!(ended, wanted, "{command}");
        }
    }

    #[test]
    fn a_file_to_put_is_named_after_itself_or_after_the_last_colon() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a:b");
        std::fs::write(&file, "").unwrap();
        let local = file.to_str().unwrap();
        for (text, remote) in [(format!("{local}:"), "a:b"), (format!("{local}:x/y"), "x/y")] {
            let put = put(&text).unwrap();
            assert_eq!((put.local, put.remote.as_str()), (file.clone(), remote), "{text}");
        }
        assert!(put(folder.path().to_str().unwrap()).is_err());
    }
}
