//! The log of a command: chunks of both streams under one sequence, of which the oldest give way when
//! there are too many bytes. What gives way is taken into the kept output first.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use domain::{
    command::OutputStream,
    id::{CommandId, OrganizationId},
};
use migrations::rows::LogRow;
use sea_orm::{ConnectionTrait, FromQueryResult};
use uuid::Uuid;

use super::{ACTIVE, Commands, output};
use crate::{
    db::{Sql, Tx, signed, unsigned, word},
    error::{Error, Result},
    time,
};

/// Chunks in one statement; six parameters each, below SQLite's limit of 32766.
const CHUNKS_PER_STATEMENT: usize = 500;

/// A piece of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChunk {
    /// Its number in the command's log, from 1.
    pub seq: u64,
    /// Where it was written to.
    pub stream: OutputStream,
    /// The text.
    pub data: String,
    /// When it came.
    pub created_at: DateTime<Utc>,
}

/// Chunks that are retained of one command at most, however small: a row costs more than its bytes.
const MAX_CHUNKS: i64 = 100_000;
/// A page of chunks ends with the one that reaches this, so that no reader makes a server hold more.
const PAGE_BYTES: i64 = 1 << 20;

impl Commands {
    /// Appends chunks to the log of a command that is not over; false = it is over, nothing was
    /// written. Chunks that are there already are dropped, so a repeat counts no byte twice.
    ///
    /// # Errors
    /// [`Error::Missing`].
    #[tracing::instrument(level = "debug", skip_all,
        fields(by = %self.reach, command = %id, chunks = chunks.len()))]
    pub async fn append_logs(&self, tx: &Tx, id: CommandId, chunks: &[LogChunk]) -> Result<bool> {
        let chunks: BTreeMap<u64, Chunk> =
            chunks.iter().map(|chunk| (chunk.seq, Chunk::from(chunk))).collect();
        if let Some(org_id) = self.count_in(tx, id, &chunks).await? {
            insert(tx, id, org_id, &chunks).await?;
            return Ok(true);
        }
        // Nothing was new without exception: see what is, with the row held still.
        let sql = Sql::new(
            "select c.last_seq, c.status from commands c where c.id = $1",
            [id.uuid().into()],
        );
        let row: Option<Position> =
            self.within(sql).lock(tx, "for no key update of c").one(tx).await?;
        let row = row.ok_or(Error::Missing("command"))?;
        if !word::<domain::command::Status>(&row.status, "a command's status")?.is_active() {
            return Ok(false);
        }
        let last_seq = unsigned(row.last_seq, "a command's last_seq")?;
        let new: BTreeMap<u64, Chunk> =
            chunks.into_iter().filter(|(seq, _)| *seq > last_seq).collect();
        if let Some(org_id) = self.count_in(tx, id, &new).await? {
            insert(tx, id, org_id, &new).await?;
        }
        Ok(true)
    }

    /// Moves the row's counters if the command is active and all chunks are new to it.
    async fn count_in(
        &self,
        tx: &Tx,
        id: CommandId,
        chunks: &BTreeMap<u64, Chunk>,
    ) -> Result<Option<Uuid>> {
        let (Some((first, _)), Some((last, _))) =
            (chunks.first_key_value(), chunks.last_key_value())
        else {
            return Ok(None);
        };
        let bytes: usize = chunks.values().map(|chunk| chunk.data.len()).sum();
        let sql = Sql::new(
            "update commands as c set last_seq = $3, log_bytes = log_bytes + $4
             where c.id = $1 and c.last_seq < $2 and c.status in ",
            [
                id.uuid().into(),
                signed(*first).into(),
                signed(*last).into(),
                i64::try_from(bytes).unwrap_or(i64::MAX).into(),
            ],
        );
        let sql = self.within(sql.text(ACTIVE)).text(" returning org_id");
        Ok(sql.column(tx).await?.pop())
    }

    /// Drops the oldest chunks until at most `keep_bytes` are left, raises `first_seq`, and says
    /// whether it dropped any. What the kept output lacks of them is taken into it. Costs one read
    /// when there is nothing to drop.
    ///
    /// # Errors
    /// [`Error::Missing`].
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, command = %id))]
    pub async fn evict_logs(&self, tx: &Tx, id: CommandId, keep_bytes: u64) -> Result<bool> {
        let sql = Sql::new("select c.log_bytes, c.last_seq, c.first_seq from commands c", []);
        let sql = sql.text(" where c.id = ").bind(id.uuid());
        let sql = self.within(sql).lock(tx, "for no key update of c");
        let held: Held = sql.one(tx).await?.ok_or(Error::Missing("command"))?;
        let excess = held.log_bytes.saturating_sub(signed(keep_bytes));
        let too_many = held.last_seq.saturating_sub(MAX_CHUNKS);
        if excess <= 0 && too_many < held.first_seq {
            return Ok(false);
        }
        let (cut, dropped) = match excess {
            1.. => oldest(tx, id, excess).await?,
            _ => (too_many, bytes_through(tx, id, too_many).await?),
        };
        output::take_in(tx, id, cut).await?;
        Sql::new(
            "delete from command_logs where command_id = $1 and seq <= $2",
            [id.uuid().into(), cut.into()],
        )
        .execute(tx)
        .await?;
        Sql::new(
            "update commands set first_seq = $2, log_bytes = log_bytes - $3 where id = $1",
            [id.uuid().into(), (cut + 1).into(), dropped.into()],
        )
        .execute(tx)
        .await?;
        Ok(true)
    }

    /// Up to `limit` retained chunks after a position, in order, and no more after about a MiB of them:
    /// a page may be short without being the last one. A position before `first_seq - 1` is
    /// a gap that the caller must notice on the command.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, command = %id))]
    pub async fn logs(
        &self,
        c: &impl ConnectionTrait,
        id: CommandId,
        after_seq: u64,
        limit: u32,
    ) -> Result<Vec<LogChunk>> {
        let sql = Sql::new(
            "select p.seq, p.stream, p.data, p.created_at from
               (select l.seq, l.stream, l.data, l.created_at,
                  sum(octet_length(l.data)) over (order by l.seq) - octet_length(l.data) as before
                from commands c join command_logs l on l.command_id = c.id
                where c.id = $1 and l.seq > $2",
            [id.uuid().into(), signed(after_seq).into()],
        );
        let sql = self.within(sql).text(" order by l.seq limit ").bind(i64::from(limit));
        let sql = sql.text(") p where p.before < ").bind(PAGE_BYTES).text(" order by p.seq");
        sql.all(c).await?.into_iter().map(from_row).collect()
    }
}

