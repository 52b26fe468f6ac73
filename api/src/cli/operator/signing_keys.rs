//! `crownest signing-keys`: which keys sign links, and a new one. Prints no secret.

use std::{io::Write, sync::Arc};

use clap::{Args, Subcommand};

use super::{Ending, Failure, help};
use crate::app::{
    App,
    audit::Actor,
    signing_keys::{self, Old},
};

/// What to do with the keys that links to logs, files and artifacts are signed with.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the keys, the newest first: the first one that is not retired signs.
    #[command(after_help = help::with(&["crownest signing-keys list"], help::OPERATOR))]
    List,
    /// Make a new key that signs from now on. Links that were given out go on working until they end.
    #[command(after_help = help::with(
        &["crownest signing-keys rotate", "crownest signing-keys rotate --drop-old"],
        help::OPERATOR,
    ))]
    Rotate(Rotate),
}

/// How to rotate.
#[derive(Debug, Args)]
pub struct Rotate {
    /// Drop the old keys at once, because somebody knows them: their links stop working within seconds.
    #[arg(long)]
    drop_old: bool,
}

/// Does what was asked.
///
/// # Errors
/// As [`Failure`] says.
pub async fn run(
    app: &Arc<App>,
    command: Command,
    out: &mut impl Write,
) -> Result<Ending, Failure> {
    match command {
        Command::List => {
            for key in signing_keys::list(app).await? {
                let state = match key.retired_at {
                    None => "signs".to_owned(),
                    Some(at) => format!("retired {}", at.format("%Y-%m-%dT%H:%M:%SZ")),
                };
                let made = key.created_at.format("%Y-%m-%dT%H:%M:%SZ");
                writeln!(out, "{}  made {made}  {state}", key.id)?;
            }
        }
        Command::Rotate(Rotate { drop_old }) => {
            let old = if drop_old { Old::Drop } else { Old::Retire };
            let id = signing_keys::rotate(app, &Actor::operator(), old).await?;
            writeln!(out, "{id} signs from now on")?;
        }
    }
    Ok(Ending::Done)
}
