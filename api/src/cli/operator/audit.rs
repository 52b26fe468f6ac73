//! `crownest audit`: whether the trail is as it was written, and the trail itself. Changes nothing.

use std::{io::Write, sync::Arc};

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use store::{
    PageRequest,
    audit::{AuditFilter, Chain},
};

use super::{Ending, Failure, billing::Whose, help, values};
use crate::app::{App, audit};

/// Organizations looked at together.
const PAGE: u32 = 200;

/// What to do with the audit trail.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Compute every chain anew and name the first entry of each that is not as it was written.
    #[command(after_help = help::with(
        &[
            "crownest audit verify",
            "crownest audit verify --organization acme",
        ],
        help::CHECK,
    ))]
    Verify(Verify),
    /// Print a trail as JSON lines, oldest first.
    #[command(after_help = help::with(
        &[
            "crownest audit export --action sandbox.kill --from 2031-01-01 --organization acme",
        ],
        help::OPERATOR,
    ))]
    Export(Export),
}

/// Whose trail to verify.
#[derive(Debug, Args)]
pub struct Verify {
    /// The organization's name or id; all of them and the installation's own without one.
    #[arg(long, value_name = "NAME-OR-ID")]
    organization: Option<String>,
}

/// Which trail to print.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Trail {
    /// The organization's name or id.
    #[arg(long, value_name = "NAME-OR-ID")]
    organization: Option<String>,
    /// The installation's own: what operators did to no organization, and what they were refused.
    #[arg(long)]
    installation: bool,
}

/// Which entries to print.
#[derive(Debug, Args)]
pub struct Export {
    #[command(flatten)]
    trail: Trail,
    /// Only what this actor did: a key's or admin key's id, `operator` or `platform`.
    #[arg(long)]
    actor: Option<String>,
    /// Only this action, such as `sandbox.kill`.
    #[arg(long)]
    action: Option<String>,
    /// Only what was done to the thing with this id.
    #[arg(long)]
    object: Option<String>,
    /// From this instant or day on.
    #[arg(long, value_parser = values::instant)]
    from: Option<DateTime<Utc>>,
    /// Before this instant or day.
    #[arg(long, value_parser = values::instant)]
    until: Option<DateTime<Utc>>,
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
        Command::Verify(arguments) => verify(app, arguments, out).await,
        Command::Export(arguments) => {
            let chain = match arguments.trail.organization {
                Some(organization) => Whose { organization }.find(app).await?.id.into(),
                None => Chain::Installation,
            };
            let filter = AuditFilter {
                actor: arguments.actor,
                action: arguments.action,
                object: arguments.object,
                from: arguments.from.map(|at| at.timestamp_micros()),
                until: arguments.until.map(|at| at.timestamp_micros()),
            };
            let print = |line: &str| out.write_all(line.as_bytes());
            audit::export(app.db.read(), chain, &filter, print).await?;
            Ok(Ending::Done)
        }
    }
}

async fn verify(
    app: &Arc<App>,
    arguments: Verify,
    out: &mut impl Write,
) -> Result<Ending, Failure> {
    let (mut n_organizations, mut n_entries, mut ending) = (0, 0, Ending::Done);
    let mut page = PageRequest { limit: PAGE, after: None };
    if arguments.organization.is_none() {
        let verified = audit::verify(&app.db, Chain::Installation).await?;
        n_entries += verified.n_entries;
        if let Some((seq, what)) = verified.broken {
            ending = Ending::Wrong;
            writeln!(out, "installation, entry {seq}: {what}")?;
        }
    }
    loop {
        let (organizations, more) = match &arguments.organization {
            Some(organization) => {
                (vec![Whose { organization: organization.clone() }.find(app).await?], false)
            }
            None => {
                let found = store::organizations::list(app.db.read(), page).await?;
                (found.items, found.has_more)
            }
        };
        page.after = organizations.last().map(|organization| organization.id.uuid());
        for organization in organizations {
            let verified = audit::verify(&app.db, organization.id).await?;
            n_organizations += 1;
            n_entries += verified.n_entries;
            if let Some((seq, what)) = verified.broken {
                ending = Ending::Wrong;
                let (id, name) = (organization.id, organization.name);
                writeln!(out, "{id} ({name}), entry {seq}: {what}")?;
            }
        }
        if !more {
            break;
        }
    }
    if ending == Ending::Done {
        writeln!(out, "{n_entries} entries of {n_organizations} organizations are as written")?;
    }
    Ok(ending)
}
