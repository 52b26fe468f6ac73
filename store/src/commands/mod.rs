//! Queries of commands: reads and the steps of a life. Logs, output and the workers' queries are
//! beside this file. Environment variables never come here.

mod collecting;
mod ending;
mod logs;
mod output;
mod row;
mod workers;

use chrono::{DateTime, Utc};
use domain::{
    collect::Request,
    command::{Command, Status},
    id::{CommandId, SandboxId},
};
use sea_orm::ConnectionTrait;

pub use ending::End;
pub use logs::{LogChunk, purge_logs};
use row::{from_row, select};

use crate::{
    Reach,
    db::{Sql, Tx},
    error::{Error, Result},
    time,
};

/// The statuses of commands that are not over, as the partial index spells them.
pub(crate) const ACTIVE: &str = "('queued', 'starting', 'running')";

/// Whether a worker still has something to do with a command, to go on after an `and`.
pub(crate) const UNSETTLED: &str =
    "(c.status in ('queued', 'starting', 'running') or c.collect_status = 'pending')";

/// The commands within reach.
#[must_use]
pub const fn commands(reach: Reach) -> Commands {
    Commands { reach }
}

/// The commands within a reach.
#[derive(Debug, Clone)]
pub struct Commands {
    reach: Reach,
}

impl Commands {
    /// The command, with its output if it is over. One query.
    ///
    /// # Errors
    /// [`Error::Missing`].
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, command = %id))]
    pub async fn get(&self, c: &impl ConnectionTrait, id: CommandId) -> Result<Command> {
        let row = self.within(select("c.id = ").bind(id.uuid())).one(c).await?;
        from_row(row.ok_or(Error::Missing("command"))?)
    }

    /// The commands of a sandbox that are not over, oldest first.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, sandbox = %sandbox_id))]
    pub async fn active_of(
        &self,
        c: &impl ConnectionTrait,
        sandbox_id: SandboxId,
    ) -> Result<Vec<Command>> {
        let sql = select("c.sandbox_id = ").bind(sandbox_id.uuid());
        let sql = self.within(sql.text(" and c.status in ").text(ACTIVE));
        let rows = sql.text(" order by c.id").all(c).await?;
        rows.into_iter().map(from_row).collect()
    }

    /// Writes a new command, whose worker has it until `lease_until`, with the files that it is asked
    /// for.
    ///
    /// # Errors
    /// [`Error::Missing`] for another organization's or project's.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, command = %command.id))]
    pub async fn insert(
        &self,
        tx: &Tx,
        command: &Command,
        collect: Option<&Request>,
        lease_until: DateTime<Utc>,
    ) -> Result<()> {
        self.reach.must_cover(command.org_id, Some(command.project_id))?;
        Sql::new("insert into commands (", [])
            .text(row::STORED)
            .text(") values ")
            .rows([row::to_row(command, collect, lease_until)?])
            .execute(tx)
            .await?;
        Ok(())
    }

    /// Moves a command from one of some statuses to another that is not an end, and says whether it
    /// did. The first `started_at` stays.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for an end, which is [`Self::finish`]'s.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, command = %id))]
    pub async fn mark(
        &self,
        c: &impl ConnectionTrait,
        id: CommandId,
        from: &[Status],
        to: Status,
        started_at: Option<DateTime<Utc>>,
    ) -> Result<bool> {
        if !to.is_active() {
            return Err(Error::Corrupt(format!("{id} cannot go on as {}", to.as_str())));
        }
        let sql = Sql::new(
            "update commands as c set status = $2, started_at = coalesce(c.started_at, $3)
             where c.id = $1 and c.status in ",
            [id.uuid().into(), to.as_str().into(), started_at.map(time::micros).into()],
        );
        let sql = sql.list(from.iter().map(|status| status.as_str()));
        Ok(self.within(sql).execute(c).await? == 1)
    }

    fn within(&self, sql: Sql) -> Sql {
        self.reach.by_project(sql, "c.org_id", "c.project_id")
    }
}

#[cfg(test)]
mod tests {
    use domain::command::Status;

    #[test]
    fn what_is_unsettled_is_active_or_collected_from() {
        let wanted = format!("(c.status in {} or c.collect_status = 'pending')", super::ACTIVE);
        assert_eq!(super::UNSETTLED, wanted);
    }

    #[test]
    fn the_list_of_active_statuses_is_that_of_the_domain() {
        let words: Vec<_> = Status::ACTIVE.iter().map(|s| format!("'{}'", s.as_str())).collect();
        assert_eq!(super::ACTIVE, format!("({})", words.join(", ")));
    }
}
