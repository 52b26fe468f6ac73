//! The transactional outbox: events are appended in the transaction that makes them true, read in the
//! order of their commits, and marked once the broker has confirmed them.

mod feed;

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use domain::id::{EventId, OrganizationId};
use migrations::{OUTBOX_PARTITIONS, rows::EventRow};
use sea_orm::{ConnectionTrait, FromQueryResult};
use uuid::Uuid;

use crate::{
    Reach,
    db::{Sql, Tx, count},
    error::{Error, Result},
    time,
};
pub use feed::{EventFilter, Fed};

/// Rows in one statement; ten parameters each, below SQLite's limit of 32,766.
const CHUNK: usize = 2_000;
/// More events than this are not counted: without a broker they may be very many.
pub const MOST_COUNTED: i64 = 1_000_000;
const COLUMNS: &str =
    "e.position, e.id, e.org_id, e.partition, e.subject, e.sequence, e.type, e.data,
       e.trace_parent, e.occurred_at, e.created_at, e.published_at";

/// An event that is not written yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// Its id: what consumers drop repeats by.
    pub id: EventId,
    /// Whose it is.
    pub org: OrganizationId,
    /// What it is about: events of one subject are published in their order.
    pub subject: String,
    /// Tells the partition of the subject; any number that is always the same for it.
    pub spread: u8,
    /// What happened, with its version.
    pub kind: &'static str,
    /// Its payload, as JSON.
    pub data: String,
    /// The trace that it belongs to, as W3C prints it.
    pub trace_parent: Option<String>,
    /// When it happened.
    pub occurred_at: DateTime<Utc>,
}

/// The outbox within reach.
#[must_use]
pub const fn outbox(reach: Reach) -> Outbox {
    Outbox { reach }
}

/// The outbox within a reach.
#[derive(Debug, Clone)]
pub struct Outbox {
    reach: Reach,
}

/// How much waits to be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromQueryResult)]
pub struct Backlog {
    /// Events that are not confirmed, as far as [`MOST_COUNTED`].
    pub depth: i64,
    /// When the oldest of them was written, in microseconds.
    pub oldest: Option<i64>,
}

