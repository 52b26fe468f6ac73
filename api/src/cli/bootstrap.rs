//! `crownest bootstrap`: a first organization, project and key.

use std::io::Write;

use clap::Args;
use domain::{
    id::ProjectId,
    key::display_prefix,
    limits::Plan,
    scope::{Scope, ScopeSet},
};

use super::Failure;
use crate::{
    app::{
        billing::Rules,
        tenants::{self, Bootstrap, Bootstrapped},
    },
    clock::{Clock, SystemClock},
    config::Config,
    serve,
};

/// What to make.
#[derive(Debug, Args)]
pub struct Arguments {
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

pub(super) async fn run(
    config: &Config,
    args: Arguments,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let db = serve::open_database(config).await?;
    let plan = args.plan.map_or_else(|| config.default_plan(), Ok).map_err(anyhow::Error::from)?;
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
        writeln!(out, "{}", json(&made))?;
    } else {
        writeln!(
            out,
            "organization {} ({})\nproject      {}\nkey          {} ({})\n\n{}\n\nThis key is shown once.",
            made.organization.id,
            made.organization.name,
            made.project_id,
            made.key.id,
            display_prefix(&made.key.lookup),
            made.secret.expose(),
        )?;
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
