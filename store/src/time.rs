//! Instants as both databases store them: whole microseconds since the epoch, UTC. One rule for both,
//! so that comparisons and arithmetic are the same SQL everywhere. Reads no clock.

use chrono::{DateTime, Utc};

use crate::error::{Error, Result};

/// The stored form; what is below a microsecond is cut off.
pub(crate) fn micros(at: DateTime<Utc>) -> i64 {
    at.timestamp_micros()
}

pub(crate) fn instant(micros: i64) -> Result<DateTime<Utc>> {
    DateTime::from_timestamp_micros(micros)
        .ok_or_else(|| Error::Corrupt(format!("{micros} is no instant")))
}

pub(crate) fn optional(micros: Option<i64>) -> Result<Option<DateTime<Utc>>> {
    micros.map(instant).transpose()
}

/// The instant as it will be read back.
#[must_use]
pub fn truncate(at: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros(at)).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_time_is_stored_and_read() {
        let end = truncate(DateTime::<Utc>::MAX_UTC);
        assert_eq!(instant(micros(DateTime::<Utc>::MAX_UTC)).unwrap(), end);
        assert!(matches!(instant(i64::MAX), Err(Error::Corrupt(_))));
    }

    #[test]
    fn what_is_below_a_microsecond_is_cut_off() {
        let at = DateTime::from_timestamp(1, 2_999).unwrap();
        assert_eq!(micros(at), 1_000_002);
        assert_eq!(truncate(at), DateTime::from_timestamp(1, 2_000).unwrap());
    }
}
