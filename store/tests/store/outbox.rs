//! The outbox read by position: what is committed late is never passed by.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
};

use domain::id::{EventId, SandboxId};
use futures_util::future::join_all;
use store::{
    ConnectionTrait, Db, Scope, Tx,
    outbox::{EventFilter, Fed, NewEvent},
};

use crate::fixtures::{Tenant, at, everyone, on_each};

const KIND: &str = "crownest.sandbox.ready.v1";

fn event(tenant: &Tenant, subject: &str, kind: &'static str) -> NewEvent {
    NewEvent {
        id: EventId::generate(at(0)),
        org: tenant.org.id,
        subject: subject.to_owned(),
        spread: 0,
        kind,
        data: "{}".to_owned(),
        trace_parent: None,
        occurred_at: at(0),
    }
}

async fn append(tx: &Tx, events: &[NewEvent], seconds: i64) {
    store::outbox(everyone()).append(tx, events, at(seconds)).await.unwrap();
}

async fn write(db: &Db, events: &[NewEvent], seconds: i64) {
    let tx = db.begin().await.unwrap();
    append(&tx, events, seconds).await;
    tx.commit().await.unwrap();
}

async fn feed(db: &Db, after: i64) -> Fed {
    let all = EventFilter::default();
    store::outbox(everyone()).feed(db, &all, after, 100).await.unwrap()
}

fn subjects(fed: &Fed) -> Vec<&str> {
    fed.events.iter().map(|event| event.subject.as_str()).collect()
}

#[tokio::test]
async fn an_event_is_read_only_when_no_earlier_one_can_come() {
    let Some(database) = store::testing::postgres().await else { return };
    let db = &database.db;
    let tenant = Tenant::new(db, "a").await;
    assert_eq!((feed(db, 0).await.next, feed(db, 7).await.next), (0, 7), "nothing, at any cursor");
    write(db, &[event(&tenant, "first", KIND)], 0).await;

    let slow = db.begin().await.unwrap();
    append(&slow, &[event(&tenant, "slow", KIND)], 0).await;
    let slower = db.begin().await.unwrap();
    append(&slower, &[event(&tenant, "slower", KIND)], 0).await;
    write(db, &[event(&tenant, "fast", KIND)], 0).await;
    let fed = feed(db, 0).await;
    assert_eq!((subjects(&fed), fed.has_more), (vec!["first"], false));
    let cursor = fed.next;
    assert_eq!(subjects(&feed(db, cursor).await), [""; 0]);
    // What came last ends first: the one before it still holds both up.
    slower.commit().await.unwrap();
    let fed = feed(db, cursor).await;
    assert_eq!((subjects(&fed), fed.next), (vec![], cursor));
    slow.commit().await.unwrap();
    let fed = feed(db, cursor).await;
    assert_eq!(subjects(&fed), ["slow", "slower", "fast"]);

    // One that is given up leaves a gap, and holds nobody up any longer.
    let given_up = db.begin().await.unwrap();
    append(&given_up, &[event(&tenant, "given up", KIND)], 0).await;
    write(db, &[event(&tenant, "after it", KIND)], 0).await;
    assert_eq!(subjects(&feed(db, fed.next).await), [""; 0]);
    given_up.rollback().await.unwrap();
    let last = feed(db, fed.next).await;
    assert_eq!(subjects(&last), ["after it"]);
    assert_eq!(last.next, fed.next + 2);
}

/// Not even if its number is lower than that of every transaction that appends.
#[tokio::test]
async fn a_transaction_that_appends_nothing_holds_nobody_up() {
    let Some(database) = store::testing::postgres().await else { return };
    let db = &database.db;
    let tenant = Tenant::new(db, "a").await;
    let report = db.begin().await.unwrap();
    report.execute_unprepared("update organizations set name = name").await.unwrap();
    let waits = db.begin().await.unwrap();
    waits.execute_unprepared("select pg_current_xact_id()").await.unwrap();
    write(db, &[event(&tenant, "seen", KIND)], 0).await;
    let fed = feed(db, 0).await;
    assert_eq!(subjects(&fed), ["seen"]);
    // A transaction of a lower number gets a higher position: order is that of positions.
    append(&waits, &[event(&tenant, "later", KIND)], 0).await;
    assert_eq!(subjects(&feed(db, fed.next).await), [""; 0]);
    waits.commit().await.unwrap();
    assert_eq!(subjects(&feed(db, fed.next).await), ["later"]);
    report.rollback().await.unwrap();
}

