//! `statement`: a month's statement in the form that is wanted.

use std::{io::Write, sync::Arc};

use billing::period::Period;
use clap::{Args, ValueEnum};

use super::{Failure, Whose, json};
use crate::{
    app::{App, billing::statements},
    cli::values,
    print,
};

/// Which statement, and how.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    whose: Whose,
    /// The month, such as 2031-01.
    #[arg(long, value_name = "MONTH", value_parser = values::period)]
    period: Period,
    /// How it looks.
    #[arg(long, value_enum, default_value_t = Form::Text)]
    format: Form,
}

/// How a statement looks.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Form {
    /// For terminals.
    Text,
    /// For programs.
    Json,
    /// A page that prints well.
    Html,
}

pub(super) async fn run(
    app: &Arc<App>,
    arguments: Arguments,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let organization = arguments.whose.find(app).await?;
    let document = statements::get(app, organization.id, arguments.period).await?;
    match arguments.format {
        Form::Json => json(&document, out)?,
        Form::Text => out.write_all(print::statement::text(&document).as_bytes())?,
        Form::Html => {
            let page = print::statement::html(&document).map_err(anyhow::Error::from)?;
            out.write_all(page.as_bytes())?;
        }
    }
    Ok(())
}
