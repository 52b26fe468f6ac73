//! Requests per key and minute (contract, section 6). Counted in this process; a fleet of n servers
//! admits up to n times the limit, which is what such a limit is for.

use std::{num::NonZeroU32, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::StateInformationMiddleware,
    state::keyed::DefaultKeyedStateStore,
};
use uuid::Uuid;

type Limiter =
    RateLimiter<Uuid, DefaultKeyedStateStore<Uuid>, DefaultClock, StateInformationMiddleware>;

/// The limiter of all keys.
#[derive(Debug)]
pub struct RateLimits {
    limiter: Option<(u32, Limiter)>,
}

/// What became of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateDecision {
    /// Requests per minute; `None` = no limit.
    pub limit: Option<u32>,
    /// Requests left at this instant.
    pub remaining: Option<u32>,
    /// `Some` = refused; come back after this.
    pub retry_after: Option<Duration>,
}

impl RateLimits {
    /// A limiter of `per_minute` requests; 0 = no limit.
    #[must_use]
    pub fn per_minute(per_minute: u32) -> Self {
        let limiter = NonZeroU32::new(per_minute).map(|n| {
            let limiter = RateLimiter::keyed(Quota::per_minute(n))
                .with_middleware::<StateInformationMiddleware>();
            (per_minute, limiter)
        });
        Self { limiter }
    }

    /// Counts one request of a key, a tenant's or an operator's.
    #[must_use]
    pub fn check(&self, key: Uuid) -> RateDecision {
        let Some((limit, limiter)) = &self.limiter else {
            return RateDecision { limit: None, remaining: None, retry_after: None };
        };
        match limiter.check_key(&key) {
            Ok(state) => RateDecision {
                limit: Some(*limit),
                remaining: Some(state.remaining_burst_capacity()),
                retry_after: None,
            },
            Err(refused) => RateDecision {
                limit: Some(*limit),
                remaining: Some(0),
                retry_after: Some(refused.wait_time_from(DefaultClock::default().now())),
            },
        }
    }

    /// Forgets keys whose window is full again, so that memory is bounded by the active keys.
    pub fn shrink(&self) {
        if let Some((_, limiter)) = &self.limiter {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_after_the_last_is_refused_for_its_key_alone() {
        let limits = RateLimits::per_minute(3);
        let key = Uuid::from_u128;
        let left: Vec<_> = (0..3).map(|_| limits.check(key(1)).remaining).collect();
        assert_eq!(left, [Some(2), Some(1), Some(0)]);
        assert!(limits.check(key(1)).retry_after.is_some());
        assert_eq!(limits.check(key(2)).retry_after, None);
    }

    #[test]
    fn zero_is_no_limit() {
        let limits = RateLimits::per_minute(0);
        let key = Uuid::nil();
        assert!((0..10_000).all(|_| limits.check(key).retry_after.is_none()));
    }
}
