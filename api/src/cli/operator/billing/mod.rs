//! `crownest billing`: the operator's way to money on the server's own host, straight to its database.

mod balance;
mod change;
mod ledger;
mod pricing;
mod statement;
mod usage;

use std::{io::Write, sync::Arc};

use clap::{Args, Subcommand};
use domain::{id::OrganizationId, organization::Organization};

use super::{Ending, Failure, help, output::line as json};
use crate::app::App;

/// What to do about money.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what an organization has, owes, and when it must stop.
    #[command(after_help = help::with(
        &[
            "crownest billing balance --organization acme",
        ],
        help::OPERATOR,
    ))]
    Balance(balance::Arguments),
    /// Book what was measured up to now, instead of within the next minute.
    #[command(after_help = help::with(
        &[
            "crownest billing settle --organization acme",
        ],
        help::OPERATOR,
    ))]
    Settle(ledger::Settle),
    /// Grant credit.
    ///
    /// The same key again grants nothing, so a script may be repeated.
    #[command(after_help = help::with(
        &[
            "crownest billing grant purchased 100 --key po-17 --reason 'order 17' --organization acme",
        ],
        help::OPERATOR,
    ))]
    Grant(change::Grant),
    /// Set the plan, at once or at an instant to come; what was used before keeps its terms.
    #[command(after_help = help::with(
        &[
            "crownest billing plan scale --at 2031-02-01 --reason contract --organization acme",
        ],
        help::OPERATOR,
    ))]
    Plan(change::SetPlan),
    /// Set how much may be invoiced in a month beyond credit.
    #[command(after_help = help::with(
        &[
            "crownest billing cap 500 --reason 'asked for it' --organization acme",
            "crownest billing cap none --reason 'trusted' --organization acme",
        ],
        help::OPERATOR,
    ))]
    Cap(change::SetCap),
    /// Set a limit whatever the plan says, or leave it to the plan again.
    #[command(after_help = help::with(
        &[
            "crownest billing limit max_concurrent_sandboxes 50 --reason launch --organization acme",
        ],
        help::OPERATOR,
    ))]
    Limit(change::SetLimit),
    /// List the pricing versions, or publish one.
    #[command(subcommand, after_help = help::with(&["crownest billing pricing list"], help::GROUP))]
    Pricing(pricing::Command),
    /// Show the statement of a month: as it was closed, or what it would say now.
    #[command(after_help = help::with(
        &[
            "crownest billing statement --period 2031-01 --organization acme",
            "crownest billing statement --period 2031-01 --format html --organization acme > january.html",
        ],
        help::OPERATOR,
    ))]
    Statement(statement::Arguments),
    /// Print the ledger as a journal that hledger reads; without --organization, everybody's.
    #[command(after_help = help::with(
        &[
            "crownest billing journal | hledger -f - bal",
        ],
        help::OPERATOR,
    ))]
    Journal(ledger::Journal),
    /// Print windows of usage, a line of JSON each.
    #[command(after_help = help::with(
        &[
            "crownest billing windows --from 2031-01-01 --organization acme",
        ],
        help::OPERATOR,
    ))]
    Windows(usage::Windows),
    /// Correct a window of usage that was measured wrong.
    ///
    /// Nothing is overwritten: a transaction that points back books the difference, and the statement
    /// of the first open month shows it.
    #[command(after_help = help::with(
        &[
            "crownest billing correct --sandbox sbx_0193a1b2c3d47e5f8a9b0c1d2e3f4a5b --start 2031-01-01T12:00:00Z --quantity 0 --reason 'host clock' --organization acme",
        ],
        help::OPERATOR,
    ))]
    Correct(usage::Correct),
    /// Compute every balance and total anew, and say what differs.
    ///
    /// Ends with 1 when something does.
    #[command(after_help = help::with(
        &[
            "crownest billing check",
            "crownest billing check --json",
        ],
        help::CHECK,
    ))]
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
