//! The one reader of the wall clock in the agent. What waits uses the runtime's own clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, in microseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "this is the agent's only reader of the clock")]
pub fn unix_micros() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}
