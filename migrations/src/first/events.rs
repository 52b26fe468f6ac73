//! The transactional outbox. An event is written with what it tells of, and published afterwards.
//!
//! `outbox_subjects` numbers the events of a subject, such as a sandbox: whoever writes the next one
//! waits for whoever wrote the last, so that the order of numbers, of positions and of commits is one.

use sea_orm::{ConnectionTrait, DbErr};

/// Events are spread over so many partitions, each of which is published by one relay at a time.
pub(crate) const PARTITIONS: i64 = 64;

pub(super) const STATEMENTS: &[&str] = &[
    "create table outbox_subjects (
        subject text not null,
        org_id uuid not null,
        last_sequence bigint not null,
        constraint outbox_subjects_pkey primary key (subject),
        constraint outbox_subjects_org_fkey foreign key (org_id) references organizations (id)
    )",
    "create table outbox_events (
        position bigint generated always as identity primary key,
        id uuid not null,
        org_id uuid not null,
        partition bigint not null,
        subject text not null,
        sequence bigint not null,
        type text not null,
        data text not null,
        trace_parent text,
        occurred_at bigint not null,
        created_at bigint not null,
        published_at bigint,
        constraint outbox_events_id_key unique (id),
        constraint outbox_events_sequence_key unique (subject, sequence),
        constraint outbox_events_org_fkey foreign key (org_id) references organizations (id)
    )",
    "create index outbox_unpublished on outbox_events (partition, position)
        where published_at is null",
    "create index outbox_published on outbox_events (published_at) where published_at is not null",
    "create index outbox_by_org on outbox_events (org_id, position)",
    "create table outbox_partitions (
        partition bigint not null,
        owner text,
        leased_until bigint not null,
        constraint outbox_partitions_pkey primary key (partition)
    )",
];

pub(super) async fn seed(c: &impl ConnectionTrait) -> Result<(), DbErr> {
    let rows: Vec<String> = (0..PARTITIONS).map(|n| format!("({n}, null, 0)")).collect();
    let rows = rows.join(", ");
    let sql =
        format!("insert into outbox_partitions (partition, owner, leased_until) values {rows}");
    c.execute_unprepared(&sql).await.map(|_| ())
}
