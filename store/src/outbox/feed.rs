//! Reading the outbox by position, without missing what is committed late. Whoever follows it, the
//! command line or an API, reads here.
//!
//! The gap: PostgreSQL hands out positions when rows are inserted, and transactions end in any order.
//! A reader that saw position 7 may find 6 only later, and would never look for it again.
//!
//! The rule: a position is *settled* once every transaction that got it or one below it has ended, and
//! only settled events are read. To tell, each transaction that appends notes, before it gets its
//! first position, the last one that was handed out by then, its floor: as the number of a shared
//! advisory lock, which the database keeps until the commit is visible, and no longer however the
//! transaction ends. A reader takes the last position that was handed out, then the lowest floor that
//! is held; the lesser of both is settled. A transaction that it did not see among the locks has
//! either ended, or will get its positions after the first look, so above what that showed.
//!
//! Nothing waits for these locks, and only transactions that append hold readers up: no long report, no
//! other database, no standby. SQLite has one writer at a time, so there every position that can be
//! seen is settled.

use chrono::{DateTime, Utc};
use migrations::rows::EventRow;
use sea_orm::{ConnectionTrait, DbBackend};

use super::{Outbox, select};
use crate::{
    Backend, Db,
    db::{Sql, Tx},
    error::Result,
    time,
};

/// The floors' locks are the 64-bit ones whose upper 16 bits are these; a position has the other 48.
const FLOORS: i64 = 0x6f62;
const POSITION_BITS: i64 = 48;

/// Which events are wanted; what is `None` is not asked about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// How their types begin.
    pub kind_start: Option<String>,
    /// Written at this instant or later.
    pub since: Option<DateTime<Utc>>,
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fed {
    /// Events in the order of positions.
    pub events: Vec<EventRow>,
    /// Where to go on: nothing that is wanted will ever appear up to here but these.
    pub next: i64,
    /// Whether there may be more already.
    pub has_more: bool,
}

impl Outbox {
    /// Settled events after a position, published or not, in the order of positions; those of a subject
    /// are in their order, too. Published ones that are older than the retention time are gone.
    ///
    /// It takes the database, not a transaction: it looks twice, and must see the second time what was
    /// committed before the first.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach))]
    pub async fn feed(&self, db: &Db, filter: &EventFilter, after: i64, limit: u32) -> Result<Fed> {
        let settled = settled(db).await?;
        let sql = select().text("e.position > ").bind(after);
        let mut sql = sql.text(" and e.position <= ").bind(settled);
        if let Some(start) = &filter.kind_start {
            let length = i64::try_from(start.chars().count()).unwrap_or(i64::MAX);
            sql = sql.text(" and substr(e.type, 1, cast(").bind(length).text(" as integer)) = ");
            sql = sql.bind(start.as_str());
        }
        if let Some(since) = filter.since {
            sql = sql.text(" and e.created_at >= ").bind(time::micros(since));
        }
        let sql = self.reach.by_org(sql, "e.org_id").text(" order by e.position limit ");
        let events: Vec<EventRow> = sql.bind(i64::from(limit)).all(db.read()).await?;
        let has_more = u32::try_from(events.len()).is_ok_and(|n| n >= limit);
        let next = match events.last() {
            Some(last) if has_more => last.position,
            Some(_) | None => settled.max(after),
        };
        Ok(Fed { events, next, has_more })
    }

    /// The position behind every settled event: whoever begins there gets what comes.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach))]
    pub async fn end(&self, db: &Db) -> Result<i64> {
        settled(db).await
    }
}

/// Appends to the statement that takes a transaction's numbers the note of its floor: it comes before
/// the first position and after all waiting for subjects, so that it holds nobody up for long.
pub(super) fn noting_floor(sql: Sql, tx: &Tx) -> Sql {
    let floor = format!(
        ", pg_advisory_xact_lock_shared({} + (select case when is_called then last_value else 0 end
           from outbox_events_position_seq))",
        FLOORS << POSITION_BITS
    );
    if tx.get_database_backend() == DbBackend::Postgres { sql.text(&floor) } else { sql }
}

/// The highest position up to which all is settled; 0 before the first event.
async fn settled(db: &Db) -> Result<i64> {
    let sql = match db.backend() {
        Backend::Sqlite => Sql::new(
            "select coalesce((select seq from sqlite_sequence where name = 'outbox_events'), 0)",
            [],
        ),
        // The locks are looked up below a position, so they are looked up after it.
        Backend::Postgres => Sql::new(
            "with handed_out as materialized (
               select case when is_called then last_value else 0 end as last
               from outbox_events_position_seq)
             select coalesce((
               select min(l.floor) from (
                 select ((classid::bigint & 65535) << 32) | objid::bigint as floor
                 from pg_locks where locktype = 'advisory' and objsubid = 1
                   and classid::bigint >> 16 = $1
                   and database = (select oid from pg_database where datname = current_database())
               ) l where l.floor < h.last), h.last)
             from handed_out h",
            [FLOORS.into()],
        ),
    };
    sql.value(db.read()).await
}
