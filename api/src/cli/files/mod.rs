//! `crownest files`: the files of a sandbox. Paths there are absolute below /workspace or relative to
//! it, as the API has them; names are texts, whatever is in them.

mod download;
mod progress;
pub(super) mod upload;

use std::{io::Write, path::PathBuf};

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use self::upload::Upload;
use super::{
    Ending, Failure,
    client::{Access, Client},
    failure::Form,
    help,
    interrupts::Interrupts,
    output::{self, Format},
    values,
};
use crate::print::{Side, Table};

/// What to do with the files of a sandbox.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List a folder, by name.
    #[command(after_help = help::with(
        &["crownest files ls sbx_019a", "crownest files ls sbx_019a src --json"],
        help::CLIENT,
    ))]
    Ls {
        #[command(flatten)]
        place: Place,
        /// The folder.
        #[arg(default_value = "/workspace")]
        path: String,
    },
    /// Print a file of any size, byte by byte.
    #[command(after_help = help::with(
        &["crownest files cat sbx_019a report.csv | head"],
        help::CLIENT,
    ))]
    Cat {
        #[command(flatten)]
        place: Place,
        /// The file.
        path: String,
    },
    /// Put a local file into the sandbox; it appears there whole or not at all.
    ///
    /// The API takes at most 256 KiB at a time. What is larger is sent in parts, which a command in the
    /// sandbox joins and checks by their SHA-256 (so the key must also be allowed to run commands);
    /// only then it moves to its place.
    #[command(after_help = help::with(
        &[
            "crownest files put sbx_019a data.csv",
            "crownest files put sbx_019a data.csv input/data.csv --parents",
            "tar c src | crownest files put sbx_019a - src.tar",
        ],
        help::TRANSFER,
    ))]
    Put {
        #[command(flatten)]
        place: Place,
        /// The local file; `-` reads standard input.
        local: PathBuf,
        /// Its path in the sandbox; the local name otherwise.
        remote: Option<String>,
        /// Make missing folders on the way.
        #[arg(long)]
        parents: bool,
        /// Refuse if something is there already.
        #[arg(long)]
        no_overwrite: bool,
    },
    /// Get a file of any size; it appears here whole or not at all.
    #[command(after_help = help::with(
        &[
            "crownest files get sbx_019a report.csv",
            "crownest files get sbx_019a out/report.csv reports/",
        ],
        help::TRANSFER,
    ))]
    Get {
        #[command(flatten)]
        place: Place,
        /// The file in the sandbox.
        path: String,
        /// Where it goes: a file, which is replaced, or a folder; by its name into this one otherwise.
        local: Option<PathBuf>,
    },
    /// Remove files and empty folders.
    #[command(after_help = help::with(
        &["crownest files rm sbx_019a old.txt old-folder"],
        help::CLIENT,
    ))]
    Rm {
        #[command(flatten)]
        place: Place,
        /// The files or folders.
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<String>,
    },
    /// Make a folder.
    #[command(after_help = help::with(
        &["crownest files mkdir sbx_019a src", "crownest files mkdir sbx_019a a/b/c --parents"],
        help::CLIENT,
    ))]
    Mkdir {
        #[command(flatten)]
        place: Place,
        /// The folder.
        path: String,
        /// Make missing folders on the way, and be content with one that is there.
        #[arg(long, short)]
        parents: bool,
    },
    /// Move or rename a file or folder.
    #[command(after_help = help::with(
        &["crownest files mv sbx_019a draft.txt final.txt"],
        help::CLIENT,
    ))]
    Mv {
        #[command(flatten)]
        place: Place,
        /// What to move.
        from: String,
        /// Where it goes.
        to: String,
        /// Replace a file that is there.
        #[arg(long)]
        overwrite: bool,
    },
}

/// Whose files, and how to ask and print.
#[derive(Debug, Args)]
pub struct Place {
    /// The sandbox.
    #[arg(value_name = "SANDBOX", value_parser = values::sandbox_id)]
    sandbox: String,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    access: Access,
}

impl Command {
    const fn place(&self) -> &Place {
        match self {
            Self::Ls { place, .. }
            | Self::Cat { place, .. }
            | Self::Put { place, .. }
            | Self::Get { place, .. }
            | Self::Rm { place, .. }
            | Self::Mkdir { place, .. }
            | Self::Mv { place, .. } => place,
        }
    }

    /// For whom answers are.
    #[must_use]
    pub const fn form(&self) -> Form {
        self.place().format.form()
    }
}

