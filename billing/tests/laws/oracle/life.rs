//! What really happened to an organization: raw facts in plain integers (microseconds since 1970, whole
//! units), made up by chance. Both the billed world and the oracle start from it; it computes nothing.

use super::{dice::Dice, plain};

/// Microseconds in a second.
pub const SECOND: i64 = 1_000_000;

/// The instant after everything.
pub const NEVER: i64 = 4_000_000_000 * SECOND;

/// A price list.
#[derive(Debug)]
pub struct Version {
    /// Sandboxes that are created from here on have it.
    pub valid_from: i64,
    /// Compute unit seconds per credit.
    pub per_credit: i64,
    /// What an idle second counts, in thousandths.
    pub idle_milli: i64,
    /// 0 down, 1 up, 2 half up.
    pub rounding: u8,
    /// Nano-credits for so many units of each counted metric.
    pub rates: [(i64, i64); 6],
}

/// Something that was counted.
#[derive(Debug)]
pub struct Fact {
    /// Which counted metric.
    pub metric: usize,
    /// When it happened.
    pub at: i64,
    /// When it was known.
    pub known: i64,
    /// How much.
    pub amount: i64,
}

/// A sandbox.
#[derive(Debug)]
pub struct Life {
    /// Its project.
    pub project: u64,
    /// When it was asked for.
    pub created: i64,
    /// When it was ready.
    pub opened: i64,
    /// When it was gone.
    pub ended: i64,
    /// When it would have expired.
    pub expires: i64,
    /// Compute units, in thousandths.
    pub size_milli: i64,
    /// When commands were active: in order, none touching another.
    pub active: Vec<(i64, i64)>,
    /// What it did.
    pub facts: Vec<Fact>,
}

/// Credit.
#[derive(Debug)]
pub struct Credit {
    /// When it was granted.
    pub known: i64,
    /// Nano-credits.
    pub amount: i64,
    /// Smaller is burnt first.
    pub priority: i64,
    /// It pays from here on.
    pub starts: i64,
    /// And before this.
    pub expires: Option<i64>,
}

/// An organization's history.
#[derive(Debug)]
pub struct History {
    /// Its first instant.
    pub start: i64,
    /// By then everything is over and known.
    pub end: i64,
    /// Price lists; the first is older than everything.
    pub versions: Vec<Version>,
    /// Its sandboxes.
    pub lives: Vec<Life>,
    /// Its credit, in the order in which it was granted.
    pub credit: Vec<Credit>,
}

/// Instants worth living through: ends of months, leap days, an end of a year, none of them.
const TURNS: [&str; 7] = [
    "2031-02-01",
    "2032-02-29",
    "2032-03-01",
    "2031-12-31",
    "2032-01-01",
    "2030-11-16",
    "2028-03-01",
];

/// Makes up a history of at most so many sandboxes.
pub fn history(dice: &mut Dice, most: i64) -> History {
    let turn = dice.pick(&TURNS);
    let turn: chrono::NaiveDate = turn.parse().expect("it is a day");
    let turn = turn.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_micros();
    let length = match dice.between(0, 99) {
        0..70 => dice.between(600, 4 * 3600),
        70..97 => dice.between(3600, 3 * 86_400),
        _ => dice.between(86_400, 40 * 86_400),
    } * SECOND;
    let start = turn - dice.between(0, length);
    let end = start + length;
    let versions: Vec<Version> =
        (0..dice.between(1, 3)).map(|place| version(dice, place, start, end)).collect();
    let lives = (0..dice.between(1, most)).map(|_| life(dice, start, end, &versions)).collect();
    let mut credit: Vec<Credit> =
        (0..dice.between(0, 5)).map(|_| grant(dice, start, end)).collect();
    credit.sort_by_key(|credit| credit.known);
    History { start, end: end + 2 * 3600 * SECOND, versions, lives, credit }
}

fn version(dice: &mut Dice, place: i64, start: i64, end: i64) -> Version {
    let mut rates = [(0, 1); 6];
    for rate in &mut rates {
        *rate = match dice.between(0, 2) {
            0 => (0, 1),
            1 => (dice.between(1, 20_000), 1),
            _ => (dice.between(1, 5_000_000_000), dice.between(1, 1 << 24)),
        };
    }
    Version {
        valid_from: if place == 0 { 0 } else { dice.between(start, end) },
        per_credit: if dice.percent(40) { 1000 } else { dice.between(1, 100_000) },
        idle_milli: if dice.percent(50) { 1000 } else { dice.between(0, 1000) },
        rounding: dice.pick(&[0, 1, 2]),
        rates,
    }
}

/// An instant: a third of them whole seconds.
fn instant(dice: &mut Dice, low: i64, high: i64) -> i64 {
    let at = dice.between(low, high);
    if dice.percent(33) { (at / SECOND * SECOND).max(low) } else { at }
}

fn life(dice: &mut Dice, start: i64, end: i64, versions: &[Version]) -> Life {
    let created = instant(dice, start, end);
    let opened = created + dice.between(0, 5 * SECOND);
    let ttl = match dice.between(0, 9) {
        0..5 => dice.between(1, 900),
        5..9 => dice.between(1, 3600),
        _ => dice.between(3600, 5 * 86_400),
    } * SECOND;
    let expires = opened + ttl;
    let ended = if dice.percent(40) { expires } else { instant(dice, opened, expires) }
        .min(end)
        .max(opened);
    let pinned = plain::pinned(versions, created);
    let mut active = Vec::new();
    let mut from = opened;
    for _ in 0..dice.between(0, 3) {
        let (begins, until) = (instant(dice, from, ended.max(from)), ended.max(from));
        let until = instant(dice, begins, until);
        if begins < until && active.last().is_none_or(|(_, before)| *before < begins) {
            active.push((begins, until));
        }
        from = until;
    }
    let n_facts = if dice.percent(60) { 0 } else { dice.between(1, 12) };
    let facts = (0..n_facts).map(|_| fact(dice, (created, ended), &versions[pinned])).collect();
    let project = dice.throw() % 3;
    let size_milli = if dice.percent(50) { 1000 } else { dice.between(1, 64_000) };
    Life { project, created, opened, ended, expires, size_milli, active, facts }
}

/// What has a price that does not come out even is known before its month ends: a nano-credit that is
/// rounded belongs to whichever month is settled last.
fn fact(dice: &mut Dice, (created, ended): (i64, i64), version: &Version) -> Fact {
    let metric = usize::try_from(dice.between(0, 5)).expect("it is small");
    let at = instant(dice, created, ended);
    let late = if dice.percent(70) { 0 } else { dice.between(0, 3600 * SECOND) };
    let even = version.rates[metric].1 == 1;
    let latest = if even { NEVER } else { plain::month_after(at) - 1 };
    Fact { metric, at, known: (at + late).min(latest), amount: dice.between(0, 100_000) }
}

fn grant(dice: &mut Dice, start: i64, end: i64) -> Credit {
    let known = instant(dice, start, end);
    let starts = match dice.between(0, 3) {
        0 => instant(dice, start, known),
        1 => instant(dice, known, end),
        _ => known,
    };
    let expires = instant(dice, starts + 1, end + 86_400 * SECOND);
    let greatest = dice.pick(&[1_000_000, 1_000_000_000, 100_000_000_000, 10_000_000_000_000]);
    Credit {
        known,
        amount: dice.between(1, greatest),
        priority: dice.between(1, 4) * 100,
        starts,
        expires: dice.percent(60).then_some(expires),
    }
}
