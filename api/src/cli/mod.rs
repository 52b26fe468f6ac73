//! The command line: reads arguments, calls use cases and prints. Decides nothing.

pub mod audit;
pub mod billing;
mod bootstrap;
mod failure;
mod values;

use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    sync::Arc,
};

use anyhow::Context;
use clap::{Parser, Subcommand};
use drivers::simulated::Simulated;
use store::Db;

pub use self::failure::{Ending, Failure};
use crate::{
    app::App,
    clock::{Clock, SystemClock},
    config::{Config, LogFormat},
    http, serve,
};

/// An open backend for the CrowNest sandbox platform.
#[derive(Debug, Parser)]
#[command(name = "crownest", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// A TOML file with settings; `CROWNEST_*` variables go before it.
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Ends with 0 when done, 1 when a check found something wrong, 2 when an \
argument makes no sense or was refused, 3 when it could not be done.";

/// A command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the API and run the sandboxes of this host.
    Serve,
    /// Make an organization with its default project and a key; print the key, which is shown once.
    Bootstrap(bootstrap::Arguments),
    /// Look after money: credit, plans, prices, statements and the ledger.
    ///
    /// Works on the database itself, so it needs the server's settings, and no server. Servers that run
    /// learn of a change at once on PostgreSQL, and within a minute where they share an SQLite file.
    #[command(subcommand)]
    Billing(billing::Command),
    /// Verify or print the audit trail.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Print the OpenAPI document.
    Openapi,
}

/// Does what was asked; answers go to `out`.
///
/// # Errors
/// As [`Failure`] says.
pub async fn run(cli: Cli, out: &mut impl Write) -> Result<Ending, Failure> {
    let config = || Config::load(cli.config).map_err(anyhow::Error::from);
    match cli.command {
        Command::Openapi => out.write_all(http::openapi::yaml().as_bytes())?,
        Command::Serve => {
            let config = config()?;
            start_logging(&config)?;
            serve::serve(config).await?;
        }
        Command::Bootstrap(arguments) => bootstrap::run(&config()?, arguments, out).await?,
        Command::Billing(command) => {
            return billing::run(&open(config()?).await?, command, out).await;
        }
        Command::Audit(command) => {
            return audit::run(&open(config()?).await?, command, out).await;
        }
    }
    out.flush()?;
    Ok(Ending::Done)
}

fn start_logging(config: &Config) -> Result<(), Failure> {
    let filter = tracing_subscriber::EnvFilter::try_new(&config.log)
        .context("configuration: log is not a filter such as `info`")?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match config.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

/// The parts for a command, on a database that exists already.
async fn open(config: Config) -> Result<Arc<App>, Failure> {
    let url = config.database_url();
    if !Db::exists(&url) {
        let text = format!("there is no database at {url}; is this the server's configuration?");
        return Err(anyhow::Error::msg(text).into());
    }
    let db = serve::open_database(&config).await?;
    Ok(on_no_host(config, db, Arc::new(SystemClock)))
}

/// The parts that use cases share, for a process that runs no sandboxes and no background work. A
/// change can end sandboxes, such as that of a cap; their hosts' servers see to it. This process has
/// none: under the name of this host it would ask its empty driver, and take them all for lost.
#[must_use]
pub fn on_no_host(config: Config, db: Db, clock: Arc<dyn Clock>) -> Arc<App> {
    // No server may have an empty name.
    let config = Config { host: String::new(), ..config };
    App::new(config, db, Arc::new(Simulated::default()), clock)
}
