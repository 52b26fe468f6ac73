//! The oracle: usage is billed by workers that nothing goes well for, and computed a second time from
//! raw lifetimes in plain integers. Both must say the same, to the last unit.
//!
//! `ORACLE_LIFETIMES` says how many lifetimes (10000), `ORACLE_SEED` repeats a run, `ORACLE_ORGANIZATION`
//! one organization of it; `make oracle` lives a million.

mod audit;
mod base;
mod dice;
mod life;
mod plain;
mod worker;
mod world;

use std::{thread, time::Instant};

use dice::Dice;
use world::Tally;

/// Sandboxes of an organization at most.
const MOST: i64 = 12;

/// A run is divided into so many, whatever the number of cores, so that its seed says everything.
const SHARES: u64 = 16;

fn setting(name: &str, default: u64) -> u64 {
    let set = std::env::var(name).ok();
    set.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Lives through organizations until there were so many lifetimes.
fn live_through(seed: u64, lifetimes: u64) -> Tally {
    let mut dice = Dice::of(seed);
    let mut sum = Tally::default();
    while sum.lifetimes < lifetimes {
        let seed = dice.throw();
        let said = Said(seed);
        let (world, base, mut tally) = world::live(seed, MOST);
        audit::audit(&world, &base, &mut tally);
        drop(said);
        sum = sum.and(tally);
    }
    sum
}

/// Tells the seed of the organization at which a test fails.
struct Said(u64);

impl Drop for Said {
    #[expect(clippy::print_stderr, reason = "a failure that cannot be repeated is of no use")]
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("organization {}: repeat it with ORACLE_ORGANIZATION={}", self.0, self.0);
        }
    }
}

/// Lives through every share, on every core.
fn live_through_all(seed: u64, lifetimes: u64) -> Tally {
    let threads = u64::try_from(thread::available_parallelism().map_or(1, usize::from));
    let threads = threads.expect("there are few").min(SHARES);
    let share = |share: u64| {
        let seed = Dice::of(seed.wrapping_add(share << 32)).throw();
        live_through(seed, (lifetimes + share) / SHARES)
    };
    thread::scope(|scope| {
        let shares = |first| (first..SHARES).step_by(usize::try_from(threads).expect("few"));
        let work = |first| move || shares(first).map(share).fold(Tally::default(), Tally::and);
        let workers: Vec<_> = (0..threads).map(|first| scope.spawn(work(first))).collect();
        let tallies = workers.into_iter().map(|worker| worker.join().expect("it says why"));
        tallies.fold(Tally::default(), Tally::and)
    })
}

#[test]
fn lifetimes_are_billed_to_the_last_unit() {
    if let Ok(seed) = std::env::var("ORACLE_ORGANIZATION") {
        let (world, base, mut tally) = world::live(seed.parse().unwrap(), MOST);
        audit::audit(&world, &base, &mut tally);
        return;
    }
    let (lifetimes, seed) = (setting("ORACLE_LIFETIMES", 10_000), setting("ORACLE_SEED", 1));
    let began = Instant::now();
    let sum = live_through_all(seed, lifetimes);
    println!("{sum}");
    println!("Seed {seed}; it took {:.1} s.", began.elapsed().as_secs_f64());
    assert!(sum.repeated > 0 && sum.stale > 0 && sum.crashes > 0, "nothing went wrong");
    assert!(sum.paid > 0 && sum.paid < sum.cost, "credit paid for all or nothing");
}

#[test]
fn the_oracle_knows_the_calendar() {
    for (at, after) in [
        ("2032-02-29T23:59:59Z", "2032-03-01T00:00:00Z"),
        ("2031-12-31T00:00:00Z", "2032-01-01T00:00:00Z"),
        ("2031-02-01T00:00:00Z", "2031-03-01T00:00:00Z"),
        ("2100-02-28T12:00:00Z", "2100-03-01T00:00:00Z"),
    ] {
        let micros =
            |text: &str| text.parse::<chrono::DateTime<chrono::Utc>>().unwrap().timestamp_micros();
        assert_eq!(plain::month_after(micros(at)), micros(after), "{at}");
    }
}