impl Outbox {
    /// Appends events, and holds their subjects until the transaction ends. Call it last: nothing else
    /// may be waited for with subjects held.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, n = events.len()))]
    pub async fn append(&self, tx: &Tx, events: &[NewEvent], now: DateTime<Utc>) -> Result<()> {
        let mut subjects: BTreeMap<&str, (OrganizationId, i64)> = BTreeMap::new();
        for event in events {
            self.reach.must_cover(event.org, None)?;
            subjects.entry(&event.subject).or_insert((event.org, 0)).1 += 1;
        }
        let mut next = self.number(tx, &subjects).await?;
        for part in events.chunks(CHUNK) {
            let mut rows = Vec::with_capacity(part.len());
            for event in part {
                let number = next
                    .get_mut(&event.subject)
                    .ok_or_else(|| Error::Corrupt(format!("{} was not numbered", event.subject)))?;
                *number += 1;
                rows.push([
                    event.id.uuid().into(),
                    event.org.uuid().into(),
                    (i64::from(event.spread) % OUTBOX_PARTITIONS).into(),
                    event.subject.as_str().into(),
                    (*number).into(),
                    event.kind.into(),
                    event.data.as_str().into(),
                    event.trace_parent.as_deref().into(),
                    time::micros(event.occurred_at).into(),
                    time::micros(now).into(),
                ]);
            }
            Sql::new(
                "insert into outbox_events (id, org_id, partition, subject, sequence, type, data,
                   trace_parent, occurred_at, created_at) values ",
                [],
            )
            .rows(rows)
            .execute(tx)
            .await?;
        }
        Ok(())
    }

    /// Takes numbers for so many events of each subject, in the order of their names, so that two
    /// transactions never wait for each other. Returns the last number before them.
    async fn number(
        &self,
        tx: &Tx,
        subjects: &BTreeMap<&str, (OrganizationId, i64)>,
    ) -> Result<BTreeMap<String, i64>> {
        #[derive(FromQueryResult)]
        struct Numbered {
            subject: String,
            last_sequence: i64,
        }
        let mut last = BTreeMap::new();
        let all: Vec<_> = subjects.iter().collect();
        for part in all.chunks(CHUNK) {
            let rows = part
                .iter()
                .map(|(subject, (org, n))| [(**subject).into(), org.uuid().into(), (*n).into()]);
            let sql = Sql::new(
                "insert into outbox_subjects (subject, org_id, last_sequence) values ",
                [],
            )
            .rows(rows)
            .text(
                " on conflict (subject) do update
                          set last_sequence = outbox_subjects.last_sequence + excluded.last_sequence
                          returning subject, last_sequence",
            );
            let numbered: Vec<Numbered> = feed::noting_floor(sql, tx).all(tx).await?;
            for row in numbered {
                let n = subjects.get(row.subject.as_str()).map_or(0, |(_, n)| *n);
                last.insert(row.subject, row.last_sequence - n);
            }
        }
        Ok(last)
    }

    /// Leases up to `limit` partitions that have something to publish and that nobody else has leased,
    /// beginning after one of them: whoever goes round leaves none out for long.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach))]
    pub async fn lease(
        &self,
        c: &impl ConnectionTrait,
        owner: &str,
        now: DateTime<Utc>,
        lease: Duration,
        (after, limit): (i64, u32),
    ) -> Result<Vec<i64>> {
        let sql = Sql::new(
            "with free as materialized (select p.partition from outbox_partitions p
               where p.leased_until <= $1 and exists (select 1 from outbox_events e
                 where e.partition = p.partition and e.published_at is null)
               order by case when p.partition > $2 then 0 else 1 end, p.partition limit $3",
            [time::micros(now).into(), after.into(), i64::from(limit).into()],
        );
        sql.lock(c, "for no key update skip locked")
            .text(") update outbox_partitions set owner = ")
            .bind(owner)
            .text(", leased_until = ")
            .bind(time::micros(now + lease))
            .text(" where partition in (select partition from free) returning partition")
            .column(c)
            .await
    }

    /// Gives leased partitions back.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach))]
    pub async fn release(
        &self,
        c: &impl ConnectionTrait,
        owner: &str,
        partitions: &[i64],
    ) -> Result<()> {
        let sql = Sql::new(
            "update outbox_partitions set owner = null, leased_until = 0 where owner = $1
             and partition in ",
            [owner.into()],
        );
        sql.list(partitions.iter().copied()).execute(c).await?;
        Ok(())
    }

    /// The oldest events of these partitions after a position that are not published, in their order.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach))]
    pub async fn unpublished(
        &self,
        c: &impl ConnectionTrait,
        partitions: &[i64],
        after: i64,
        limit: u32,
    ) -> Result<Vec<EventRow>> {
        let sql = select().text("e.position > ").bind(after);
        let sql = sql.text(" and e.published_at is null and e.partition in ");
        let sql = self.reach.by_org(sql.list(partitions.iter().copied()), "e.org_id");
        sql.text(" order by e.position limit ").bind(i64::from(limit)).all(c).await
    }

    /// Notes that the broker has confirmed events.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, n = positions.len()))]
    pub async fn mark_published(
        &self,
        c: &impl ConnectionTrait,
        positions: &[i64],
        now: DateTime<Utc>,
    ) -> Result<()> {
        for part in positions.chunks(CHUNK) {
            let sql = Sql::new(
                "update outbox_events as e set published_at = $1 where e.published_at is null
                 and e.position in ",
                [time::micros(now).into()],
            );
            let sql = sql.list(part.iter().copied());
            self.reach.by_org(sql, "e.org_id").execute(c).await?;
        }
        Ok(())
    }

    /// Drops up to `limit` events that were confirmed before an instant.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach))]
    pub async fn trim(
        &self,
        c: &impl ConnectionTrait,
        before: DateTime<Utc>,
        limit: u32,
    ) -> Result<u64> {
        let positions: Vec<i64> = Sql::new(
            "select e.position from outbox_events e
             where e.published_at is not null and e.published_at < $1
             order by e.published_at limit $2",
            [time::micros(before).into(), i64::from(limit).into()],
        )
        .column(c)
        .await?;
        let n = count(positions.len());
        for part in positions.chunks(CHUNK) {
            let sql = Sql::new("delete from outbox_events where position in ", []);
            sql.list(part.iter().copied()).execute(c).await?;
        }
        Ok(n)
    }

    /// An event.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, event = %id))]
    pub async fn find(&self, c: &impl ConnectionTrait, id: EventId) -> Result<Option<EventRow>> {
        let id: Uuid = id.uuid();
        self.reach.by_org(select().text("e.id = ").bind(id), "e.org_id").one(c).await
    }

    /// The trace that a subject's first event belongs to: that in which it was made. One read by its key;
    /// `None` when there was none, or the event is trimmed.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach))]
    pub async fn first_trace(
        &self,
        c: &impl ConnectionTrait,
        subject: &str,
    ) -> Result<Option<String>> {
        let sql = Sql::new(
            "select e.trace_parent from outbox_events e where e.sequence = 1 and e.subject = ",
            [],
        );
        let sql = self.reach.by_org(sql.bind(subject), "e.org_id");
        Ok(sql.column::<Option<String>>(c).await?.pop().flatten())
    }

    /// How much waits. However much it is, this reads no more than [`MOST_COUNTED`] rows: the oldest of a
    /// partition is its first.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach))]
    pub async fn backlog(&self, c: &impl ConnectionTrait) -> Result<Backlog> {
        let waiting = " from outbox_events e where e.published_at is null";
        let sql = Sql::new("select (select count(*) from (select 1", []).text(waiting);
        let sql = self.reach.by_org(sql, "e.org_id").text(" limit ").bind(MOST_COUNTED);
        let sql = sql.text(") as counted) as depth, min(heads.created_at) as oldest from (select");
        let sql = sql.text(" (select e.created_at").text(waiting);
        let sql = self.reach.by_org(sql.text(" and e.partition = p.partition"), "e.org_id");
        let sql = sql.text(" order by e.position limit 1) as created_at");
        let found = sql.text(" from outbox_partitions p) as heads").one(c).await?;
        Ok(found.unwrap_or(Backlog { depth: 0, oldest: None }))
    }
}

fn select() -> Sql {
    Sql::new("select ", []).text(COLUMNS).text(" from outbox_events e where ")
}
