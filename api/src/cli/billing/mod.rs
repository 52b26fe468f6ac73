//! `crownest billing`: the operator's way to money, until the admin API is there.

mod balance;
mod change;
mod ledger;
mod price_sheet;
mod pricing;
mod statement;
mod usage;

use std::{io::Write, sync::Arc};

use clap::{Args, Subcommand};
use domain::{id::OrganizationId, organization::Organization};
use serde::Serialize;

use super::{Ending, Failure};
use crate::app::App;

/// What to do about money.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what an organization has, owes, and when it must stop.
    Balance(balance::Arguments),
    /// Book what was measured up to now, instead of within the next minute.
    Settle(ledger::Settle),
    /// Grant credit.
    ///
    /// The same key again grants nothing, so a script may be repeated.
    Grant(change::Grant),
    /// Set the plan, at once or at an instant to come; what was used before keeps its terms.
    Plan(change::SetPlan),
    /// Set how much may be invoiced in a month beyond credit.
    Cap(change::SetCap),
    /// Set a limit whatever the plan says, or leave it to the plan again.
    Limit(change::SetLimit),
    /// List the pricing versions, or publish one.
    #[command(subcommand)]
    Pricing(pricing::Command),
    /// Show the statement of a month: as it was closed, or what it would say now.
    Statement(statement::Arguments),
    /// Print the ledger as a journal that hledger reads; without --organization, everybody's.
    Journal(ledger::Journal),
    /// Print windows of usage, a line of JSON each.
    Windows(usage::Windows),
    /// Correct a window of usage that was measured wrong.
    ///
    /// Nothing is overwritten: a transaction that points back books the difference, and the statement
    /// of the first open month shows it.
    Correct(usage::Correct),
    /// Compute every balance and total anew, and say what differs.
    ///
    /// Ends with 1 when something does.
    Check(ledger::Check),
}

/// Whose money, or trail.
#[derive(Debug, Args)]
pub struct Whose {
    /// The organization's name or id.
    #[arg(long, value_name = "NAME-OR-ID")]
    pub organization: String,
}

/// Whether the answer is for programs.
#[derive(Debug, Args)]
pub struct Format {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Does what was asked; answers go to `out`.
///
/// # Errors
/// As [`Failure`] says.
pub async fn run(
    app: &Arc<App>,
    command: Command,
    out: &mut impl Write,
) -> Result<Ending, Failure> {
    match command {
        Command::Balance(arguments) => balance::run(app, arguments, out).await?,
        Command::Settle(arguments) => ledger::settle(app, arguments).await?,
        Command::Grant(arguments) => change::grant(app, arguments, out).await?,
        Command::Plan(arguments) => change::plan(app, arguments, out).await?,
        Command::Cap(arguments) => change::cap(app, arguments, out).await?,
        Command::Limit(arguments) => change::limit(app, arguments, out).await?,
        Command::Pricing(command) => pricing::run(app, command, out).await?,
        Command::Statement(arguments) => statement::run(app, arguments, out).await?,
        Command::Journal(arguments) => ledger::journal(app, arguments, out).await?,
        Command::Windows(arguments) => usage::windows(app, arguments, out).await?,
        Command::Correct(arguments) => usage::correct(app, arguments, out).await?,
        Command::Check(arguments) => return ledger::check(app, &arguments, out).await,
    }
    out.flush()?;
    Ok(Ending::Done)
}

impl Whose {
    pub(super) async fn find(&self, app: &App) -> Result<Organization, Failure> {
        let c = app.db.read();
        let found = match self.organization.parse::<OrganizationId>() {
            Ok(id) => match store::organizations::get(c, id).await {
                Err(store::Error::Missing(_)) => None,
                found => Some(found?),
            },
            Err(_) => store::organizations::find_by_name(c, &self.organization).await?,
        };
        found.ok_or_else(|| {
            Failure::Argument(format!("organization: there is none called {}", self.organization))
        })
    }
}

fn json(value: &impl Serialize, out: &mut impl Write) -> Result<(), Failure> {
    serde_json::to_writer(&mut *out, value).map_err(std::io::Error::from)?;
    Ok(writeln!(out)?)
}
