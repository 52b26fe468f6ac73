//! What plan and what spend cap held when, from the record of their changes. Past usage is judged by
//! what held then, however late it is settled.

use billing::{
    money,
    period::Period,
    plan::{Mode, terms},
};
use chrono::{DateTime, Utc};
use domain::limits::Plan;
use rust_decimal::Decimal;
use store::rows::ChangeRow;

use super::convert::{corrupt, instant};
use crate::app::error::Result;

/// The name of the setting that is the plan.
pub(super) const PLAN: &str = "plan";
/// The name of the setting that is the spend cap.
pub(super) const SPEND_CAP: &str = "spend_cap";

/// Plans and caps, each from an instant on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// Plans, the one that is to take effect included.
    pub plans: Vec<(DateTime<Utc>, Plan)>,
    /// Caps, in billionths of the currency's unit; `None` = there is none.
    pub caps: Vec<(DateTime<Utc>, Option<i64>)>,
}

impl History {
    /// Reads the changes of an organization, in the order in which they were made.
    ///
    /// # Errors
    /// When a row means nothing.
    pub fn of(rows: &[ChangeRow]) -> Result<Self> {
        let mut history = Self::default();
        for row in rows {
            let (made_at, at) = (instant(row.made_at)?, instant(row.takes_effect_at)?);
            if row.setting == PLAN {
                // A plan that was to take effect after a later change was made never did.
                history.plans.retain(|(from, _)| *from <= made_at);
                let plan = row.value.as_deref().and_then(|name| name.parse().ok());
                history.plans.push((at, plan.unwrap_or(Plan::Free)));
            } else {
                let cap = row.value.as_deref().map(cap).transpose()?;
                history.caps.push((at, cap));
            }
        }
        Ok(history)
    }

    pub(super) fn plan_at(&self, at: DateTime<Utc>) -> Plan {
        let begun = self.plans.iter().rev().find(|(from, _)| *from <= at);
        begun.or(self.plans.first()).map_or(Plan::Free, |(_, plan)| *plan)
    }

    /// The cap at an instant; the account's if it was never changed.
    pub(super) fn cap_at(&self, at: DateTime<Utc>, now: Option<i64>) -> Option<i64> {
        if self.caps.is_empty() {
            return now;
        }
        // Before the first change there was none.
        self.caps.iter().rev().find(|(from, _)| *from <= at).and_then(|(_, cap)| *cap)
    }

    /// Whether usage beyond credit could be invoiced at some instant of a period.
    pub(super) fn invoices_in(&self, period: Period) -> Option<bool> {
        let (start, end) = (period.start(), period.end());
        let within = self.plans.iter().filter(|(from, _)| start < *from && *from < end);
        let mut plans = within.map(|(_, plan)| *plan).chain([self.plan_at(start)]);
        let invoiced = plans.any(|plan| terms(plan).mode == Mode::CreditThenInvoice);
        (!self.plans.is_empty()).then_some(invoiced)
    }
}

fn cap(text: &str) -> Result<i64> {
    let cap: Option<Decimal> = text.parse().ok();
    cap.and_then(money::nano).ok_or_else(|| corrupt(format!("a spend cap is {text:?}")))
}
