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
