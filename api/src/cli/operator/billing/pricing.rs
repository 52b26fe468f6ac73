//! `pricing`: the price lists, as people write and read them.

use std::{
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use clap::Subcommand;

use super::{Failure, Format, balance::minute, json};
use crate::{
    app::{
        App,
        audit::Actor,
        billing::{
            manage::{
                self,
                price_sheet::{self, PriceSheet},
            },
            prices,
        },
        error::Error,
    },
    cli::help,
    print::{Side, Table},
};

/// What to do about prices.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List every version, the one that became valid first in front.
    #[command(after_help = help::with(&["crownest billing pricing list --json"], help::OPERATOR))]
    List(Format),
    /// Publish a version, which can never be changed.
    ///
    /// It must begin to be valid at least a minute from now, so that every server knows it by then.
    /// Sandboxes that were created before keep their prices.
    #[command(after_help = publish_help())]
    Publish {
        /// TOML or JSON; `-` reads standard input.
        file: PathBuf,
    },
}

fn publish_help() -> String {
    let codes = help::with(
        &[
            "crownest billing pricing publish prices.toml",
            "crownest billing pricing publish - < prices.json",
        ],
        help::OPERATOR,
    );
    format!("{codes}\n\n{EXAMPLE}")
}

const EXAMPLE: &str = r#"A file, with what may be left out behind the comment signs:

    name = "2031-01"
    currency = "USD"                      # that of all other versions
    currencyPerCredit = "0.0333333"       # fractions stand in quotes, so that no digit is lost
    computeUnitSecondsPerCredit = 1000
    validFrom = "2031-01-01T00:00:00Z"    # for sandboxes created from then on
    # idleFactor = "1"                    # what a second without an active command counts, 0 to 1
    # rounding = "down"                   # of a sandbox's price, to billionths: down, up or half_up
    # [sizes]                             # compute units of the instance sizes
    # base = "1"
    # [rates.command_invocations]         # what is not named is free of charge
    # credits = "0.5"
    # per = 1000"#;

pub(super) async fn run(
    app: &Arc<App>,
    command: Command,
    out: &mut impl Write,
) -> Result<(), Failure> {
    match command {
        Command::List(format) => list(app, &format, out).await,
        Command::Publish { file } => publish(app, &file, out).await,
    }
}

async fn list(app: &App, format: &Format, out: &mut impl Write) -> Result<(), Failure> {
    let lists = prices::read(app.db.read()).await?;
    let mut versions: Vec<_> = lists.all().values().collect();
    versions.sort_by_key(|version| (version.valid_from, &version.name));
    let sheets: Vec<_> = versions.iter().map(|version| PriceSheet::from(&***version)).collect();
    if format.json {
        return json(&sheets, out);
    }
    let now = app.clock.now();
    let in_force = lists.in_force(now)?;
    let mut table = Table::new(&[
        ("name", Side::Left),
        ("valid from", Side::Left),
        ("a credit is", Side::Right),
        ("and buys", Side::Left),
        ("", Side::Left),
    ]);
    for (sheet, version) in sheets.iter().zip(versions) {
        let state = if version.name == in_force.name {
            "in force"
        } else if version.valid_from > now {
            "to come"
        } else {
            "for sandboxes of its time"
        };
        let credit = format!("{} {}", sheet.currency_per_credit.0, sheet.currency);
        let buys = format!("{} compute unit seconds", sheet.compute_unit_seconds_per_credit);
        table.row([&sheet.name, &minute(sheet.valid_from), &credit, &buys, state]);
    }
    Ok(write!(out, "{table}")?)
}

async fn publish(app: &App, file: &Path, out: &mut impl Write) -> Result<(), Failure> {
    let text = read(file).map_err(|error| Failure::Argument(format!("{error:#}")))?;
    let version = price_sheet::parse(&text).map_err(Error::from)?;
    manage::publish_pricing(app, &Actor::operator(), &version).await?;
    Ok(writeln!(out, "{} is valid from {} on", version.name, minute(version.valid_from))?)
}

fn read(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).context("file: standard input")?;
    } else {
        text = std::fs::read_to_string(file)
            .with_context(|| format!("file: {} cannot be read", file.display()))?;
    }
    Ok(text)
}
