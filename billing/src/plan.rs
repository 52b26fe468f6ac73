//! What a plan means in money: whether usage may go beyond credit, and the credit that comes with it.

use chrono::{DateTime, Utc};
use domain::limits::Plan;

use crate::{money::CREDIT, period::Period};

/// What happens when credit is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Everything stops.
    CreditOnly,
    /// The rest is invoiced, up to the organization's spend cap.
    CreditThenInvoice,
}

/// The terms of a plan (contract, section 7.1). Money is in billionths of the currency's unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// What happens when credit is used up.
    pub mode: Mode,
    /// Credit worth this much comes once in an organization's life.
    pub once: i64,
    /// Credit worth this much comes each period and is lost with it.
    pub each_period: i64,
}

/// The terms of a plan. The documentation's catalogue names no included credit for its paid plans.
#[must_use]
pub const fn terms(plan: Plan) -> Terms {
    match plan {
        Plan::Free => Terms { mode: Mode::CreditOnly, once: 10 * CREDIT, each_period: 0 },
        Plan::Builder => Terms::invoiced(20 * CREDIT),
        Plan::Scale => Terms::invoiced(100 * CREDIT),
        Plan::Enterprise | Plan::Developer | Plan::Team => Terms::invoiced(0),
    }
}

impl Terms {
    const fn invoiced(each_period: i64) -> Self {
        Self { mode: Mode::CreditThenInvoice, once: 0, each_period }
    }
}

/// How far an organization's plan credit was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// The period that was last looked at.
    pub period: Period,
    /// What was granted in it, in billionths of the currency's unit.
    pub in_period: i64,
    /// Whether the credit that comes once came.
    pub once: bool,
}

/// Credit that a plan brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// The plan.
    pub plan: Plan,
    /// Its worth, in billionths of the currency's unit.
    pub worth: i64,
    /// From when on it pays.
    pub starts_at: DateTime<Utc>,
    /// Until when.
    pub expires_at: Option<DateTime<Utc>>,
}

/// The credit that plans have brought up to `now`, in order, since it was last looked at. A plan that
/// takes effect in the middle of a period brings what it has more than was granted in that period.
#[must_use]
pub fn due(
    granted: &mut Granted,
    plan: Plan,
    next: Option<(Plan, DateTime<Utc>)>,
    now: DateTime<Utc>,
) -> Vec<Due> {
    let mut due = Vec::new();
    let (mut plan, mut next) = (plan, next);
    // The organization's first look, or a plan that was set at once.
    top_up(granted, plan, now.min(granted.period.end()), &mut due);
    loop {
        let period_ends = granted.period.end();
        match next {
            Some((then, at)) if at <= now && at < period_ends => {
                (plan, next) = (then, None);
                top_up(granted, plan, at.max(granted.period.start()), &mut due);
            }
            _ if period_ends <= now => {
                granted.period = granted.period.next();
                granted.in_period = 0;
                // A change at the very beginning of a period is that period's plan.
                if let Some((then, at)) = next
                    && at <= granted.period.start()
                {
                    (plan, next) = (then, None);
                }
                top_up(granted, plan, granted.period.start(), &mut due);
            }
            _ => return due,
        }
    }
}

fn top_up(granted: &mut Granted, plan: Plan, at: DateTime<Utc>, due: &mut Vec<Due>) {
    let terms = terms(plan);
    if terms.once > 0 && !granted.once {
        granted.once = true;
        due.push(Due { plan, worth: terms.once, starts_at: at, expires_at: None });
    }
    let worth = terms.each_period - granted.in_period;
    if worth > 0 && at < granted.period.end() {
        granted.in_period = terms.each_period;
        let expires_at = Some(granted.period.end());
        due.push(Due { plan, worth, starts_at: at, expires_at });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        format!("{text}T00:00:00Z").parse().unwrap()
    }

    fn check(plan: Plan, next: Option<(Plan, &str)>, now: &str, wanted: &[(&str, i64)]) {
        let mut granted = Granted { period: "2031-01".parse().unwrap(), in_period: 0, once: false };
        // First looked at on 10 January.
        let mut found = due(&mut granted, plan, None, at("2031-01-10"));
        let next = next.map(|(plan, text)| (plan, at(text)));
        found.extend(due(&mut granted, plan, next, at(now)));
        assert_eq!(due(&mut granted, next.map_or(plan, |(plan, _)| plan), None, at(now)), []);
        let found: Vec<_> = found.iter().map(|d| (d.starts_at, d.worth / CREDIT)).collect();
        let wanted: Vec<_> = wanted.iter().map(|(text, worth)| (at(text), *worth)).collect();
        assert_eq!(found, wanted, "{plan:?} {next:?} {now}");
    }

    #[test]
    fn plans_bring_their_credit_once_and_each_period() {
        check(Plan::Free, None, "2031-05-01", &[("2031-01-10", 10)]);
        check(Plan::Builder, None, "2031-01-31", &[("2031-01-10", 20)]);
        let months = [("2031-01-10", 20), ("2031-02-01", 20), ("2031-03-01", 20)];
        check(Plan::Builder, None, "2031-03-01", &months);
        let upgrade = Some((Plan::Scale, "2031-02-15"));
        let wanted = [("2031-01-10", 20), ("2031-02-01", 20), ("2031-02-15", 80)];
        check(Plan::Builder, upgrade, "2031-02-20", &wanted);
        let down = Some((Plan::Builder, "2031-02-01"));
        check(Plan::Scale, down, "2031-02-20", &[("2031-01-10", 100), ("2031-02-01", 20)]);
        let to_free = Some((Plan::Free, "2031-01-20"));
        check(Plan::Builder, to_free, "2031-02-20", &[("2031-01-10", 20), ("2031-01-20", 10)]);
    }
}
