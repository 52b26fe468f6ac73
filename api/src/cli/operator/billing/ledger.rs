//! `settle`, `journal` and `check`: the ledger brought up to date, for others to read, and whether it is
//! right.

use std::{io::Write, sync::Arc};

use clap::Args;

use super::{Ending, Failure, Format, Whose, json};
use crate::app::{
    App,
    billing::{check, journal, tick},
};

/// Whose usage.
#[derive(Debug, Args)]
pub struct Settle {
    #[command(flatten)]
    whose: Whose,
}

/// Whose ledger.
#[derive(Debug, Args)]
pub struct Journal {
    /// The organization's name or id; without one, the journal has them all.
    #[arg(long, value_name = "NAME-OR-ID")]
    organization: Option<String>,
}

/// How to print the findings.
#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    format: Format,
}

pub(super) async fn settle(app: &Arc<App>, arguments: Settle) -> Result<(), Failure> {
    let organization = arguments.whose.find(app).await?;
    tick::bring_up_to_date(app, organization.id).await?;
    Ok(())
}

pub(super) async fn journal(
    app: &Arc<App>,
    arguments: Journal,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let mut write = |text: &str| out.write_all(text.as_bytes());
    let Some(organization) = arguments.organization else {
        return Ok(journal::export_all(&app.db, write).await?);
    };
    let organization = Whose { organization }.find(app).await?;
    write(journal::HEADER)?;
    Ok(journal::export(&app.db, organization.id, write).await?)
}

pub(super) async fn check(
    app: &Arc<App>,
    arguments: &Check,
    out: &mut impl Write,
) -> Result<Ending, Failure> {
    let found = check::all(&app.db).await?;
    if arguments.format.json {
        json(
            &serde_json::json!({
                "organizations": found.n_organizations,
                "transactions": found.n_transactions,
                "wrong": found.wrong,
            }),
            out,
        )?;
    } else {
        for wrong in &found.wrong {
            writeln!(out, "{wrong}")?;
        }
        let verdict = match found.wrong.len() {
            0 => "the books are right".to_owned(),
            n => format!("{n} findings"),
        };
        let (organizations, transactions) = (found.n_organizations, found.n_transactions);
        writeln!(out, "{organizations} organizations, {transactions} transactions: {verdict}")?;
    }
    out.flush()?;
    Ok(if found.wrong.is_empty() { Ending::Done } else { Ending::Wrong })
}
