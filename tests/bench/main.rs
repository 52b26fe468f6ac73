//! `make bench`: what requests cost, as ratios to a stated baseline, measured in turns in one run.
//! Client, server and database share this host's cores, so absolutes say little and ratios more.
//!
//!   bench PROGRAMS POSTGRES-PROGRAMS [WHAT..]   measures; `tests/bench/run` builds and names both. WHAT:
//!                                               get, create, billing, events, output, artifacts,
//!                                               previews; all without one
//!   bench bare FILE                             serves a file as JSON; the baseline of `GET`

#![expect(clippy::print_stdout, reason = "a table is what this makes")]

mod artifacts;
mod bare;
mod billing;
mod create;
mod events;
mod first_output;
mod get;
mod http;
mod postgres;
mod previews;
mod run;
mod statements;
mod table;

#[expect(dead_code, reason = "the story of the broker, whose file it is, also breaks it")]
#[expect(clippy::unwrap_used, reason = "a broker that does not start ends the measurement")]
#[path = "../tests/broker/rabbit.rs"]
mod rabbit;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::{postgres::Postgres, table::Table};

/// What there is to measure.
const ALL: [&str; 7] = ["get", "create", "billing", "events", "output", "artifacts", "previews"];

fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["bare", file] => bare::serve(Path::new(file)),
        [programs, postgres, ref what @ ..] if what.iter().all(|what| ALL.contains(what)) => {
            // One thread is enough for the client, and leaves the most to who is measured.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let what = if what.is_empty() { &ALL } else { what };
            runtime.block_on(measure(Path::new(programs), Path::new(postgres), what))
        }
        _ => bail!("usage: bench PROGRAMS POSTGRES-PROGRAMS [{}]", ALL.join("|")),
    }
}

async fn measure(programs: &Path, postgres_programs: &Path, what: &[&str]) -> Result<()> {
    let folder = Folder::make()?;
    println!("{}", run::host("client, server and database"));
    let postgres = Postgres::start(postgres_programs, &folder.0.join("postgres")).await?;
    let mut table = Table::default();
    if what.contains(&"get") {
        get::measure(&mut table, programs, &postgres, &folder.0).await?;
    }
    if what.contains(&"create") {
        create::measure(&mut table, programs, &postgres, &folder.0).await?;
    }
    if what.contains(&"billing") {
        billing::measure(&mut table, programs, &postgres, &folder.0).await?;
    }
    if what.contains(&"events") {
        events::measure(&mut table, programs, &postgres, &folder.0).await?;
    }
    if what.contains(&"output") {
        first_output::measure(&mut table, programs, &folder.0).await?;
    }
    if what.contains(&"artifacts") {
        artifacts::measure(&mut table, programs, &folder.0).await?;
    }
    if what.contains(&"previews") {
        previews::measure(&mut table, programs, &folder.0).await?;
    }
    println!("{table}");
    println!("at the end: {}", run::load());
    Ok(())
}

/// A folder that goes with the run.
struct Folder(PathBuf);

impl Folder {
    fn make() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("crownest-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}
