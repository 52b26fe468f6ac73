//! `crownest usage`: what the key's organization used this month, and what is left.

use std::io::Write;

use clap::Args;
use reqwest::Method;
use serde_json::Value;

use super::{
    Failure,
    client::Access,
    failure::Form,
    output::{self, Format},
};
use crate::print::{Side, Table};

/// How to ask and how to print.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    access: Access,
}

impl Arguments {
    /// For whom answers are.
    #[must_use]
    pub const fn form(&self) -> Form {
        self.format.form()
    }
}

/// Prints it to `out`.
///
/// # Errors
/// As [`Failure`] says.
pub async fn run(arguments: &Arguments, out: &mut impl Write) -> Result<(), Failure> {
    let client = arguments.access.client()?;
    let usage = client.call(Method::GET, "/v1/usage").json().await?;
    if arguments.format.json {
        return output::line(&usage, out);
    }
    Ok(write!(out, "{}", table(&usage))?)
}

fn table(usage: &Value) -> Table {
    let period = &usage["period"];
    let (from, until) = (output::text(period, "start"), output::text(period, "end"));
    let mut table = Table::new(&[("from", Side::Left), (&from, Side::Left)]);
    let mut row = |name: &str, text: &str| table.row([name, text]);
    row("until", &until);
    let seconds = output::text(&usage["computeUnitSeconds"], "used");
    row("used", &format!("{seconds} compute unit seconds"));
    let credits = &usage["credits"];
    row("costs", &format!("{} credits", output::text(credits, "used")));
    let left = output::text(credits, "remaining");
    let left = if left.is_empty() { "no limit".to_owned() } else { format!("{left} credits") };
    row("left", &left);
    for (name, quota) in usage["quotas"].as_object().into_iter().flatten() {
        let (current, limit) = (output::text(quota, "current"), output::text(quota, "limit"));
        row(&name.replace('_', " "), &format!("{current} of {limit}"));
    }
    row("prices", &output::text(usage, "pricingVersion"));
    table
}
