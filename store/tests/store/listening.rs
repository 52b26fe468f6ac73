//! Messages between processes: on PostgreSQL they arrive, on SQLite nobody listens.

use std::time::Duration;

use store::{ConnectionTrait, Db, Error, Listener, Signal};

use crate::fixtures::on_each;

async fn next(listener: &mut Listener) -> Signal {
    let next = tokio::time::timeout(Duration::from_secs(20), listener.next());
    next.await.expect("a signal in time").expect("the listener goes on")
}

async fn send(db: &Db, payload: &str) {
    let tx = db.begin().await.unwrap();
    store::notify(&tx, payload).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn without_postgresql_nobody_listens_and_sending_does_nothing() {
    let database = store::testing::sqlite().await;
    assert!(store::listen(&database.db).is_none());
    send(&database.db, "x").await;
}

#[tokio::test]
async fn what_is_committed_is_heard_by_every_listener() {
    let Some(database) = store::testing::postgres().await else { return };
    let db = &database.db;
    let (mut a, mut b) = (store::listen(db).unwrap(), store::listen(db).unwrap());
    assert_eq!((next(&mut a).await, next(&mut b).await), (Signal::Up, Signal::Up));
    let tx = db.begin().await.unwrap();
    store::notify(&tx, "never").await.unwrap();
    tx.rollback().await.unwrap();
    send(db, "one").await;
    send(db, "zwei ü").await;
    for listener in [&mut a, &mut b] {
        assert_eq!(next(listener).await, Signal::Message("one".to_owned()));
        assert_eq!(next(listener).await, Signal::Message("zwei ü".to_owned()));
    }
    // Longer than a listener waits before it tries its connection.
    let idle = tokio::time::timeout(Duration::from_millis(2_500), a.next()).await;
    assert!(idle.is_err(), "{idle:?}");
    send(db, "three").await;
    assert_eq!(next(&mut a).await, Signal::Message("three".to_owned()));
}

#[tokio::test]
async fn a_lost_connection_is_told_and_made_anew() {
    let Some(database) = store::testing::postgres().await else { return };
    let db = &database.db;
    let mut listener = store::listen(db).unwrap();
    assert_eq!(next(&mut listener).await, Signal::Up);
    let cut = "select pg_terminate_backend(pid) from pg_stat_activity
               where datname = current_database() and query like 'LISTEN%'";
    db.write().execute_unprepared(cut).await.unwrap();
    assert_eq!(next(&mut listener).await, Signal::Down);
    assert_eq!(next(&mut listener).await, Signal::Up);
    send(db, "again").await;
    assert_eq!(next(&mut listener).await, Signal::Message("again".to_owned()));
}

#[tokio::test]
async fn a_message_that_is_too_long_is_refused() {
    on_each(async |db| {
        let tx = db.begin().await.unwrap();
        for payload in ["x".repeat(8_000), "\0".to_owned()] {
            let sent = store::notify(&tx, &payload).await;
            assert!(matches!(sent, Err(Error::Corrupt(_))));
        }
        store::notify(&tx, &"x".repeat(7_999)).await.unwrap();
        tx.commit().await.unwrap();
    })
    .await;
}
