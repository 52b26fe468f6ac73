//! `crownest bootstrap`: a first organization, project and key, and an operator's first key.

use std::io::Write;

use clap::Args;
use domain::{
    admin::AdminKey,
    id::ProjectId,
    key::KeySecret,
    limits::Plan,
    scope::{Scope, ScopeSet},
};
use serde_json::{Map, Value, json};
use store::Db;

use super::Failure;
use crate::{
    app::{
        admin::keys,
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
    #[arg(long, required_unless_present = "admin")]
    organization: Option<String>,
    /// Make an admin key of the role owner, for the admin API: the first one, or one more when all are
    /// lost.
    #[arg(long)]
    admin: bool,
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

pub async fn run(config: &Config, args: Arguments, out: &mut impl Write) -> Result<(), Failure> {
    let db = serve::open_database(config).await?;
    let is_json = args.json;
    let mut told = Told::default();
    if args.admin {
        let (key, secret) = keys::bootstrap(&db, &args.key_name, SystemClock.now()).await?;
        told.admin_key(&key, &secret);
    }
    if let Some(name) = args.organization.clone() {
        told.organization(&organization(config, &db, name, args).await?);
    }
    if is_json {
        writeln!(out, "{}", serde_json::Value::Object(told.json))?;
    } else {
        writeln!(out, "{}", told.text.join("\n\n"))?;
    }
    Ok(())
}

async fn organization(
    config: &Config,
    db: &Db,
    name: String,
    args: Arguments,
) -> Result<Bootstrapped, Failure> {
    let plan = args.plan.map_or_else(|| config.default_plan(), Ok).map_err(anyhow::Error::from)?;
    let wanted = Bootstrap {
        organization: name,
        plan,
        email: args.email,
        project: args.project,
        scopes: args.scopes,
        project_ids: args.project_ids,
        restrict_to_project: args.restrict_to_project,
        key_name: args.key_name,
    };
    Ok(tenants::bootstrap(db, &Rules::of(config), SystemClock.now(), wanted).await?)
}

/// What was made, for people and for programs.
#[derive(Default)]
struct Told {
    text: Vec<String>,
    json: Map<String, Value>,
}

impl Told {
    fn organization(&mut self, made: &Bootstrapped) {
        self.text.push(format!(
            "organization {} ({})\nproject      {}\nkey          {} ({})\n\n{}\n\nThis key is shown once.",
            made.organization.id,
            made.organization.name,
            made.project_id,
            made.key.id,
            made.key.prefix(),
            made.secret.expose(),
        ));
        self.json.extend([
            ("organizationId".to_owned(), json!(made.organization.id)),
            ("userId".to_owned(), json!(made.user_id)),
            ("projectId".to_owned(), json!(made.project_id)),
            ("apiKeyId".to_owned(), json!(made.key.id)),
            ("apiKey".to_owned(), json!(made.secret.expose())),
        ]);
    }

    fn admin_key(&mut self, key: &AdminKey, secret: &KeySecret) {
        self.text.push(format!(
            "admin key    {} ({}), role {}\n\n{}\n\nThis admin key is shown once.",
            key.id,
            key.prefix(),
            key.role.as_str(),
            secret.expose(),
        ));
        self.json.extend([
            ("adminKeyId".to_owned(), json!(key.id)),
            ("adminKey".to_owned(), json!(secret.expose())),
        ]);
    }
}
