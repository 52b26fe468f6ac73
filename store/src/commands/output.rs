//! The kept beginning of a command's output. Its row says through which log chunk it reaches; what
//! comes after that is still in the log, so both together are the whole beginning at any time.

use domain::{
    command::{Inline, OutputStream},
    id::CommandId,
};
use migrations::rows::{CommandOutputRow, LogRow};
use sea_orm::{ConnectionTrait, Value};

use super::{Commands, logs};
use crate::{
    db::{Sql, Tx, signed},
    error::{Error, Result},
};

/// Chunks read at a time; each may have as much as the agent sends at once.
const BATCH: i64 = 64;

/// Reads output, which is stored as bytes because PostgreSQL takes no NUL in a text.
pub(super) fn text(stored: Vec<u8>) -> Result<String> {
    String::from_utf8(stored).map_err(|_| Error::Corrupt("output that is not UTF-8".to_owned()))
}

impl Commands {
    /// Keeps the beginnings of both streams as they are after the last chunk that was appended; to be
    /// called in the transaction that appended it.
    ///
    /// # Errors
    /// [`Error::Missing`].
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, command = %id))]
    pub async fn save_heads(
        &self,
        tx: &Tx,
        id: CommandId,
        stdout: &Inline,
        stderr: &Inline,
    ) -> Result<()> {
        let sql = Sql::new(
            "insert into command_outputs (command_id, org_id, stdout, stdout_truncated, stderr,
               stderr_truncated, through_seq)
             select c.id, c.org_id, $2, $3, $4, $5, c.last_seq from commands c where c.id = $1",
            values(id, stdout, stderr),
        );
        match self.within(sql).text(ON_CONFLICT).execute(tx).await? {
            0 => Err(Error::Missing("command")),
            _ => Ok(()),
        }
    }

    /// The beginnings of both streams so far: what was kept, and what the log has after that.
    ///
    /// # Errors
    /// [`Error::Missing`].
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, command = %id))]
    pub async fn heads(&self, c: &impl ConnectionTrait, id: CommandId) -> Result<(Inline, Inline)> {
        let sql = Sql::new("select c.last_seq from commands c where c.id = ", []).bind(id.uuid());
        let last: i64 = self.within(sql).column(c).await?.pop().ok_or(Error::Missing("command"))?;
        loop {
            let mut heads = Heads::read(c, id).await?;
            let kept = heads.through;
            heads.push_through(c, id, last).await?;
            // Outside a transaction, chunks may have moved from the log into the kept output between
            // the two reads.
            if through(c, id).await? == kept {
                return Ok((heads.stdout, heads.stderr));
            }
        }
    }
}

/// Takes the chunks up to `cut` into the kept output, because they are about to be dropped.
pub(super) async fn take_in(tx: &Tx, id: CommandId, cut: i64) -> Result<()> {
    let mut heads = Heads::read(tx, id).await?;
    if heads.are_full() || heads.through >= cut {
        return Ok(());
    }
    heads.push_through(tx, id, cut).await?;
    let sql = Sql::new(
        "insert into command_outputs (command_id, org_id, stdout, stdout_truncated, stderr,
           stderr_truncated, through_seq)
         select c.id, c.org_id, $2, $3, $4, $5, $6 from commands c where c.id = $1",
        values(id, &heads.stdout, &heads.stderr).into_iter().chain([cut.into()]),
    );
    sql.text(ON_CONFLICT).execute(tx).await?;
    Ok(())
}

/// Through which chunk the kept output reaches.
async fn through(c: &impl ConnectionTrait, id: CommandId) -> Result<i64> {
    let sql = Sql::new("select through_seq from command_outputs where command_id = ", []);
    Ok(sql.bind(id.uuid()).column(c).await?.pop().unwrap_or(0))
}

struct Heads {
    stdout: Inline,
    stderr: Inline,
    through: i64,
}

impl Heads {
    async fn read(c: &impl ConnectionTrait, id: CommandId) -> Result<Self> {
        let sql = Sql::new(
            "select stdout, stdout_truncated, stderr, stderr_truncated, through_seq
             from command_outputs where command_id = $1",
            [id.uuid().into()],
        );
        let Some(row): Option<CommandOutputRow> = sql.one(c).await? else {
            let (stdout, stderr) = (Inline::default(), Inline::default());
            return Ok(Self { stdout, stderr, through: 0 });
        };
        Ok(Self {
            stdout: Inline { text: text(row.stdout)?, truncated: row.stdout_truncated },
            stderr: Inline { text: text(row.stderr)?, truncated: row.stderr_truncated },
            through: row.through_seq,
        })
    }

    const fn are_full(&self) -> bool {
        self.stdout.truncated && self.stderr.truncated
    }

    async fn push_through(
        &mut self,
        c: &impl ConnectionTrait,
        id: CommandId,
        last: i64,
    ) -> Result<()> {
        while self.through < last && !self.are_full() {
            let sql = Sql::new(
                "select seq, stream, data, created_at from command_logs
                 where command_id = $1 and seq > $2 and seq <= $3 order by seq limit $4",
                [id.uuid().into(), self.through.into(), last.into(), BATCH.into()],
            );
            let rows: Vec<LogRow> = sql.all(c).await?;
            if rows.is_empty() {
                break;
            }
            for row in rows {
                let chunk = logs::from_row(row)?;
                self.through = signed(chunk.seq);
                match chunk.stream {
                    OutputStream::Stdout => self.stdout.push(&chunk.data),
                    OutputStream::Stderr => self.stderr.push(&chunk.data),
                }
            }
        }
        Ok(())
    }
}

const ON_CONFLICT: &str = " on conflict (command_id) do update set stdout = excluded.stdout,
   stdout_truncated = excluded.stdout_truncated, stderr = excluded.stderr,
   stderr_truncated = excluded.stderr_truncated, through_seq = excluded.through_seq";

fn values(id: CommandId, stdout: &Inline, stderr: &Inline) -> [Value; 5] {
    [
        id.uuid().into(),
        stdout.text.as_bytes().into(),
        stdout.truncated.into(),
        stderr.text.as_bytes().into(),
        stderr.truncated.into(),
    ]
}
