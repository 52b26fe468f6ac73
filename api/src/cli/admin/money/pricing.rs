//! `crownest admin pricing`: what things cost. A file is the API's own body, as TOML or JSON; what is
//! right in it is for the API to say.

use std::{io::Read, path::PathBuf};

use anyhow::Context;
use clap::Subcommand;
use serde_json::{Map, Value};

use super::{Ask, Failure, Form, Names, Shown, help, values};

const COLUMNS: Names = &[
    ("version", "name"),
    ("valid from", "validFrom"),
    ("credit costs", "currencyPerCredit"),
    ("currency", "currency"),
    ("credit buys", "computeUnitSecondsPerCredit"),
];
const FACTS: Names = &[
    ("version", "name"),
    ("valid from", "validFrom"),
    ("credit costs", "currencyPerCredit"),
    ("currency", "currency"),
    ("credit buys", "computeUnitSecondsPerCredit"),
    ("sizes", "sizes"),
    ("idle factor", "idleFactor"),
    ("rates", "rates"),
    ("rounding", "rounding"),
];
/// A file of more bytes than this holds no prices.
const MAX_FILE: u64 = 1 << 20;

/// What to do about prices.
#[derive(Debug, Subcommand)]
pub(in super::super) enum Command {
    /// List every version; the one that becomes valid last comes first.
    #[command(after_help = help::with(&["crownest admin pricing list"], help::CLIENT))]
    List,
    /// Show a version.
    #[command(after_help = help::with(&["crownest admin pricing get 2031-01"], help::CLIENT))]
    Get {
        /// The version's name.
        #[arg(value_parser = values::path_word)]
        name: String,
    },
    /// Publish a version, which can never be changed.
    ///
    /// It must begin to be valid at least a minute from now. Sandboxes that were created before keep
    /// their prices. `crownest billing pricing publish --help` shows a file.
    #[command(after_help = help::with(
        &[
            "crownest admin pricing publish prices.toml",
            "crownest admin pricing publish - < prices.json",
        ],
        help::CLIENT,
    ))]
    Publish {
        /// TOML or JSON; `-` reads standard input.
        file: PathBuf,
    },
}

impl Command {
    pub(in super::super) fn ask(self, _: Form) -> Result<Ask, Failure> {
        let one = Shown::One(FACTS);
        Ok(match self {
            Self::List => Ask::get("/pricing-versions", Shown::Pages(COLUMNS)),
            Self::Get { name } => Ask::get(format!("/pricing-versions/{name}"), one),
            Self::Publish { file } => {
                let refuse = |why| Failure::Argument(format!("file: {why}"));
                let body = parse(&read(&file)?).map_err(refuse)?;
                Ask::post("/pricing-versions", one).body(body)
            }
        })
    }
}

fn read(file: &PathBuf) -> Result<String, Failure> {
    let read = || -> anyhow::Result<String> {
        let mut text = String::new();
        let from: Box<dyn Read> = if file.as_os_str() == "-" {
            Box::new(std::io::stdin())
        } else {
            Box::new(std::fs::File::open(file)?)
        };
        let n_bytes = from.take(MAX_FILE + 1).read_to_string(&mut text)?;
        let fits = u64::try_from(n_bytes).is_ok_and(|n_bytes| n_bytes <= MAX_FILE);
        anyhow::ensure!(fits, "it is too large");
        Ok(text)
    };
    // Not into an argument that was refused: the file may be fine, and the disk not.
    let text = read().with_context(|| format!("reading {}", file.display()));
    text.map_err(Failure::Undone)
}

/// JSON, which begins with a brace, or TOML.
fn parse(text: &str) -> Result<Map<String, Value>, String> {
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).map_err(|error| error.to_string());
    }
    let table: toml::Table =
        text.parse().map_err(|error: toml::de::Error| error.message().to_owned())?;
    match json(toml::Value::Table(table)) {
        Value::Object(body) => Ok(body),
        other @ (Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)) => Err(format!("expected a table instead of {other}")),
    }
}

/// What TOML says, as the API's body says it: an instant is a string.
fn json(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(is) => is.into(),
        toml::Value::Datetime(at) => at.to_string().into(),
        toml::Value::Array(items) => items.into_iter().map(json).collect(),
        toml::Value::Table(table) => {
            Value::Object(table.into_iter().map(|(name, value)| (name, json(value))).collect())
        }
    }
}
