//! Chance that can be repeated: SplitMix64. Good enough to vary with, for nothing else.

/// Throws numbers that follow from a seed.
pub struct Dice(u64);

impl Dice {
    /// Dice whose throws follow from a seed.
    pub const fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        let n = u64::try_from(high - low).expect("low is not above high") + 1;
        low + i64::try_from(self.throw() % n).expect("it is less than high")
    }

    /// True in so many of a hundred throws.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.throw() % 100 < percent
    }

    /// One of some.
    pub fn pick<T: Copy>(&mut self, some: &[T]) -> T {
        let place = self.throw() % u64::try_from(some.len()).expect("they are few");
        some[usize::try_from(place).expect("they are few")]
    }
}