/// Drops the logs of up to `limit` commands that were over before the instant that their organization
/// keeps logs since, and says of how many. At most some hundred organizations at a time.
/// Their records and kept output stay. An interrupted call is made good by the next one.
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all)]
pub async fn purge_logs(
    c: &impl ConnectionTrait,
    retention: &[(OrganizationId, DateTime<Utc>)],
    limit: u32,
) -> Result<u64> {
    if retention.is_empty() {
        return Ok(0);
    }
    let rows = retention.iter().map(|(org, at)| [org.uuid().into(), time::micros(*at).into()]);
    let ids: Vec<Uuid> = Sql::new("with kept(org_id, since) as (values ", [])
        .rows(rows)
        .text(
            ") select c.id from kept join commands c on c.org_id = kept.org_id
               and c.first_seq <= c.last_seq and c.finished_at < kept.since limit ",
        )
        .bind(i64::from(limit))
        .column(c)
        .await?;
    if ids.is_empty() {
        return Ok(0);
    }
    // The chunks first: rows that say there are none would hide what is left of them for ever.
    let sql = Sql::new("delete from command_logs where command_id in ", []);
    sql.list(ids.iter().copied()).execute(c).await?;
    let sql = Sql::new(
        "update commands set first_seq = last_seq + 1, log_bytes = 0
         where first_seq <= last_seq and id in ",
        [],
    );
    sql.list(ids).execute(c).await
}

/// The bytes of the retained chunks up to `cut`.
async fn bytes_through(tx: &Tx, id: CommandId, cut: i64) -> Result<i64> {
    let sql = Sql::new(
        "select cast(coalesce(sum(octet_length(data)), 0) as bigint) from command_logs
         where command_id = $1 and seq <= $2",
        [id.uuid().into(), cut.into()],
    );
    sql.value(tx).await
}

/// The last of the oldest chunks that have `excess` bytes together, and how many they really have.
async fn oldest(tx: &Tx, id: CommandId, excess: i64) -> Result<(i64, i64)> {
    let (mut cut, mut dropped) = (0, 0);
    while dropped < excess {
        let sql = Sql::new(
            "select seq, cast(octet_length(data) as bigint) as bytes from command_logs
             where command_id = $1 and seq > $2 order by seq limit 500",
            [id.uuid().into(), cut.into()],
        );
        let sizes: Vec<Size> = sql.all(tx).await?;
        if sizes.is_empty() {
            return Err(Error::Corrupt(format!("{id} has fewer log bytes than its row says")));
        }
        for size in sizes {
            if dropped >= excess {
                break;
            }
            cut = size.seq;
            dropped += size.bytes;
        }
    }
    Ok((cut, dropped))
}

async fn insert(tx: &Tx, id: CommandId, org_id: Uuid, chunks: &BTreeMap<u64, Chunk>) -> Result<()> {
    let chunks: Vec<_> = chunks.iter().collect();
    for part in chunks.chunks(CHUNKS_PER_STATEMENT) {
        let rows = part.iter().map(|(seq, chunk)| {
            [
                id.uuid().into(),
                signed(**seq).into(),
                org_id.into(),
                chunk.stream.as_str().into(),
                chunk.data.as_bytes().into(),
                time::micros(chunk.created_at).into(),
            ]
        });
        let text = "insert into command_logs (command_id, seq, org_id, stream, data, created_at)
                    values ";
        let sql = Sql::new(text, []).rows(rows).text(" on conflict do nothing");
        sql.execute(tx).await?;
    }
    Ok(())
}

/// A chunk as it is stored.
struct Chunk {
    stream: OutputStream,
    data: String,
    created_at: DateTime<Utc>,
}

impl From<&LogChunk> for Chunk {
    fn from(chunk: &LogChunk) -> Self {
        Self { stream: chunk.stream, data: chunk.data.clone(), created_at: chunk.created_at }
    }
}

#[derive(FromQueryResult)]
struct Position {
    last_seq: i64,
    status: String,
}

#[derive(FromQueryResult)]
struct Held {
    log_bytes: i64,
    last_seq: i64,
    first_seq: i64,
}

#[derive(FromQueryResult)]
struct Size {
    seq: i64,
    bytes: i64,
}

pub(super) fn from_row(row: LogRow) -> Result<LogChunk> {
    Ok(LogChunk {
        seq: unsigned(row.seq, "a log chunk's seq")?,
        stream: word(&row.stream, "a log chunk's stream")?,
        data: output::text(row.data)?,
        created_at: time::instant(row.created_at)?,
    })
}
