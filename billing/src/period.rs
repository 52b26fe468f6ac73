//! Billing periods: calendar months, UTC, half open. Reads no clock.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Datelike, Months, TimeZone, Utc};

use crate::Error;

/// A calendar month `[start, end)`, UTC. Printed and parsed as `2031-02`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period {
    start: DateTime<Utc>,
}

impl Period {
    /// The month that an instant lies in.
    #[must_use]
    pub fn of(at: DateTime<Utc>) -> Self {
        let start = Utc.with_ymd_and_hms(at.year(), at.month(), 1, 0, 0, 0).single();
        Self { start: start.unwrap_or(at) }
    }

    /// Its first instant.
    #[must_use]
    pub const fn start(self) -> DateTime<Utc> {
        self.start
    }

    /// The first instant after it.
    #[must_use]
    pub fn end(self) -> DateTime<Utc> {
        self.start.checked_add_months(Months::new(1)).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// The month after it.
    #[must_use]
    pub fn next(self) -> Self {
        Self { start: self.end() }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.start.year(), self.start.month())
    }
}

impl FromStr for Period {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (year, month) = text.split_once('-').ok_or(Error::Period)?;
        let digits = |text: &str, n: usize| {
            (text.len() == n && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())
        };
        let year = digits(year, 4).flatten().ok_or(Error::Period)?;
        let month = digits(month, 2).flatten().ok_or(Error::Period)?;
        let year = i32::try_from(year).map_err(|_| Error::Period)?;
        let start = Utc.with_ymd_and_hms(year, month, 1, 0, 0, 0).single();
        start.map(|start| Self { start }).ok_or(Error::Period)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_period_is_the_calendar_month() {
        for (instant, name, start, end) in [
            ("2031-12-31T23:59:59.999999Z", "2031-12", "2031-12-01", "2032-01-01"),
            ("2032-02-29T12:00:00Z", "2032-02", "2032-02-01", "2032-03-01"),
            ("2032-02-01T00:00:00Z", "2032-02", "2032-02-01", "2032-03-01"),
        ] {
            let midnight = |day: &str| at(&format!("{day}T00:00:00Z"));
            let period = Period::of(at(instant));
            assert_eq!((period.start(), period.end()), (midnight(start), midnight(end)), "{name}");
            assert_eq!((period.to_string().as_str(), name.parse()), (name, Ok(period)));
            assert_eq!(period.next().start(), midnight(end), "{name}");
        }
    }

    #[test]
    fn only_a_month_is_a_period() {
        for text in ["", "2031", "2031-13", "2031-00", "2031-1", "31-01", "2031-01-01", "+031-01"] {
            assert_eq!(text.parse::<Period>(), Err(Error::Period), "{text:?}");
        }
    }
}