#[tokio::test]
async fn a_reader_gets_all_of_many_writers_once_and_in_order() {
    const WRITERS: usize = 6;
    const EACH: usize = 40;
    on_each(async |db| {
        let tenant = Tenant::new(db, "a").await;
        let (tenant, done) = (&tenant, &AtomicUsize::new(0));
        let writers = (0..WRITERS).map(|n| async move {
            for round in 0..EACH {
                // Subjects that writers share, ones of their own, and some that are given up.
                let (own, shared) = (format!("own {n}"), format!("shared {}", round % 3));
                let events = [event(tenant, &own, KIND), event(tenant, &shared, KIND)];
                let tx = db.begin().await.unwrap();
                append(&tx, &events, 0).await;
                for _ in 0..(n * round) % 7 {
                    tokio::task::yield_now().await;
                }
                if round % 5 == 4 {
                    tx.rollback().await.unwrap();
                } else {
                    tx.commit().await.unwrap();
                }
            }
            done.fetch_add(1, Ordering::SeqCst);
        });
        let reader = async {
            let (mut cursor, mut read) = (0, Vec::new());
            loop {
                let over = done.load(Ordering::SeqCst) == WRITERS;
                let all = EventFilter::default();
                let fed = store::outbox(everyone()).feed(db, &all, cursor, 7).await.unwrap();
                assert!(fed.events.iter().all(|event| event.position > cursor));
                cursor = fed.next;
                read.extend(fed.events);
                if over && !fed.has_more {
                    return read;
                }
            }
        };
        let (_, read) = tokio::join!(join_all(writers), reader);
        assert_eq!(read.len(), WRITERS * EACH * 4 / 5 * 2);
        let mut last = BTreeMap::new();
        for event in &read {
            let before = last.insert(event.subject.clone(), event.sequence).unwrap_or(0);
            assert_eq!(event.sequence, before + 1, "{}", event.subject);
        }
        assert!(read.is_sorted_by_key(|event| event.position));
    })
    .await;
}

#[tokio::test]
async fn a_reader_gets_what_it_wants_and_goes_on_behind_the_rest() {
    on_each(async |db| {
        let (a, b) = (Tenant::new(db, "a").await, Tenant::new(db, "b").await);
        let (ready, key) = ("crownest.sandbox.ready.v1", "crownest.key.created.v1");
        let id = SandboxId::generate(at(0)).to_string();
        write(db, &[event(&a, &id, ready), event(&a, "a", key)], 10).await;
        write(db, &[event(&b, "b", key), event(&b, "b'", ready)], 20).await;
        let outbox = store::outbox(everyone());
        let kind = |start: &str| EventFilter {
            kind_start: Some(start.to_owned()),
            ..EventFilter::default()
        };
        let since = |seconds| EventFilter { since: Some(at(seconds)), ..EventFilter::default() };
        for (filter, wanted) in [
            (kind("crownest.key."), vec!["a", "b"]),
            (kind("crownest.k%"), vec![]),
            (kind(""), vec![&*id, "a", "b", "b'"]),
            (since(20), vec!["b", "b'"]),
            (since(21), vec![]),
        ] {
            let fed = outbox.feed(db, &filter, 0, 100).await.unwrap();
            assert_eq!(subjects(&fed), wanted, "{filter:?}");
            assert_eq!((fed.next, fed.has_more), (4, false), "{filter:?}");
        }
        let mine = store::outbox(Scope::org(b.org.id, None));
        let fed = mine.feed(db, &EventFilter::default(), 0, 1).await.unwrap();
        assert_eq!((subjects(&fed), fed.next, fed.has_more), (vec!["b"], 3, true));
        let fed = mine.feed(db, &EventFilter::default(), fed.next, 1).await.unwrap();
        assert_eq!((subjects(&fed), fed.next, fed.has_more), (vec!["b'"], 4, true));
        let fed = mine.feed(db, &EventFilter::default(), fed.next, 1).await.unwrap();
        assert_eq!((subjects(&fed), fed.next, fed.has_more), (vec![], 4, false));
    })
    .await;
}
