//! The command line: reads arguments, calls use cases, or an API as any client does, and prints.
//! Decides nothing. One module for each noun; those in `operator` work on the database, all others only
//! through `client`: users' on the public API, those in `admin` on the admin API.

pub mod admin;
pub mod client;
pub mod command;
mod completions;
mod failure;
pub mod files;
mod help;
mod interrupts;
pub mod operator;
pub mod output;
pub mod run;
pub mod sandbox;
pub mod usage;
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
use tracing_subscriber::{
    EnvFilter, Layer, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

pub use self::failure::{Ending, Failure, Form};
use self::operator::{audit, billing, bootstrap, doctor, events, signing_keys, template};
use crate::{
    app::App,
    clock::{Clock, SystemClock},
    config::{Config, LogFormat},
    http, serve,
    trace::{self, Exporter},
};

/// An open backend for the CrowNest sandbox platform: the server, its operators' commands, and those of
/// its users.
#[derive(Debug, Parser)]
#[command(name = "crownest", version, after_help = help::with(
    &[
        "crownest serve",
        "crownest bootstrap --organization acme",
        "crownest run --template python -- python3 -c 'print(6*7)'",
    ],
    help::GROUP,
))]
pub struct Cli {
    /// A TOML file with the server's settings; `CROWNEST_*` variables go before it.
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// A command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a program in a sandbox as if it ran here, with its output as it comes.
    ///
    /// Makes a sandbox, runs the program in it, prints what it prints, ends the sandbox, and exits with
    /// the program's code. The sandbox also ends when this is interrupted, fails, or nobody reads the
    /// output any more. Standard input is not passed on, and output is text: bytes that are no UTF-8
    /// are replaced, so get binary files with `crownest files get`. With --json, each line on standard
    /// output is an event: of type `sandbox`, `log` or, in the end, `terminal`.
    #[command(after_help = help::with(
        &[
            "crownest run --template python -- python3 -c 'print(6*7)'",
            "crownest run --put main.py --timeout 90s -- python3 main.py --fast",
            "crownest run --sandbox sbx_019a --env TOKEN -- sh -c 'make test 2>&1 | tail'",
        ],
        help::RUN,
    ))]
    Run(Box<run::Arguments>),
    /// Make, list, show and end sandboxes.
    #[command(subcommand, after_help = help::with(&["crownest sandbox list"], help::GROUP))]
    Sandbox(sandbox::Command),
    /// Look at commands in sandboxes, and cancel them; `run` starts them.
    #[command(subcommand, after_help = help::with(&["crownest command logs cmd_019a"], help::GROUP))]
    Command(command::Command),
    /// Move files into and out of sandboxes.
    #[command(subcommand, after_help = help::with(
        &["crownest files put sbx_019a data.csv", "crownest files ls sbx_019a"],
        help::GROUP,
    ))]
    Files(files::Command),
    /// Show what the key's organization used this month, and what is left.
    #[command(after_help = help::with(&["crownest usage", "crownest usage --json"], help::CLIENT))]
    Usage(usage::Arguments),
    /// Look after organizations, their keys and their money with an admin key.
    ///
    /// Works through the admin API, from anywhere. The key is in the variable CROWNEST_ADMIN_KEY or in a
    /// file; `crownest bootstrap --admin` makes the first one.
    #[command(after_help = help::with(
        &[
            "crownest admin organization list",
            "crownest admin --admin-url https://example.org organization create acme",
        ],
        help::GROUP,
    ))]
    Admin(admin::Arguments),
    /// Serve the API and run the sandboxes of this host, until SIGTERM or SIGINT.
    #[command(after_help = help::with(
        &["crownest serve", "crownest --config /etc/crownest.toml serve"],
        help::OPERATOR,
    ))]
    Serve,
    /// Make an organization with its default project and a key, or an admin key; print it, once.
    #[command(after_help = help::with(
        &[
            "crownest bootstrap --organization acme",
            "crownest bootstrap --organization acme --scopes sandbox:read,command:read --json",
        ],
        help::OPERATOR,
    ))]
    Bootstrap(bootstrap::Arguments),
    /// Look after money: credit, plans, prices, statements and the ledger.
    ///
    /// Works on the database itself, so it needs the server's settings, and no server. Servers that run
    /// learn of a change at once on PostgreSQL, and within a minute where they share an SQLite file.
    #[command(subcommand, after_help = help::with(
        &["crownest billing balance --organization acme"],
        help::GROUP,
    ))]
    Billing(billing::Command),
    /// Verify or print the audit trail.
    #[command(subcommand, after_help = help::with(&["crownest audit verify"], help::GROUP))]
    Audit(audit::Command),
    /// Print what happens, for billing pipelines and whoever else listens.
    #[command(subcommand, after_help = help::with(&["crownest events tail"], help::GROUP))]
    Events(events::Command),
    /// Look at the keys that download links are signed with, and change them.
    #[command(subcommand, after_help = help::with(
        &["crownest signing-keys rotate"],
        help::GROUP,
    ))]
    SigningKeys(signing_keys::Command),
    /// Build and import what machines of the driver `cloud_hypervisor` are made from.
    ///
    /// Works on the database and on the folder `machine_images` of this host, so it needs the server's
    /// settings. Publishing and deprecating versions from afar is `crownest admin template`.
    #[command(subcommand, after_help = help::with(
        &["crownest template kernel", "crownest template build python-node"],
        help::GROUP,
    ))]
    Template(template::Command),
    /// Say whether this host can run each driver, what is missing, and what would mend it.
    #[command(after_help = help::with(
        &["crownest doctor", "CROWNEST_DRIVER=cloud_hypervisor crownest doctor"],
        help::CHECK,
    ))]
    Doctor,
    /// Print the OpenAPI document of the public API, or of the admin API.
    #[command(after_help = help::with(
        &["crownest openapi > openapi.yaml", "crownest openapi --admin > openapi.admin.yaml"],
        help::PLAIN,
    ))]
    Openapi {
        /// The admin API's.
        #[arg(long)]
        admin: bool,
    },
    /// Print a script that completes this program's words in a shell.
    #[command(after_help = help::with(
        &[
            "crownest completions bash > ~/.local/share/bash-completion/completions/crownest",
            "crownest completions zsh > ~/.zfunc/_crownest",
            "crownest completions fish > ~/.config/fish/completions/crownest.fish",
        ],
        help::PLAIN,
    ))]
    Completions(completions::Arguments),
}

