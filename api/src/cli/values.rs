//! How values are written on the command line.

use std::{fmt, str::FromStr};

use billing::period::Period;
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use rust_decimal::Decimal;

/// A value, or `none`.
#[derive(Debug, Clone, Copy)]
pub(super) struct OrNone<T>(pub Option<T>);

impl<T> FromStr for OrNone<T>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(None));
        }
        text.parse().map(|value| Self(Some(value))).map_err(|error: T::Err| error.to_string())
    }
}

/// A decimal number with nothing lost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exactly(pub Decimal);

impl FromStr for Exactly {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let number = Decimal::from_str_exact(text);
        number.map(Self).map_err(|_| "expected a decimal number such as 12.5".to_owned())
    }
}

/// An instant: `2031-02-01T12:00:00Z`, or a day, which is its beginning in UTC.
pub(super) fn instant(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(day) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Ok(day.and_time(NaiveTime::MIN).and_utc());
    }
    DateTime::parse_from_rfc3339(text).map(|at| at.to_utc()).map_err(|_| {
        "expected an instant such as 2031-02-01T12:00:00Z, or a day such as 2031-02-01".to_owned()
    })
}

/// A month.
pub(super) fn period(text: &str) -> Result<Period, String> {
    text.parse().map_err(|error: billing::Error| error.to_string())
}

/// One of the words that a type is written with.
pub(super) fn word<T: FromStr>(text: &str, all: &[&str]) -> Result<T, String> {
    text.parse().map_err(|_| format!("expected one of {}", all.join(", ")))
}

/// A length of time in milliseconds: `90s`, `10m`, `1h`, `1500ms`.
pub(super) fn milliseconds(text: &str) -> Result<u64, String> {
    let wanted = || "expected a length of time such as 90s, 10m, 1h or 1500ms".to_owned();
    let at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wanted)?;
    let (number, unit) = text.split_at(at);
    let unit = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wanted()),
    };
    let number: u64 = number.parse().map_err(|_| wanted())?;
    number.checked_mul(unit).filter(|ms| *ms > 0).ok_or_else(wanted)
}

/// A name and a value: `NAME=VALUE`.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => Err("expected NAME=VALUE".to_owned()),
    }
}

/// A length of time as [`milliseconds`], or none at all: `0`.
pub(super) fn milliseconds_or_none(text: &str) -> Result<u64, String> {
    if text == "0" { Ok(0) } else { milliseconds(text) }
}

/// An id that goes into a path: of its own letters only, so that it cannot become another path.
fn id(text: &str, prefix: &str) -> Result<String, String> {
    let rest = text.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('_'));
    match rest {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_alphanumeric()) && is_word(rest) => {
            Ok(text.to_owned())
        }
        Some(_) | None => Err(format!("expected an id such as {prefix}_019a...")),
    }
}

fn is_word(text: &str) -> bool {
    text.chars().all(|c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}

/// A name that goes into a path, such as that of a limit or a month.
pub(super) fn path_word(text: &str) -> Result<String, String> {
    if !text.is_empty() && text.split('.').all(|part| !part.is_empty() && is_word(part)) {
        Ok(text.to_owned())
    } else {
        Err("expected a name of letters, digits, `-`, `_` and single dots".to_owned())
    }
}

/// Makes the parsers of ids.
macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident $prefix:literal;)*) => {$(
        $(#[$doc])*
        pub(super) fn $name(text: &str) -> Result<String, String> {
            id(text, $prefix)
        }
    )*};
}

ids! {
    /// A sandbox's id.
    sandbox_id "sbx";
    /// A command's id.
    command_id "cmd";
    /// An organization's id.
    organization_id "org";
    /// A member's id.
    user_id "usr";
    /// A project's id.
    project_id "prj";
    /// A template's id.
    template_id "tpl";
    /// The id of a template's version.
    template_version_id "tplv";
    /// A tenant's key's id.
    api_key_id "key";
    /// An operator's key's id.
    admin_key_id "akey";
    /// A grant's id.
    grant_id "grt";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_has_a_unit() {
        for (text, wanted) in
            [("1500ms", 1500), ("90s", 90_000), ("10m", 600_000), ("2h", 7_200_000)]
        {
            assert_eq!(milliseconds(text), Ok(wanted), "{text}");
        }
        for text in ["", "10", "s", "0s", "1.5h", "-1s", "1 s", "99999999999999999999s", "1w"] {
            assert!(milliseconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_id_cannot_become_another_path() {
        assert!(sandbox_id("sbx_019a").is_ok());
        for text in ["", "sbx", "sbx_", "sbx_../x", "sbx_a/b", "sbx_a?b", "cmd_1", "sbx_-", "sbx_é"]
        {
            assert!(sandbox_id(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_cannot_become_another_path() {
        for text in ["scale", "max_sandboxes", "2031-01", "v1.2"] {
            assert_eq!(path_word(text).as_deref(), Ok(text));
        }
        for text in ["", ".", "..", "a/b", "a?b", "a%2fb", "a..b", ".a", "é"] {
            assert!(path_word(text).is_err(), "{text}");
        }
        assert_eq!(milliseconds_or_none("0"), Ok(0));
        assert!(milliseconds_or_none("0s").is_err());
    }

    #[test]
    fn a_pair_is_cut_at_its_first_sign() {
        assert_eq!(pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(pair("=b").is_err() && pair("a").is_err());
    }
}
