//! The command line: `crownest serve | bootstrap | openapi`. Only reads arguments, calls and prints.

use std::{io::IsTerminal, path::PathBuf};

use anyhow::{Context, Result};
use api::{
    app::{
        billing::Rules,
        tenants::{self, Bootstrap, Bootstrapped},
    },
    clock::{Clock, SystemClock},
    config::{Config, LogFormat},
    http, serve,
};
use clap::{Args, Parser, Subcommand};
use domain::{
    id::ProjectId,
    key::display_prefix,
    limits::Plan,
    scope::{Scope, ScopeSet},
};

/// An open backend for the CrowNest sandbox platform.
#[derive(Debug, Parser)]
#[command(name = "crownest", version)]
struct Cli {
    /// A TOML file with settings; `CROWNEST_*` variables go before it.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the API and run the sandboxes of this host.
    Serve,
    /// Make an organization with its default project and a key; print the key, which is shown once.
    Bootstrap(BootstrapArgs),
    /// Print the OpenAPI document.
    Openapi,
}

#[derive(Debug, Args)]
struct BootstrapArgs {
    /// The organization's name; one that exists gets another key.
    #[arg(long)]
    organization: String,
    /// The plan of a new organization: free, builder, scale or enterprise.
    #[arg(long)]
    plan: Option<Plan>,
    /// Whose key it is.
    #[arg(long, default_value = "owner@localhost.localdomain")]
    email: String,
    /// A project to make if the organization has none of this name.
    #[arg(long)]
    project: Option<String>,
    /// What the key may do: `all`, `quickstart`, or scopes such as `sandbox:read,command:run`.
    #[arg(long, default_value = "quickstart", value_parser = parse_scopes)]
    scopes: ScopeSet,
    /// Restrict the key to these projects; may be repeated.
    #[arg(long = "project-id")]
    project_ids: Vec<ProjectId>,
    /// Restrict the key to the project named by --project.
    #[arg(long, requires = "project")]
    restrict_to_project: bool,
    /// The key's name.
    #[arg(long, default_value = "bootstrap")]
    key_name: String,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

fn parse_scopes(text: &str) -> Result<ScopeSet, String> {
    match text {
        "all" => Ok(ScopeSet::all()),
        "quickstart" => Ok(ScopeSet::quickstart()),
        list => list
            .split(',')
            .map(|scope| scope.trim().parse::<Scope>().map_err(|e| format!("{scope:?}: {e}")))
            .collect(),
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    match cli.command {
        Command::Openapi => print(&http::openapi::yaml()),
        Command::Serve => {
            let config = Config::load(cli.config)?;
            start_logging(&config)?;
            serve::serve(config).await?;
        }
        Command::Bootstrap(args) => {
            let config = Config::load(cli.config)?;
            bootstrap(&config, args).await?;
        }
    }
    Ok(())
}

async fn bootstrap(config: &Config, args: BootstrapArgs) -> Result<()> {
    let db = serve::open_database(config).await?;
    let plan = args.plan.map_or_else(|| config.default_plan(), Ok)?;
    let wanted = Bootstrap {
        organization: args.organization,
        plan,
        email: args.email,
        project: args.project,
        scopes: args.scopes,
        project_ids: args.project_ids,
        restrict_to_project: args.restrict_to_project,
        key_name: args.key_name,
    };
    let made = tenants::bootstrap(&db, &Rules::of(config), SystemClock.now(), wanted).await?;
    if args.json {
        print(&format!("{}\n", json(&made)));
    } else {
        print(&format!(
            "organization {} ({})\nproject      {}\nkey          {} ({})\n\n{}\n\nThis key is shown once.\n",
            made.organization.id,
            made.organization.name,
            made.project_id,
            made.key.id,
            display_prefix(&made.key.lookup),
            made.secret.expose(),
        ));
    }
    Ok(())
}

fn json(made: &Bootstrapped) -> serde_json::Value {
    serde_json::json!({
        "organizationId": made.organization.id,
        "userId": made.user_id,
        "projectId": made.project_id,
        "apiKeyId": made.key.id,
        "apiKey": made.secret.expose(),
    })
}

fn start_logging(config: &Config) -> Result<()> {
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

#[expect(clippy::print_stdout, reason = "the command line's answer")]
fn print(text: &str) {
    print!("{text}");
}
