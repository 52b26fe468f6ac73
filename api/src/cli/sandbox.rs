//! `crownest sandbox`: sandboxes from their making to their end.

use std::io::Write;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{
    Ending, Failure,
    client::{Access, Client},
    failure::Form,
    help,
    output::{self, Format},
    values,
};
use crate::print::{Side, Table};

/// Sandboxes asked for at a time.
const PAGE: u32 = 50;

/// What to do with sandboxes.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a sandbox; it can be used at once, calls wait until it is up.
    #[command(after_help = help::with(
        &[
            "crownest sandbox create --template python --ttl 30m",
            "crownest sandbox create --metadata branch=main --json | jq -r .id",
        ],
        help::CLIENT,
    ))]
    Create(Create),
    /// List sandboxes, newest first; only live ones if nothing else is said.
    #[command(after_help = help::with(
        &[
            "crownest sandbox list",
            "crownest sandbox list --all --metadata branch=main",
            "crownest sandbox list --json | jq -r .id",
        ],
        help::CLIENT,
    ))]
    List(List),
    /// Show a sandbox, also one that is gone.
    #[command(after_help = help::with(&["crownest sandbox get sbx_019a"], help::CLIENT))]
    Get {
        #[command(flatten)]
        one: One,
    },
    /// End sandboxes and everything in them; one that is gone already stays as it is.
    #[command(after_help = help::with(
        &["crownest sandbox kill sbx_019a sbx_019b"],
        help::CLIENT,
    ))]
    Kill {
        /// The sandboxes.
        #[arg(value_name = "SANDBOX", required = true, value_parser = values::sandbox_id)]
        ids: Vec<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Set how long a live sandbox lives from now on, longer or shorter than before.
    #[command(after_help = help::with(&["crownest sandbox ttl sbx_019a 2h"], help::CLIENT))]
    Ttl {
        #[command(flatten)]
        one: One,
        /// How long from now, such as 90s, 10m or 1h.
        #[arg(value_name = "TIME", value_parser = values::milliseconds)]
        ttl: u64,
    },
}

/// How to ask and how to print.
#[derive(Debug, Args)]
pub struct Common {
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    access: Access,
}

/// One sandbox.
#[derive(Debug, Args)]
pub struct One {
    /// The sandbox.
    #[arg(value_name = "SANDBOX", value_parser = values::sandbox_id)]
    id: String,
    #[command(flatten)]
    common: Common,
}

/// What a new sandbox is made from.
#[derive(Debug, Clone, Default, Args)]
pub struct Make {
    /// What it has: base, python, node or python-node, which is the default.
    #[arg(long)]
    pub template: Option<String>,
    /// An exact version of a template, by its id.
    #[arg(long, value_name = "ID")]
    pub template_version: Option<String>,
    /// The project it is to lie in, by its id; the default one otherwise.
    #[arg(long, value_name = "PROJECT")]
    pub project: Option<String>,
    /// How long it lives, such as 90s, 10m or 1h; the default is an hour.
    #[arg(long, value_name = "TIME", value_parser = values::milliseconds)]
    pub ttl: Option<u64>,
    /// A label; may be repeated. Not for secrets.
    #[arg(long, value_name = "NAME=VALUE", value_parser = values::pair)]
    pub metadata: Vec<(String, String)>,
}

/// A sandbox to make.
#[derive(Debug, Args)]
pub struct Create {
    #[command(flatten)]
    make: Make,
    #[command(flatten)]
    common: Common,
}

/// Which sandboxes.
#[derive(Debug, Args)]
pub struct List {
    /// Destroyed and failed ones too.
    #[arg(long)]
    all: bool,
    /// Only those with this status, such as running.
    #[arg(long)]
    status: Option<String>,
    /// Only those in this project, by its id.
    #[arg(long)]
    project: Option<String>,
    /// Only those with this label; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = values::pair)]
    metadata: Vec<(String, String)>,
    #[command(flatten)]
    common: Common,
}

impl Command {
    /// For whom answers are.
    #[must_use]
    pub const fn form(&self) -> Form {
        let common = match self {
            Self::Create(create) => &create.common,
            Self::List(list) => &list.common,
            Self::Get { one } | Self::Ttl { one, .. } => &one.common,
            Self::Kill { common, .. } => common,
        };
        common.format.form()
    }
}

