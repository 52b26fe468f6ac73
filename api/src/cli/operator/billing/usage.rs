//! `windows` and `correct`: usage as it was measured, and as it should have been.

use std::{io::Write, sync::Arc};

use chrono::{DateTime, Utc};
use clap::Args;
use domain::{id::SandboxId, metric::Metric};

use super::{Failure, Whose};
use crate::{
    app::{
        App,
        audit::Actor,
        billing::{
            correct::{self, Correction},
            manage, windows,
        },
        error::Error,
    },
    cli::values::{self, Exactly},
};

/// Which windows.
#[derive(Debug, Args)]
pub struct Windows {
    #[command(flatten)]
    whose: Whose,
    /// Windows that begin at this instant or later.
    #[arg(long, value_name = "INSTANT", value_parser = values::instant)]
    from: DateTime<Utc>,
    /// Windows that begin before this instant; the default is now.
    #[arg(long, value_name = "INSTANT", value_parser = values::instant)]
    until: Option<DateTime<Utc>>,
}

/// Which window, and what it should have been.
#[derive(Debug, Args)]
pub struct Correct {
    #[command(flatten)]
    whose: Whose,
    /// The sandbox.
    #[arg(long)]
    sandbox: SandboxId,
    /// What was measured.
    #[arg(long, default_value = "compute_unit_seconds", value_parser = metric)]
    metric: Metric,
    /// When the window begins, as `windows` shows it.
    #[arg(long, value_name = "INSTANT", value_parser = values::instant)]
    start: DateTime<Utc>,
    /// Which of several windows of that beginning, as `windows` shows it.
    #[arg(long, allow_negative_numbers = true)]
    part: Option<i64>,
    /// What the window should have been in all, in units of the metric.
    #[arg(long, allow_negative_numbers = true)]
    quantity: Exactly,
    /// Why; the transaction keeps it.
    #[arg(long)]
    reason: String,
}

fn metric(text: &str) -> Result<Metric, String> {
    values::word(text, &Metric::ALL.map(Metric::as_str))
}

pub(super) async fn windows(
    app: &Arc<App>,
    arguments: Windows,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let organization = arguments.whose.find(app).await?;
    let range = (arguments.from, arguments.until.unwrap_or_else(|| app.clock.now()));
    let write = |window: &windows::WindowItem| {
        serde_json::to_writer(&mut *out, window)?;
        writeln!(out)
    };
    Ok(windows::export(&app.db, organization.id, range, write).await?)
}

pub(super) async fn correct(
    app: &Arc<App>,
    arguments: Correct,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let organization = arguments.whose.find(app).await?;
    let quantity_milli = correct::quantity_milli(arguments.quantity.0).map_err(Error::from)?;
    let place = (arguments.sandbox, arguments.metric, arguments.start);
    let found = correct::find_window(app, organization.id, place, arguments.part).await?;
    let (transaction, window) = found;
    let correction = Correction { transaction, window, quantity_milli, reason: arguments.reason };
    let made = manage::change(app, &Actor::operator(), organization.id, correction).await?;
    Ok(writeln!(out, "{} corrects {transaction}", made.id)?)
}
