//! What operators watch of the whole installation: how much waits, how late it is, what runs. A constant
//! number of statements, each of which reads an index, whatever there is of tenants and history.

use chrono::{DateTime, TimeDelta, Utc};
use domain::sandbox::Status;
use sea_orm::{ConnectionTrait, FromQueryResult};

use crate::{
    Reach,
    db::{Sql, word},
    error::Result,
    outbox::{self, Backlog},
    sandboxes, time,
};

/// The vital signs within reach.
#[must_use]
pub const fn vitals(reach: Reach) -> Vitals {
    Vitals { reach }
}

/// The vital signs within a reach.
#[derive(Debug, Clone)]
pub struct Vitals {
    reach: Reach,
}

/// The vital signs at an instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signs {
    /// What waits to be published.
    pub outbox: Backlog,
    /// For how long the oldest of it has.
    pub outbox_lag: TimeDelta,
    /// How long ago the oldest second was used that is not in the books yet.
    pub meter_lag: TimeDelta,
    /// For how long the most overdue account has been due to be settled.
    pub account_lag: TimeDelta,
    /// How many sandboxes that are not over have each status; a status that none has is not named.
    pub sandboxes: Vec<(Status, i64)>,
}

impl Vitals {
    /// Reads them all.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach))]
    pub async fn signs(&self, c: &impl ConnectionTrait, now: DateTime<Utc>) -> Result<Signs> {
        let outbox = outbox::outbox(self.reach.clone()).backlog(c).await?;
        let unsettled = Sql::new(
            // The partial index of unsettled meters, in its own words.
            "select min(m.settled_until) from meters m
             where (m.closed_at is null or m.settled_until < m.closed_at)",
            [],
        );
        let unsettled = self.reach.by_org(unsettled, "m.org_id").value(c).await?;
        let billing = crate::billing::billing(self.reach.clone());
        let due_at = billing.next_account_due(c).await?;
        Ok(Signs {
            outbox_lag: since(now, time::optional(outbox.oldest)?),
            outbox,
            meter_lag: since(now, time::optional(unsettled)?),
            account_lag: since(now, due_at),
            sandboxes: self.by_status(c, now).await?,
        })
    }

    async fn by_status(
        &self,
        c: &impl ConnectionTrait,
        now: DateTime<Utc>,
    ) -> Result<Vec<(Status, i64)>> {
        #[derive(FromQueryResult)]
        struct Counted {
            status: String,
            n: i64,
        }
        let sql = sandboxes::statuses(now);
        let sql = self.reach.by_org(sql, "s.org_id").text(" group by 1");
        let rows: Vec<Counted> = sql.all(c).await?;
        rows.into_iter().map(|row| Ok((word(&row.status, "a sandbox's status")?, row.n))).collect()
    }
}

/// How long ago something was; nothing, or what is still to come, was no time ago.
fn since(now: DateTime<Utc>, then: Option<DateTime<Utc>>) -> TimeDelta {
    then.map_or(TimeDelta::zero(), |then| (now - then).max(TimeDelta::zero()))
}
