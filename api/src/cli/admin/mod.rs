//! `crownest admin`: all that operators do, over the admin API and nothing else. One module for each
//! noun; a command is what it asks of the API, as data, which `ask` sends and prints.

mod admin_key;
mod ask;
mod audit;
mod body;
mod events;
mod key;
mod member;
mod money;
mod organization;
mod project;
mod sandbox;
mod template;
mod usage;

use std::{io::Write, path::PathBuf};

use chrono::{DateTime, SecondsFormat, Utc};
use clap::{Args, Subcommand};

use self::ask::{Ask, Names, Shown};
use super::{
    Failure,
    client::{self, Client},
    failure::Form,
    help,
    output::Format,
    values,
};

/// The variable that may hold the key.
const KEY: &str = "CROWNEST_ADMIN_KEY";

/// What to do, and how to ask for it.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    access: Access,
    #[command(subcommand)]
    noun: Noun,
}

/// Where the admin API is, and with which key to ask it.
#[derive(Debug, Args)]
struct Access {
    /// Where the admin API is, without its /admin/v1; a path in it is kept.
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "CROWNEST_ADMIN_URL",
        default_value = "http://127.0.0.1:8787"
    )]
    admin_url: String,
    /// A file that holds the admin key and nothing else. Without one, the key is in the variable
    /// CROWNEST_ADMIN_KEY.
    #[arg(long, global = true, value_name = "FILE", env = "CROWNEST_ADMIN_KEY_FILE")]
    admin_key_file: Option<PathBuf>,
}

impl Access {
    fn client(&self) -> Result<Client, Failure> {
        // An empty variable is none.
        let file = self.admin_key_file.as_deref().filter(|file| !file.as_os_str().is_empty());
        let key = client::key(("admin-key-file", file), &[KEY])?;
        Client::new(("admin-url", &self.admin_url), &key)
    }
}

/// Whose something is.
#[derive(Debug, Args)]
struct Whose {
    /// The organization, by its id.
    #[arg(long, value_name = "ID", value_parser = values::organization_id)]
    organization: String,
}

impl Whose {
    /// The path of something of the organization, such as `/members`.
    fn path(&self, rest: &str) -> String {
        organization::path(&self.organization, rest)
    }
}

/// Why something is done.
#[derive(Debug, Args)]
struct Because {
    /// Why; kept with the change.
    #[arg(long)]
    reason: String,
}

/// An instant as the API reads it, with all its digits.
fn stamp(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// Makes the nouns from their modules.
macro_rules! nouns {
    ($($(#[$doc:meta])* $noun:ident($($module:ident)::+) = $example:literal;)*) => {
        /// What to do something about.
        #[derive(Debug, Subcommand)]
        enum Noun {$(
            $(#[$doc])*
            #[command(subcommand, after_help = help::with(&[$example], help::GROUP))]
            $noun($($module)::+::Command),
        )*}

        impl Noun {
            fn ask(self) -> Ask {
                match self {$(
                    Self::$noun(command) => command.ask(),
                )*}
            }
        }
    };
}

nouns! {
    /// Make, look at, suspend and close organizations.
    Organization(organization) = "crownest admin organization list";
    /// Look after the people in an organization.
    Member(member) = "crownest admin member list --organization org_019a";
    /// Look after an organization's projects.
    Project(project) = "crownest admin project list --organization org_019a";
    /// Make, rotate and revoke an organization's keys.
    Key(key) = "crownest admin key list --organization org_019a";
    /// Make, look at and revoke operators' own keys.
    AdminKey(admin_key) = "crownest admin admin-key list";
    /// Look at plans, and set an organization's.
    Plan(money::plan) = "crownest admin plan list";
    /// Set limits that hold whatever an organization's plan says.
    Limit(money::limit) =
        "crownest admin limit remove --organization org_019a max_concurrent_sandboxes --reason over";
    /// Look at an organization's credit, give some and take some back.
    Credit(money::credit) = "crownest admin credit balance --organization org_019a";
    /// Say how much an organization may be invoiced in a month.
    Cap(money::cap) = "crownest admin cap get --organization org_019a";
    /// Look at what was booked.
    Journal(money::journal) = "crownest admin journal print --organization org_019a";
    /// Look at prices, and publish new ones.
    Pricing(money::pricing) = "crownest admin pricing list";
    /// Look at what an organization is asked to pay.
    Statement(money::statement) = "crownest admin statement get --organization org_019a 2031-01";
    /// Look at what an organization used, and correct it.
    Usage(usage) = "crownest admin usage windows --organization org_019a --from 2031-01-01";
    /// List, show and kill sandboxes of all organizations.
    Sandbox(sandbox) = "crownest admin sandbox list";
    /// Look at templates, and publish and deprecate their versions.
    Template(template) = "crownest admin template list";
    /// Read what was done, by whom, and what was refused.
    Audit(audit) = "crownest admin audit list --organization org_019a";
    /// Read what happened.
    Events(events) = "crownest admin events list --type crownest.sandbox";
}

impl Arguments {
    /// For whom answers are.
    #[must_use]
    pub const fn form(&self) -> Form {
        self.format.form()
    }
}

/// Does what was asked; answers go to `out`.
///
/// # Errors
/// As [`Failure`] says.
pub async fn run(arguments: Arguments, out: &mut impl Write) -> Result<(), Failure> {
    let Arguments { format, access, noun } = arguments;
    noun.ask().run(&access.client()?, format, out).await
}
