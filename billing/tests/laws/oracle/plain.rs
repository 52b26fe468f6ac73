//! The oracle: what usage comes to, computed a second time from raw facts in the simplest way there is.
//! It cuts nothing, remembers nothing, and uses nothing of billing but the names of metrics.

use std::collections::BTreeMap;

use domain::metric::Metric;

use super::life::{History, Life, NEVER, SECOND, Version};

/// Project, month, metric, version.
pub type Key = (u64, String, Metric, usize);

/// Thousandths of units, and nano-credits, of each key; what is nothing is left out.
pub type Sums = BTreeMap<Key, (i128, i128)>;

/// The version of a sandbox: the last one that was valid when it was created.
pub fn pinned(versions: &[Version], created: i64) -> usize {
    let mut found = 0;
    for (place, version) in versions.iter().enumerate() {
        if version.valid_from <= created && version.valid_from >= versions[found].valid_from {
            found = place;
        }
    }
    found
}

/// Thousandths of compute unit seconds before an instant.
pub fn compute(life: &Life, version: &Version, at: i64) -> i64 {
    let until = at.min(life.ended);
    let seconds = (until - life.opened).max(0) / SECOND;
    let mut active = 0;
    for (from, to) in &life.active {
        active += (until.min(*to) - from).max(0);
    }
    let active = if version.idle_milli == 1000 { seconds } else { active / SECOND };
    (active * 1000 + (seconds - active) * version.idle_milli) * life.size_milli / 1000
}

/// Nano-credits for thousandths of units, at so many nano-credits for so many units.
fn price(milli: i64, nano: i64, per: i64, rounding: u8) -> i128 {
    let (all, per) = (i128::from(milli) * i128::from(nano), 1000 * i128::from(per));
    match rounding {
        0 => all / per,
        1 => (all + per - 1) / per,
        _ => (2 * all + per) / (2 * per),
    }
}

/// What an organization used.
pub fn sums(history: &History) -> Sums {
    let mut sums = Sums::new();
    for life in &history.lives {
        let place = pinned(&history.versions, life.created);
        let version = &history.versions[place];
        let mut month = life.created;
        while month < history.end {
            let after = month_after(month);
            let mut add = |metric, before: i64, then: i64, nano, per| {
                let cost = |milli| price(milli, nano, per, version.rounding);
                if then > before {
                    let key = (life.project, name(month), metric, place);
                    let sum = sums.entry(key).or_insert((0, 0));
                    sum.0 += i128::from(then - before);
                    sum.1 += cost(then) - cost(before);
                }
            };
            let (before, then) = (compute(life, version, month), compute(life, version, after));
            let before = if month == life.created { 0 } else { before };
            add(Metric::ComputeUnitSeconds, before, then, 1_000_000_000, version.per_credit);
            for (metric, (nano, per)) in version.rates.iter().enumerate() {
                let of = |until: i64| {
                    let facts = life.facts.iter().filter(|f| f.metric == metric && f.at < until);
                    facts.map(|fact| fact.amount * 1000).sum()
                };
                let before = if month == life.created { 0 } else { of(month) };
                add(Metric::COUNTED[metric], before, of(after), *nano, *per);
            }
            month = after;
        }
    }
    sums
}

/// Year, month and day of an instant (the calendar by 400-year cycles).
fn civil(at: i64) -> (i64, i64, i64) {
    let days = at.div_euclid(86_400 * SECOND) + 719_468;
    let cycle = days.div_euclid(146_097);
    let day = days.rem_euclid(146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (cycle * 400 + year + i64::from(month <= 2), month, day_of_month)
}

/// The name of an instant's month.
fn name(at: i64) -> String {
    let (year, month, _) = civil(at);
    format!("{year:04}-{month:02}")
}

/// The first instant of the next month: found by walking on, day by day.
pub fn month_after(at: i64) -> i64 {
    let day = 86_400 * SECOND;
    let mut next = (at.div_euclid(day) + 1) * day;
    while civil(next).2 != 1 && next < NEVER {
        next += day;
    }
    next
}