/// Does what was asked; answers go to `out`.
///
/// # Errors
/// As [`Failure`] says.
pub async fn run(command: Command, out: &mut impl Write) -> Result<Ending, Failure> {
    let place = command.place();
    let (client, sandbox, format) = (place.access.client()?, place.sandbox.clone(), place.format);
    match command {
        Command::Ls { path, .. } => {
            let call = client.call(Method::GET, &files(&sandbox)).query("path", path);
            list(&call.json().await?, format, out)?;
        }
        Command::Cat { path, .. } => download::print(&client, &sandbox, &path).await?,
        Command::Put { local, remote, parents, no_overwrite, .. } => {
            let remote = named(remote, &local)?;
            let mut upload = Upload::to(&sandbox, &remote);
            if parents {
                upload = upload.with_parents();
            }
            if no_overwrite {
                upload = upload.without_replacing();
            }
            let mut interrupts = Interrupts::new()?;
            let put = upload::file(&client, &upload, &local, format.form(), &mut interrupts);
            let file = put.await?;
            told("put", &file, format, out)?;
        }
        Command::Get { path, local, .. } => {
            let place = download::target(&path, local)?;
            let mut interrupts = Interrupts::new()?;
            let get = download::file(&client, &sandbox, &path, &place, format.form());
            let n_bytes = interrupts.cut(get).await?;
            let local = place.display().to_string();
            let file = json!({ "path": path, "local": local, "sizeBytes": n_bytes });
            if format.json {
                output::line(&file, out)?;
            } else {
                writeln!(out, "{} has {n_bytes} bytes", crate::print::clean(&local))?;
            }
        }
        Command::Rm { paths, .. } => {
            for path in paths {
                remove(&client, &sandbox, &path).await?;
                if format.json {
                    output::line(&json!({ "path": path, "deleted": true }), out)?;
                }
            }
        }
        Command::Mkdir { path, parents, .. } => {
            let body = json!({ "path": path, "parents": parents });
            let call = client.call(Method::POST, &format!("{}/mkdir", files(&sandbox))).body(body);
            // With `parents` one that is there is fine, so a second time does nothing.
            let call = if parents { call.repeatable() } else { call };
            let file = call.json().await?["file"].take();
            told("made", &file, format, out)?;
        }
        Command::Mv { from, to, overwrite, .. } => {
            let body = json!({ "from": from, "to": to, "overwrite": overwrite });
            let file = rename(&client, &sandbox, body).await?;
            told("moved", &file, format, out)?;
        }
    }
    Ok(Ending::Done)
}

fn files(sandbox: &str) -> String {
    format!("/v1/sandboxes/{sandbox}/files")
}

/// A path in the sandbox: as it was given, or by the local name.
fn named(remote: Option<String>, local: &std::path::Path) -> Result<String, Failure> {
    let name = || local.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    remote.or_else(|| name().filter(|name| name != "-")).ok_or_else(|| {
        let text = "remote: this file has no name to go by, so say what its path shall be";
        Failure::Argument(text.to_owned())
    })
}

async fn remove(client: &Client, sandbox: &str, path: &str) -> Result<(), Failure> {
    // Not sent again: a second time it would not be there, and say so.
    let call = client.call(Method::DELETE, &files(sandbox)).query("path", path).unrepeatable();
    call.json().await.map(drop)
}

/// Moves what the body says, and returns what it became.
async fn rename(client: &Client, sandbox: &str, body: Value) -> Result<Value, Failure> {
    let call = client.call(Method::POST, &format!("{}/move", files(sandbox))).body(body);
    Ok(call.json().await?["file"].take())
}

fn list(answer: &Value, format: Format, out: &mut impl Write) -> Result<(), Failure> {
    let mut table = Table::new(&[
        ("name", Side::Left),
        ("type", Side::Left),
        ("bytes", Side::Right),
        ("changed", Side::Left),
    ]);
    for entry in answer["data"].as_array().into_iter().flatten() {
        if format.json {
            output::line(entry, out)?;
            continue;
        }
        let cell = |name| output::text(entry, name);
        table.row([&cell("name"), &cell("type"), &cell("sizeBytes"), &cell("modifiedAt")]);
    }
    if !format.json {
        write!(out, "{table}")?;
    }
    Ok(())
}

fn told(verb: &str, file: &Value, format: Format, out: &mut impl Write) -> Result<(), Failure> {
    if format.json {
        return output::line(file, out);
    }
    let path = crate::print::clean(&output::text(file, "path"));
    Ok(writeln!(out, "{verb} {path}")?)
}