/// Does what was asked; answers go to `out`.
///
/// # Errors
/// As [`Failure`] says.
pub async fn run(command: Command, out: &mut impl Write) -> Result<Ending, Failure> {
    match command {
        Command::Create(Create { make, common }) => {
            let sandbox = create(&common.access.client()?, &make).await?;
            show(&sandbox, common.format, out)?;
        }
        Command::List(arguments) => list(&arguments, out).await?,
        Command::Get { one } => {
            let client = one.common.access.client()?;
            let call = client.call(Method::GET, &path(&one.id));
            show(&call.json().await?["sandbox"], one.common.format, out)?;
        }
        Command::Kill { ids, common } => {
            let client = common.access.client()?;
            for id in ids {
                let sandbox = kill(&client, &id).await?;
                if common.format.json {
                    output::line(&sandbox, out)?;
                } else {
                    writeln!(out, "{id} is gone ({})", output::text(&sandbox, "destroyedReason"))?;
                }
            }
        }
        Command::Ttl { one, ttl } => {
            let client = one.common.access.client()?;
            let call = client.call(Method::POST, &format!("{}/ttl", path(&one.id)));
            let answer = call.body(json!({ "ttlMs": ttl })).once().json().await?;
            show(&answer["sandbox"], one.common.format, out)?;
        }
    }
    Ok(Ending::Done)
}

/// Makes a sandbox and returns its record.
pub(super) async fn create(client: &Client, make: &Make) -> Result<Value, Failure> {
    let mut body = Map::new();
    let texts = [
        ("template", &make.template),
        ("templateVersionId", &make.template_version),
        ("projectId", &make.project),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            body.insert(name.to_owned(), json!(text));
        }
    }
    if let Some(ttl) = make.ttl {
        body.insert("ttlMs".to_owned(), ttl.into());
    }
    if !make.metadata.is_empty() {
        let labels = make.metadata.iter().map(|(name, value)| (name.clone(), json!(value)));
        body.insert("metadata".to_owned(), Value::Object(labels.collect()));
    }
    let call = client.call(Method::POST, "/v1/sandboxes").body(body).once();
    Ok(call.json().await?["sandbox"].take())
}

/// Ends a sandbox and returns its record.
pub(super) async fn kill(client: &Client, id: &str) -> Result<Value, Failure> {
    Ok(client.call(Method::DELETE, &path(id)).once().json().await?["sandbox"].take())
}

fn path(id: &str) -> String {
    format!("/v1/sandboxes/{id}")
}

async fn list(arguments: &List, out: &mut impl Write) -> Result<(), Failure> {
    let client = arguments.common.access.client()?;
    let mut table = Table::new(&[
        ("sandbox", Side::Left),
        ("status", Side::Left),
        ("template", Side::Left),
        ("created", Side::Left),
        ("expires", Side::Left),
        ("metadata", Side::Left),
    ]);
    let mut cursor: Option<String> = None;
    loop {
        let page = page(&client, arguments, cursor.as_deref()).await?;
        for sandbox in page["data"].as_array().into_iter().flatten() {
            if arguments.common.format.json {
                output::line(sandbox, out)?;
                continue;
            }
            let cell = |name| output::text(sandbox, name);
            let template = format!("{} {}", cell("templateSlug"), cell("templateVersion"));
            let (created, expires) = (cell("createdAt"), cell("expiresAt"));
            let (id, status, metadata) = (cell("id"), cell("status"), cell("metadata"));
            table.row([&id, &status, &template, &created, &expires, &metadata]);
        }
        let next = page["nextCursor"].as_str().filter(|_| page["hasMore"] == true);
        let next = next.map(str::to_owned);
        if next.is_none() || next == cursor {
            break;
        }
        cursor = next;
    }
    if !arguments.common.format.json {
        write!(out, "{table}")?;
    }
    Ok(())
}

async fn page(client: &Client, arguments: &List, cursor: Option<&str>) -> Result<Value, Failure> {
    let mut call = client.call(Method::GET, "/v1/sandboxes").query("limit", PAGE.to_string());
    if arguments.all {
        call = call.query("include", "historical");
    }
    for (name, value) in [("status", &arguments.status), ("projectId", &arguments.project)] {
        if let Some(value) = value {
            call = call.query(name, value);
        }
    }
    for (name, value) in &arguments.metadata {
        call = call.query(&format!("metadata.{name}"), value);
    }
    if let Some(cursor) = cursor {
        call = call.query("cursor", cursor);
    }
    call.json().await
}

fn show(sandbox: &Value, format: Format, out: &mut impl Write) -> Result<(), Failure> {
    let names = [
        ("sandbox", "id"),
        ("status", "status"),
        ("template", "templateSlug"),
        ("version", "templateVersion"),
        ("project", "projectId"),
        ("created", "createdAt"),
        ("expires", "expiresAt"),
        ("ended", "destroyedAt"),
        ("because", "destroyedReason"),
        ("metadata", "metadata"),
    ];
    output::facts(sandbox, &names, format, out)
}
