//! Idempotency records: one winner, replay byte for byte, expiry.

use chrono::{DateTime, Utc};
use domain::id::{AdminKeyId, CommandId};
use futures_util::future::join_all;
use store::{
    Db, Error,
    idempotency::{self, Asker, IdempotencyScope, NewRecord, RecordId},
};

use crate::fixtures::{Tenant, at, on_each};

fn record(acme: &Tenant, key: &str, created_at: DateTime<Utc>) -> NewRecord {
    NewRecord {
        id: RecordId::generate(created_at),
        scope: IdempotencyScope {
            asker: Asker::Tenant(acme.org.id, acme.key.id),
            method: "POST".to_owned(),
            path: "/v1/sandboxes".to_owned(),
            key: key.to_owned(),
        },
        fingerprint: "f".to_owned(),
        command_id: None,
        outcome: None,
        created_at,
        expires_at: created_at + chrono::TimeDelta::hours(24),
    }
}

fn operator(asker: Asker) -> Asker {
    match asker {
        Asker::Tenant(_, key) => Asker::Operator(AdminKeyId::from_uuid(key.uuid())),
        Asker::Operator(_) => asker,
    }
}

async fn insert(db: &Db, record: &NewRecord) -> bool {
    let tx = db.begin().await.unwrap();
    let won = idempotency::insert(&tx, record).await.unwrap();
    tx.commit().await.unwrap();
    won
}

#[tokio::test]
async fn of_many_requests_at_once_one_is_the_first() {
    on_each(async |db| {
        let acme = Tenant::new(db, "acme").await;
        let tries = (0..32).map(|_| async { insert(db, &record(&acme, "k", at(1))).await });
        let won = join_all(tries).await;
        assert_eq!(won.iter().filter(|won| **won).count(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_request_that_is_rolled_back_leaves_the_key_free() {
    on_each(async |db| {
        let acme = Tenant::new(db, "acme").await;
        let tx = db.begin().await.unwrap();
        assert!(idempotency::insert(&tx, &record(&acme, "k", at(1))).await.unwrap());
        drop(tx);
        assert!(insert(db, &record(&acme, "k", at(1))).await);
    })
    .await;
}

#[tokio::test]
async fn an_answer_is_stored_once_and_read_byte_for_byte() {
    on_each(async |db| {
        let acme = Tenant::new(db, "acme").await;
        let command_id = Some(CommandId::generate(at(1)));
        let new = NewRecord { command_id, ..record(&acme, "k", at(1)) };
        assert_eq!(idempotency::find(db.read(), &new.scope).await.unwrap(), None);
        assert!(insert(db, &new).await);
        let found = idempotency::find(db.read(), &new.scope).await.unwrap().unwrap();
        assert_eq!((found.outcome, found.command_id), (None, command_id));
        assert_eq!((found.created_at, found.expires_at), (new.created_at, new.expires_at));
        let body = [0, 159, 146, 150];
        let tx = db.begin().await.unwrap();
        idempotency::finish(&tx, found.id, 201, &body).await.unwrap();
        let again = idempotency::finish(&tx, found.id, 500, b"").await;
        assert!(matches!(again, Err(Error::Stale)));
        tx.commit().await.unwrap();
        let found = idempotency::find(db.read(), &new.scope).await.unwrap().unwrap();
        assert_eq!(found.outcome, Some((201, body.to_vec())));
        let empty = NewRecord { outcome: Some((202, Vec::new())), ..record(&acme, "e", at(1)) };
        assert!(insert(db, &empty).await);
        let found = idempotency::find(db.read(), &empty.scope).await.unwrap().unwrap();
        assert_eq!(found.outcome, Some((202, Vec::new())), "an empty body is a body");
    })
    .await;
}

#[tokio::test]
async fn every_part_of_the_scope_makes_another_record() {
    on_each(async |db| {
        let acme = Tenant::new(db, "acme").await;
        let other = Tenant::new(db, "other").await;
        assert!(insert(db, &record(&acme, "k", at(1))).await);
        let changed = |change: fn(&mut IdempotencyScope)| {
            let mut record = record(&acme, "k", at(1));
            change(&mut record.scope);
            record
        };
        assert!(insert(db, &record(&other, "k", at(1))).await, "organization and credential");
        // An operator's key with the same id is somebody else still.
        assert!(insert(db, &changed(|scope| scope.asker = operator(scope.asker))).await);
        assert!(insert(db, &changed(|scope| scope.method = "DELETE".to_owned())).await);
        assert!(insert(db, &changed(|scope| scope.path.push('x'))).await);
        assert!(insert(db, &changed(|scope| scope.key = "K".to_owned())).await);
        assert!(!insert(db, &changed(|_| ())).await);
    })
    .await;
}

#[tokio::test]
async fn after_its_expiry_a_key_is_new() {
    on_each(async |db| {
        let acme = Tenant::new(db, "acme").await;
        let first =
            NewRecord { outcome: Some((201, b"old".to_vec())), ..record(&acme, "k", at(0)) };
        assert!(insert(db, &first).await);
        let day = 24 * 3600;
        let early = record(&acme, "k", first.expires_at - chrono::TimeDelta::microseconds(1));
        assert!(!insert(db, &early).await);
        let found = idempotency::find(db.read(), &first.scope).await.unwrap().unwrap();
        let second = NewRecord { fingerprint: "g".to_owned(), ..record(&acme, "k", at(day)) };
        assert!(insert(db, &second).await, "at the instant itself");
        let replaced = idempotency::find(db.read(), &first.scope).await.unwrap().unwrap();
        assert_eq!((replaced.fingerprint.as_str(), replaced.outcome), ("g", None));
        assert_ne!(replaced.id, found.id);
        let tx = db.begin().await.unwrap();
        let late = idempotency::finish(&tx, found.id, 200, b"").await;
        assert!(matches!(late, Err(Error::Stale)), "an answer to the replaced one");
    })
    .await;
}

#[tokio::test]
async fn expired_records_are_purged_in_batches() {
    on_each(async |db| {
        let acme = Tenant::new(db, "acme").await;
        for n in 0..5 {
            assert!(insert(db, &record(&acme, &n.to_string(), at(n))).await);
        }
        let day = 24 * 3600;
        let purge =
            async |now, limit| idempotency::purge(db.write(), at(now), limit).await.unwrap();
        assert_eq!(purge(day - 1, 10).await, 0);
        assert_eq!(purge(day + 3, 3).await, 3);
        assert_eq!(purge(day + 3, 3).await, 1);
        let left = record(&acme, "4", at(4));
        let found = idempotency::find(db.read(), &left.scope).await.unwrap().unwrap();
        let tx = db.begin().await.unwrap();
        idempotency::remove(&tx, found.id).await.unwrap();
        idempotency::remove(&tx, found.id).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(idempotency::find(db.read(), &left.scope).await.unwrap(), None);
    })
    .await;
}