impl Command {
    /// For whom complaints are: for programs where `--json` asks for it and an API is asked.
    #[must_use]
    pub const fn form(&self) -> Form {
        match self {
            Self::Run(arguments) => arguments.form(),
            Self::Sandbox(command) => command.form(),
            Self::Command(command) => command.form(),
            Self::Files(command) => command.form(),
            Self::Usage(arguments) => arguments.form(),
            Self::Admin(arguments) => arguments.form(),
            Self::Template(command) => command.form(),
            Self::Serve
            | Self::Bootstrap(_)
            | Self::Billing(_)
            | Self::Audit(_)
            | Self::Events(_)
            | Self::SigningKeys(_)
            | Self::Doctor
            | Self::Openapi { .. }
            | Self::Completions(_) => Form::People,
        }
    }
}

/// Does what was asked; answers go to `out`.
///
/// # Errors
/// As [`Failure`] says.
pub async fn run(cli: Cli, out: &mut impl Write) -> Result<Ending, Failure> {
    let config = || Config::load(cli.config).map_err(anyhow::Error::from);
    let ending = match cli.command {
        Command::Run(arguments) => return run::run(*arguments).await,
        Command::Sandbox(command) => sandbox::run(command, out).await?,
        Command::Command(command) => command::run(command, out).await?,
        Command::Files(command) => files::run(command, out).await?,
        Command::Usage(arguments) => done(usage::run(&arguments, out).await)?,
        Command::Admin(arguments) => done(admin::run(arguments, out).await)?,
        Command::Completions(arguments) => done(completions::run(&arguments, out))?,
        Command::Openapi { admin } => {
            let document = if admin { &http::openapi::ADMIN } else { &http::openapi::PUBLIC };
            out.write_all(document.yaml().as_bytes())?;
            Ending::Done
        }
        Command::Serve => {
            let config = config()?;
            let exporter = start_logging(&config)?;
            let served = serve::serve(config).await;
            if let Some(exporter) = exporter {
                exporter.end().await;
            }
            served?;
            Ending::Done
        }
        Command::Bootstrap(arguments) => done(bootstrap::run(&config()?, arguments, out).await)?,
        Command::Billing(command) => billing::run(&open(config()?).await?, command, out).await?,
        Command::Audit(command) => audit::run(&open(config()?).await?, command, out).await?,
        Command::Events(command) => events::run(config()?, command, out).await?,
        Command::SigningKeys(command) => {
            signing_keys::run(&open(config()?).await?, command, out).await?
        }
        Command::Template(command) => template::run(config()?, command, out).await?,
        Command::Doctor => doctor::run(&config()?, out).await?,
    };
    out.flush()?;
    Ok(ending)
}

fn done(result: Result<(), Failure>) -> Result<Ending, Failure> {
    result.map(|()| Ending::Done)
}

fn start_logging(config: &Config) -> Result<Option<Exporter>, Failure> {
    let filter = EnvFilter::try_new(&config.log)
        .context("configuration: log is not a filter such as `info`")?;
    let log = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let log = match config.log_format {
        LogFormat::Text => log.boxed(),
        LogFormat::Json => log.json().boxed(),
    };
    let (exporter, spans) = trace::export(config)?.unzip();
    tracing_subscriber::registry().with(spans).with(log.with_filter(filter)).init();
    Ok(exporter)
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
