//! Randomness with a seed, and what the environment says about it. Good for choosing instants, for
//! nothing else.

use std::time::{Duration, UNIX_EPOCH};

/// A stream of numbers that the seed decides (splitmix64).
#[derive(Debug)]
pub struct Chance(u64);

impl Chance {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `n` - 1.
    pub const fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn up_to(&mut self, most: Duration) -> Duration {
        let micros = u64::try_from(most.as_micros()).unwrap();
        Duration::from_micros(self.below(micros))
    }

    /// A stream of its own, so that tasks do not take numbers from each other.
    pub const fn fork(&mut self) -> Self {
        Self(self.next())
    }
}

/// `CRASH_SEED`, or another one each time.
#[expect(clippy::disallowed_methods, reason = "a seed that differs is all that is wanted")]
pub fn seed() -> u64 {
    let now = || std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    number("CRASH_SEED").unwrap_or_else(|| u64::from(now().subsec_nanos()))
}

/// A number from the environment.
pub fn number<N: std::str::FromStr>(name: &str) -> Option<N> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}
