//! A clock that only tests move, and the waiting for it. Reads no real clock and never goes back.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::watch;

/// A shared clock: clones show the same time.
#[derive(Debug, Clone)]
pub struct SimulatedClock(Arc<watch::Sender<DateTime<Utc>>>);

impl SimulatedClock {
    /// Makes a clock that stands at `now`.
    #[must_use]
    pub fn at(now: DateTime<Utc>) -> Self {
        Self(Arc::new(watch::Sender::new(now)))
    }

    /// The time it stands at.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        *self.0.borrow()
    }

    /// Moves it forward and wakes whoever waited for an instant that is reached by it.
    pub fn advance(&self, by: Duration) {
        self.0.send_modify(|now| *now = later(*now, by));
    }

    /// Moves it to `now`; an earlier instant than it stands at leaves it where it is.
    pub fn set(&self, now: DateTime<Utc>) {
        self.0.send_if_modified(|current| {
            let moved = now > *current;
            *current = now.max(*current);
            moved
        });
    }

    /// Returns once the clock stands at `instant` or later.
    pub async fn reaches(&self, instant: DateTime<Utc>) {
        let mut times = self.0.subscribe();
        let mut moved = pin!(times.wait_for(|now| *now >= instant));
        // Looks at the time whenever it is polled: waiters are woken one after another, and whoever
        // waits for two instants must find both of them reached, whichever wakes it first.
        poll_fn(|context| {
            if self.now() >= instant {
                return Poll::Ready(());
            }
            // The sender lives in `self`, so the wait cannot end with a closed channel.
            moved.as_mut().poll(context).map(drop)
        })
        .await;
    }
}

/// `instant + by`, at most the last instant there is.
pub(super) fn later(instant: DateTime<Utc>, by: Duration) -> DateTime<Utc> {
    TimeDelta::from_std(by)
        .ok()
        .and_then(|by| instant.checked_add_signed(by))
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiting_ends_when_the_clock_gets_there_and_not_before() {
        let clock = SimulatedClock::at(DateTime::UNIX_EPOCH);
        let due = later(clock.now(), Duration::from_secs(10));
        let waiting = clock.reaches(due);
        tokio::pin!(waiting);
        clock.advance(Duration::from_secs(9));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        clock.advance(Duration::from_secs(1));
        waiting.await;
        clock.set(DateTime::UNIX_EPOCH);
        assert_eq!(clock.now(), due, "it never goes back");
    }

    #[test]
    fn the_end_of_time_is_not_overrun() {
        assert_eq!(later(DateTime::UNIX_EPOCH, Duration::MAX), DateTime::<Utc>::MAX_UTC);
    }
}
