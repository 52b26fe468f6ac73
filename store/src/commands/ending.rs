//! How commands end: by themselves, by somebody's wish, or with their sandbox. The first end wins.

use chrono::{DateTime, Utc};
use domain::{
    collect::CollectOn,
    command::{CancelMode, Command, Inline, Status, TerminationSignal},
    id::{CommandId, SandboxId},
};
use uuid::Uuid;

use super::{
    ACTIVE, Commands,
    row::{from_row, select},
};
use crate::{
    db::{Sql, Tx},
    error::{Error, Result},
    time,
};

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Its last status.
    pub status: Status,
    /// The exit code, when it ended by itself.
    pub exit_code: Option<i32>,
    /// When it started, if it did, by the clock that `finished_at` is by: it replaces the instant
    /// that was stored when the start was seen.
    pub started_at: Option<DateTime<Utc>>,
    /// When it was over.
    pub finished_at: DateTime<Utc>,
    /// How it was canceled.
    pub cancel_mode: Option<CancelMode>,
    /// When it was canceled.
    pub canceled_at: Option<DateTime<Utc>>,
    /// The signal the platform ended it with.
    pub termination_signal: Option<TerminationSignal>,
    /// The beginning of its output.
    pub stdout: Inline,
    /// The beginning of its error output.
    pub stderr: Inline,
}

impl Commands {
    /// Ends a command that is not over; false = it was, and keeps its end.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for an end that is none.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, command = %id))]
    pub async fn finish(&self, tx: &Tx, id: CommandId, end: &End) -> Result<bool> {
        if end.status.is_active() {
            return Err(Error::Corrupt(format!("{id} cannot end as {}", end.status.as_str())));
        }
        let sql = Sql::new(
            "update commands as c set status = $2, exit_code = $3,
               started_at = coalesce($4, c.started_at), finished_at = $5, cancel_mode = $6,
               canceled_at = $7, termination_signal = $8, ",
            [
                id.uuid().into(),
                end.status.as_str().into(),
                end.exit_code.map(i64::from).into(),
                end.started_at.map(time::micros).into(),
                time::micros(end.finished_at).into(),
                end.cancel_mode.map(CancelMode::as_str).into(),
                end.canceled_at.map(time::micros).into(),
                end.termination_signal.map(TerminationSignal::as_str).into(),
            ],
        );
        let succeeded = CollectOn::Success.covers(end.status, end.exit_code);
        let sql = sql.text(collection_after(succeeded)).text(" where c.id = $1 and c.status in ");
        if self.within(sql.text(ACTIVE)).execute(tx).await? == 0 {
            return Ok(false);
        }
        self.save_heads(tx, id, &end.stdout, &end.stderr).await?;
        Ok(true)
    }

    /// Cancels a command that nobody has begun to start; false = somebody has, or it is over.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, command = %id))]
    pub async fn cancel_queued(
        &self,
        tx: &Tx,
        id: CommandId,
        mode: CancelMode,
        now: DateTime<Utc>,
    ) -> Result<bool> {
        let sql = Sql::new(
            "update commands as c set status = 'canceled', finished_at = $2, canceled_at = $2,
               cancel_mode = $3, ",
            [id.uuid().into(), time::micros(now).into(), mode.as_str().into()],
        );
        let sql = sql.text(collection_after(false));
        let sql = sql.text(" where c.id = $1 and c.status = 'queued'");
        if self.within(sql).execute(tx).await? == 0 {
            return Ok(false);
        }
        self.save_heads(tx, id, &Inline::default(), &Inline::default()).await?;
        Ok(true)
    }

    /// Ends all commands of a sandbox that are not over, at `at` or when they started if that is
    /// later, and returns them with their output.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, sandbox = %sandbox_id))]
    pub async fn kill_of_sandbox(
        &self,
        tx: &Tx,
        sandbox_id: SandboxId,
        at: DateTime<Utc>,
    ) -> Result<Vec<Command>> {
        let sql = Sql::new(
            "update commands as c set status = 'killed', finished_at =
               case when coalesce(c.started_at, c.created_at) > $2
                 then coalesce(c.started_at, c.created_at) else $2 end, ",
            [sandbox_id.uuid().into(), time::micros(at).into()],
        );
        let sql = sql.text(collection_after(false));
        let sql = sql.text(" where c.sandbox_id = $1 and c.status in ");
        let sql = self.within(sql.text(ACTIVE)).text(" returning id");
        let killed: Vec<Uuid> = sql.column(tx).await?;
        if killed.is_empty() {
            return Ok(Vec::new());
        }
        for id in &killed {
            let id = CommandId::from_uuid(*id);
            let (stdout, stderr) = self.heads(tx, id).await?;
            self.save_heads(tx, id, &stdout, &stderr).await?;
        }
        let rows = select("c.id in ").list(killed).text(" order by c.id").all(tx).await?;
        rows.into_iter().map(from_row).collect()
    }
}

/// What an end makes of the files that a command is asked for: they are collected, for which its worker
/// keeps it, or they are not wanted after such an end.
const fn collection_after(succeeded: bool) -> &'static str {
    if succeeded {
        return "lease_until = case when c.collect_status = 'pending' then c.lease_until end";
    }
    "collect_status = case when c.collect_status = 'pending' and c.collect_on = 'success'
       then 'skipped' else c.collect_status end,
     lease_until = case when c.collect_status = 'pending' and c.collect_on = 'always'
       then c.lease_until end"
}
