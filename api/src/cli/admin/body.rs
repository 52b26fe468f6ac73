//! A request's body in a file: the API's own JSON, or the same as TOML, which people like better to
//! write. What is right in it is for the API to say.

use std::{io::Read, path::Path};

use anyhow::Context;
use serde_json::{Map, Value};

use super::Failure;

/// A file of more bytes than this is none that somebody wrote.
const MAX_FILE: u64 = 1 << 20;

/// The body in a file; `-` is standard input.
pub(super) fn read(file: &Path) -> Result<Map<String, Value>, Failure> {
    parse(&text(file)?).map_err(|why| Failure::Argument(format!("file: {why}")))
}

fn text(file: &Path) -> Result<String, Failure> {
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
    Ok(object(table))
}

fn object(table: toml::Table) -> Map<String, Value> {
    table.into_iter().map(|(name, value)| (name, json(value))).collect()
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
        toml::Value::Table(table) => Value::Object(object(table)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn toml_says_what_json_does() {
        let wanted = json!({ "name": "2031-02", "per": 2, "validFrom": "2031-02-01T00:00:00Z",
            "sizes": { "base": "1.5" } });
        let toml = "name = \"2031-02\"\nper = 2\nvalidFrom = 2031-02-01T00:00:00Z\n\
                    [sizes]\nbase = \"1.5\"\n";
        for text in [toml, &wanted.to_string()] {
            assert_eq!(Value::Object(parse(text).unwrap()), wanted, "{text}");
        }
        for text in ["name = ", "{\"name\":", "7"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let failure = read(Path::new("/nowhere")).unwrap_err();
        assert!(failure.to_string().starts_with("reading /nowhere: "), "{failure}");
    }
}
