//! What background workers ask of commands. Whoever runs a command renews its lease; one whose lease
//! ran out is an orphan that another worker takes over.

use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::{command::Command, id::CommandId};
use sea_orm::ConnectionTrait;
use uuid::Uuid;

use super::{
    Commands, UNSETTLED,
    row::{from_row, select},
};
use crate::{db::Sql, error::Result, reach::uuids, time};

impl Commands {
    /// Takes up to `limit` unsettled commands of a host's sandboxes whose lease ran out before `now`, the
    /// longest ago first, until `now + lease`.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, host))]
    pub async fn claim_orphans(
        &self,
        c: &impl ConnectionTrait,
        host: &str,
        now: DateTime<Utc>,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<Command>> {
        let sql = Sql::new(
            "with orphans as materialized (select c.id from commands c
               join sandboxes s on s.id = c.sandbox_id
               where s.host = $1 and c.lease_until < $2 and ",
            [host.into(), time::micros(now).into()],
        );
        let claimed: Vec<Uuid> = self
            .within(sql.text(UNSETTLED))
            .text(" order by c.lease_until limit ")
            .bind(i64::from(limit))
            .lock(c, "for no key update of c skip locked")
            .text(") update commands set lease_until = ")
            .bind(time::micros(now + lease))
            .text(" where id in (select id from orphans) returning id")
            .column(c)
            .await?;
        if claimed.is_empty() {
            return Ok(Vec::new());
        }
        let rows = select("c.id in ").list(claimed).text(" order by c.id").all(c).await?;
        rows.into_iter().map(from_row).collect()
    }

    /// Extends the leases of commands that are not settled. Rows that somebody else is changing are
    /// skipped: the lease is longer than the time to the next renewal, and waiting for many rows at
    /// once could deadlock.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, n = ids.len()))]
    pub async fn renew(
        &self,
        c: &impl ConnectionTrait,
        ids: &[CommandId],
        until: DateTime<Utc>,
    ) -> Result<()> {
        for part in ids.chunks(10_000) {
            let sql = Sql::new(
                "with free as materialized (select c.id from commands c
                   where c.lease_until < $1 and ",
                [time::micros(until).into()],
            );
            let sql = sql.text(UNSETTLED).text(" and c.id in ").list(uuids(part));
            self.within(sql)
                .lock(c, "for no key update skip locked")
                .text(") update commands set lease_until = $1 where id in (select id from free)")
                .execute(c)
                .await?;
        }
        Ok(())
    }
}
