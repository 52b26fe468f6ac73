//! Instants and spans as stories write them: `2031-01-31T23:00:00Z`, `90m`, `1h30m`, `250ms`.

use chrono::{DateTime, TimeDelta, Utc};

/// An instant.
#[must_use]
#[track_caller]
pub fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap_or_else(|error| panic!("{text:?} is no instant: {error}"))
}

/// A span: numbers with the units `ms`, `s`, `m`, `h`, `d`, added up.
#[must_use]
#[track_caller]
pub fn span(text: &str) -> TimeDelta {
    let mut rest = text;
    let mut sum = TimeDelta::zero();
    while !rest.is_empty() {
        let n_digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(n_digits);
        let n_letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(n_letters);
        let number: i64 = number.parse().unwrap_or_else(|_| panic!("{text:?} is no span"));
        sum += match unit {
            "ms" => TimeDelta::milliseconds(number),
            "s" => TimeDelta::seconds(number),
            "m" => TimeDelta::minutes(number),
            "h" => TimeDelta::hours(number),
            "d" => TimeDelta::days(number),
            _ => panic!("{text:?} has a unit that is none of ms, s, m, h, d"),
        };
        rest = tail;
    }
    sum
}

/// An instant as the wire prints it.
#[must_use]
pub fn printed(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_add_up() {
        assert_eq!(span("1h30m"), TimeDelta::minutes(90));
        assert_eq!(span("1500ms"), TimeDelta::milliseconds(1500));
        assert_eq!(printed(at("2031-01-31T23:00:00Z")), "2031-01-31T23:00:00.000Z");
    }
}
