//! How answers of an API are printed: tables for people, lines of JSON for programs. Shared by all
//! commands that ask one.

use std::io::Write;

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::{Failure, failure::Form};
use crate::print::{Side, Table};

/// For whom the answer is.
#[derive(Debug, Clone, Copy, Args)]
pub struct Format {
    /// Print JSON, a line for each thing; errors too, on standard error.
    #[arg(long, global = true)]
    pub json: bool,
}

impl Format {
    /// For whom the answer is.
    #[must_use]
    pub const fn form(self) -> Form {
        if self.json { Form::Programs } else { Form::People }
    }
}

/// Prints one line of JSON.
///
/// # Errors
/// When it cannot be written.
pub fn line(value: &impl Serialize, out: &mut impl Write) -> Result<(), Failure> {
    serde_json::to_writer(&mut *out, value).map_err(std::io::Error::from)?;
    Ok(writeln!(out)?)
}

/// Prints an answer's facts, a line each, or the answer itself for programs.
///
/// # Errors
/// When they cannot be written.
pub fn facts(
    value: &Value,
    names: &[(&str, &str)],
    format: Format,
    out: &mut impl Write,
) -> Result<(), Failure> {
    if format.json {
        return line(value, out);
    }
    Ok(write!(out, "{}", lines(value, names, text))?)
}

/// Facts, a line each, as `cell` reads them; those that are empty are left out.
#[must_use]
pub fn lines(
    value: &Value,
    names: &[(&str, &str)],
    cell: impl Fn(&Value, &str) -> String,
) -> String {
    let mut table = Table::new(&[("", Side::Left), ("", Side::Left)]);
    for (name, member) in names {
        let text = cell(value, member);
        if !text.is_empty() {
            table.row([name, &text]);
        }
    }
    // Without the row of headings, which is empty.
    table.to_string().trim_start_matches('\n').to_owned()
}

/// A member's text: of a string its own, of what is absent none, of anything else its JSON.
#[must_use]
pub fn text(value: &Value, member: &str) -> String {
    match &value[member] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Object(map) => {
            let pairs: Vec<_> =
                map.keys().map(|key| format!("{key}={}", text_of(&map[key]))).collect();
            pairs.join(" ")
        }
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_)) => other.to_string(),
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
