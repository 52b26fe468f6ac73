//! Transactions: quotas under contention, two processes on one file, what is dropped.

use std::time::Duration;

use futures_util::future::join_all;
use store::{ConnectionTrait, Db, Options, organizations};

use crate::fixtures::{Tenant, at, everyone, on_each};

const LIMIT: u64 = 10;

/// Creates a sandbox as the use case does, unless the quota is used up.
async fn create(db: &Db, acme: &Tenant) -> bool {
    let tx = db.begin().await.unwrap();
    organizations::lock(&tx, acme.org.id).await.unwrap();
    let sandboxes = store::sandboxes(acme.reach());
    if sandboxes.count_live(&tx, acme.org.id).await.unwrap() >= LIMIT {
        return false;
    }
    sandboxes.insert(&tx, &acme.sandbox(), at(0)).await.unwrap();
    tx.commit().await.unwrap();
    true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_quota_holds_under_contention() {
    on_each(async |db| {
        let acme = Tenant::new(db, "acme").await;
        let admitted = join_all((0..64).map(|_| create(db, &acme))).await;
        assert_eq!(admitted.into_iter().filter(|admitted| *admitted).count(), 10);
        let live = store::sandboxes(acme.reach()).count_live(db.read(), acme.org.id).await.unwrap();
        assert_eq!(live, LIMIT);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_processes_may_read_and_then_write() {
    for database in store::testing::databases().await {
        let options = Options { max_connections: 4 };
        let second = Db::connect(&database.url, options).await.unwrap();
        let acme = Tenant::new(&database.db, "acme").await;
        let work = async |db: &Db| {
            let mut admitted = 0;
            for _ in 0..40 {
                admitted += u64::from(create(db, &acme).await);
            }
            admitted
        };
        let (a, b) = tokio::join!(work(&database.db), work(&second));
        assert_eq!(a + b, LIMIT, "on {}", database.name);
        second.close().await.unwrap();
    }
}

#[tokio::test]
async fn what_is_dropped_or_rolled_back_never_was() {
    on_each(async |db| {
        let acme = Tenant::new(db, "acme").await;
        for roll_back in [true, false] {
            let tx = db.begin().await.unwrap();
            let sandbox = acme.sandbox();
            let sandboxes = store::sandboxes(everyone());
            sandboxes.insert(&tx, &sandbox, None).await.unwrap();
            if roll_back {
                tx.rollback().await.unwrap();
            } else {
                drop(tx);
            }
            assert!(sandboxes.get(db.read(), sandbox.id).await.is_err());
        }
        acme.stored(db).await; // the connection is good for more
    })
    .await;
}

#[tokio::test]
async fn giving_up_while_waiting_for_a_transaction_harms_nobody() {
    for database in store::testing::databases().await {
        let db = &database.db;
        let acme = Tenant::new(db, "acme").await;
        let options = Options { max_connections: 2 };
        let other = Db::connect(&database.url, options).await.unwrap();
        for _ in 0..5 {
            let held = db.begin().await.unwrap();
            organizations::lock(&held, acme.org.id).await.unwrap();
            let waiting = async {
                let tx = other.begin().await.unwrap();
                organizations::lock(&tx, acme.org.id).await.unwrap();
            };
            let waited = tokio::time::timeout(Duration::from_millis(30), waiting).await;
            assert!(waited.is_err(), "the lock was free on {}", database.name);
            drop(held);
        }
        assert!(create(&other, &acme).await);
        assert!(create(db, &acme).await);
        other.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_transaction_in_which_something_failed_is_not_committed() {
    on_each(async |db| {
        let acme = Tenant::new(db, "acme").await;
        let tx = db.begin().await.unwrap();
        let sandbox = acme.sandbox();
        store::sandboxes(everyone()).insert(&tx, &sandbox, None).await.unwrap();
        let taken = organizations::insert(&tx, &acme.org).await;
        assert!(matches!(taken, Err(store::Error::Taken(_))));
        assert!(matches!(tx.commit().await, Err(store::Error::Corrupt(_))));
        assert!(store::sandboxes(everyone()).get(db.read(), sandbox.id).await.is_err());
    })
    .await;
}

#[tokio::test]
async fn nobody_writes_on_a_connection_for_reading() {
    let database = store::testing::sqlite().await;
    let written = database.db.read().execute_unprepared("delete from templates").await;
    assert!(written.is_err());
    database.db.ping().await.unwrap();
}

#[tokio::test]
async fn an_address_of_no_known_kind_is_refused() {
    for address in ["mysql://root@localhost/x", "sqlite::memory:", "sqlite://x?mode=memory", ""] {
        let options = Options { max_connections: 1 };
        let refused = Db::connect(address, options).await;
        assert!(matches!(refused, Err(store::Error::Unavailable(_))), "{address}");
    }
}
