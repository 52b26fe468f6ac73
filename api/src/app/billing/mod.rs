//! What usage costs and who pays. The numbers are decided in the crate `billing`; here they are read,
//! decided and written in one transaction per batch of organizations, under their accounts' locks.
//!
//! `prices` knows the price lists, `book` reads an organization's books, `settle` brings them up to
//! date, `entry` writes what came of it, `tick` does so for whoever is due. `manage` is what operators
//! do, `correct` mends what was measured wrong; `balance`, `statements`, `windows`, `journal` and
//! `check` are what they read.

pub mod admission;
pub mod balance;
pub mod book;
pub mod check;
pub(in crate::app) mod convert;
pub mod correct;
mod entry;
mod history;
pub mod journal;
pub mod manage;
pub mod prices;
pub mod settle;
pub mod statements;
pub mod tick;
pub mod windows;

use billing::{meter::Grid, period::Period};
use chrono::{DateTime, TimeDelta, Utc};
use domain::id::OrganizationId;
use store::{Everyone, Tx, rows::AccountRow};

use super::{audit::Act, error::Result};
use crate::config::Config;

/// How the books are kept: the settings that settlement needs.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Where windows end.
    pub grid: Grid,
    /// How long after a period's end its statement waits for late usage.
    pub statement_delay: TimeDelta,
    /// At which percentages of credit, quota and spend cap an alert is raised.
    pub alert_percents: Vec<u32>,
}

impl Rules {
    /// The rules of an installation.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let minute = Grid::of_seconds(60);
        Self {
            grid: Grid::of_seconds(config.usage_window_seconds)
                .or(minute)
                .expect("a day is a multiple of a minute"),
            statement_delay: TimeDelta::minutes(i64::from(config.statement_delay_minutes)),
            alert_percents: config.alert_percents.clone(),
        }
    }
}

/// Opens the account of a new organization, with the credit that its plan brings.
///
/// # Errors
/// When the database refuses.
pub async fn open_account(
    tx: &Tx,
    rules: &Rules,
    org: OrganizationId,
    now: DateTime<Utc>,
    acts: &mut Vec<Act>,
) -> Result<()> {
    let from = Period::of(now).start().timestamp_micros();
    let account = AccountRow {
        org_id: org.uuid(),
        spend_cap: None,
        open_from: from,
        plan_period: from,
        plan_granted: 0,
        free_granted: false,
        stops_at: None,
        stop_code: None,
        stop_told: false,
        due_at: now.timestamp_micros(),
        last_seq: 0,
        // Read together with the row, not stored in it.
        plan: String::new(),
        next_plan: None,
        next_plan_at: None,
        live: false,
    };
    let reach = Everyone::for_worker("open account");
    let billing = store::billing(reach);
    billing.insert_account(tx, &account).await?;
    // The first plan, so that what held when is known from the beginning.
    let plan = billing.lock_account(tx, org).await?.plan;
    let setting = (history::PLAN, Some(plan.as_str()));
    billing.note_change(tx, org, setting, now, "the account was opened", now).await?;
    let prices = prices::read(tx).await?;
    settle::organization(tx, rules, &prices, org, now, acts).await?;
    Ok(())
}
