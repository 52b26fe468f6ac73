//! The books, read straight from the tables: laws that hold at every instant, even while no server
//! runs, and the sum of what was metered, computed anew.

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, FromQueryResult, Statement};
use store::Db;
use uuid::Uuid;

const LIVE: &str = "('creating', 'starting', 'ready')";
const ACTIVE: &str = "('queued', 'starting', 'running')";

/// Laws, each with a query for the rows that break it.
const ALWAYS: [(&str, &str); 10] = [
    (
        "a sandbox has ended exactly if it has an end",
        "select id from sandboxes where (phase in LIVE) = (ended_at is not null)",
    ),
    (
        "a sandbox that was ever ready has one meter, any other has none",
        "select s.id from sandboxes s
         where (select count(*) from meters m where m.metric = 'compute_unit_seconds' and m.sandbox_id = s.id)
               <> case when s.ready_at is null then 0 else 1 end",
    ),
    (
        "a meter is open exactly while its sandbox is ready",
        "select s.id from sandboxes s join meters m on m.sandbox_id = s.id and m.metric = 'compute_unit_seconds'
         where (m.closed_at is null) <> (s.phase = 'ready')",
    ),
    (
        "a meter runs from ready to the end, and not past the expiry",
        "select s.id from sandboxes s join meters m on m.sandbox_id = s.id and m.metric = 'compute_unit_seconds'
         where m.opened_at <> s.ready_at or m.closed_at <> s.ended_at
            or m.closed_at > s.expires_at",
    ),
    (
        "no command is active in an ended sandbox",
        "select c.id from commands c join sandboxes s on s.id = c.sandbox_id
         where c.status in ACTIVE and s.phase not in LIVE",
    ),
    (
        "a command has finished exactly if it is not active",
        "select id from commands where (status in ACTIVE) = (finished_at is not null)",
    ),
    (
        "a log has every number from its first to its last",
        "select c.id from commands c
         where (select count(*) from command_logs l where l.command_id = c.id)
               <> c.last_seq - c.first_seq + 1",
    ),
    (
        "a request is answered, or a command will answer it",
        "select id from idempotency_records where status is null and command_id is null",
    ),
    (
        "the command of a request exists",
        "select r.id from idempotency_records r where r.command_id is not null
         and not exists (select 1 from commands c where c.id = r.command_id)",
    ),
    (
        "an organization's creates and commands are counted as often as they happened",
        "select o.id from organizations o where
           (select count(*) from sandboxes s where s.org_id = o.id) <>
           (select count(*) from usage_records u where u.org_id = o.id
              and u.metric = 'sandbox_creates' and u.amount = 1)
           or (select count(*) from commands c where c.org_id = o.id) <>
           (select count(*) from usage_records u where u.org_id = o.id
              and u.metric = 'command_invocations' and u.amount = 1)",
    ),
];

/// Laws of a database that nobody has anything left to do with.
const IN_THE_END: [(&str, &str); 4] = [
    ("no meter is open", "select sandbox_id from meters where closed_at is null"),
    ("no command is active", "select id from commands where status in ACTIVE"),
    (
        "every sandbox is removed",
        "select id from sandboxes where removed_at is null or phase <> 'destroyed'",
    ),
    ("every request is answered", "select id from idempotency_records where status is null"),
];

/// Checks the laws that hold at every instant.
pub async fn hold(db: &Db) {
    check(db, &ALWAYS).await;
}

/// Checks the laws of the end as well.
pub async fn are_closed(db: &Db) {
    check(db, &ALWAYS).await;
    check(db, &IN_THE_END).await;
}

async fn check(db: &Db, laws: &[(&str, &str)]) {
    let findings = api::app::billing::check::all(db).await.unwrap();
    assert!(findings.wrong.is_empty(), "the books are wrong: {:#?}", findings.wrong);
    for (law, query) in laws {
        let query = query.replace("ACTIVE", ACTIVE).replace("LIVE", LIVE);
        let rows = rows(db, &query).await;
        let ids: Vec<Uuid> = rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect();
        assert!(ids.is_empty(), "{law}, but not with {ids:?}");
    }
}

/// How many rows a table has.
pub async fn count(db: &Db, table: &str) -> usize {
    let rows = rows(db, &format!("select count(*) from {table}")).await;
    usize::try_from(rows[0].try_get_by_index::<i64>(0).unwrap()).unwrap()
}

/// What the sandboxes of a database that has only ended ones used since an instant, in compute unit
/// seconds: whole seconds from ready to the end, each sandbox by itself, of one compute unit.
pub async fn used(db: &Db, since: DateTime<Utc>) -> i64 {
    const SECOND: i64 = 1_000_000;
    let sql = "select ready_at, ended_at from sandboxes where ready_at is not null";
    let since = since.timestamp_micros();
    let lives = rows(db, sql).await;
    let lives = lives.iter().map(|row| Life::from_query_result(row, "").unwrap());
    // A sandbox that was there before the period has whole seconds in it, too.
    lives
        .map(|life| {
            let before = (since - life.ready_at).max(0) / SECOND;
            (life.ended_at - life.ready_at) / SECOND - before
        })
        .sum()
}

#[derive(Debug, FromQueryResult)]
struct Life {
    ready_at: i64,
    ended_at: i64,
}

async fn rows(db: &Db, sql: &str) -> Vec<sea_orm::QueryResult> {
    let c = db.read();
    let statement = Statement::from_string(c.get_database_backend(), sql);
    c.query_all_raw(statement).await.unwrap()
}
