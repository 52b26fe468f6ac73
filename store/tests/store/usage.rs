//! Meters and counters: opened and closed once, counted once.

use chrono::{DateTime, Utc};
use domain::sandbox::Sandbox;
use store::{
    Db,
    billing::Lock,
    meters,
    rows::MeterRow,
    usage::{Metric, UsageRecord, UsageRecordId},
};

use crate::fixtures::{Tenant, at, everyone, on_each};

async fn open(db: &Db, sandbox: &Sandbox, from: DateTime<Utc>, multiplier_milli: i64) {
    let tx = db.begin().await.unwrap();
    meters::open(&tx, sandbox, from, multiplier_milli).await.unwrap();
    tx.commit().await.unwrap();
}

async fn close(db: &Db, sandbox: &Sandbox, at: DateTime<Utc>) {
    let tx = db.begin().await.unwrap();
    meters::close(&tx, sandbox.id, at).await.unwrap();
    tx.commit().await.unwrap();
}

async fn unsettled(db: &Db, tenant: &Tenant) -> Vec<MeterRow> {
    let orgs = [tenant.org.id];
    store::billing(everyone()).unsettled_meters(db.read(), &orgs, Lock::Look).await.unwrap()
}

/// When the organization's meters were opened and closed, in seconds, and their multipliers.
async fn meters_of(db: &Db, tenant: &Tenant) -> Vec<(i64, Option<i64>, i64)> {
    let seconds = |micros: i64| micros / 1_000_000 - at(0).timestamp();
    let rows = unsettled(db, tenant).await;
    rows.iter()
        .map(|row| (seconds(row.opened_at), row.closed_at.map(seconds), row.multiplier_milli))
        .collect()
}

#[tokio::test]
async fn a_meter_is_opened_once_and_closed_once() {
    on_each(async |db| {
        let acme = Tenant::new(db, "acme").await;
        let sandbox = acme.stored(db).await;
        open(db, &sandbox, at(10), 1000).await;
        open(db, &sandbox, at(10), 1000).await;
        open(db, &sandbox, at(12), 9000).await;
        assert_eq!(meters_of(db, &acme).await, [(10, None, 1000)], "the first opening");
        close(db, &sandbox, at(30)).await;
        close(db, &sandbox, at(40)).await;
        assert_eq!(meters_of(db, &acme).await, [(10, Some(30), 1000)], "the first end");
        open(db, &sandbox, at(10), 1000).await;
        assert_eq!(meters_of(db, &acme).await, [(10, Some(30), 1000)], "a late repeat");
        close(db, &acme.stored(db).await, at(9)).await; // was never opened
        assert_eq!(meters_of(db, &acme).await.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_meter_does_not_end_before_what_is_settled_of_it() {
    on_each(async |db| {
        let acme = Tenant::new(db, "acme").await;
        let early = acme.stored(db).await;
        open(db, &early, at(10), 1000).await;
        let settled = async |until: i64| {
            let mut meters = unsettled(db, &acme).await;
            meters[0].settled_until = at(until).timestamp_micros();
            let tx = db.begin().await.unwrap();
            let stored = store::billing(everyone()).store_meters(&tx, &meters).await;
            tx.commit().await.unwrap();
            stored
        };
        settled(20).await.unwrap();
        assert!(matches!(settled(15).await, Err(store::Error::Stale)), "time settled is settled");
        close(db, &early, at(9)).await;
        assert_eq!(meters_of(db, &acme).await, [], "closed where it is settled: nothing is left");
    })
    .await;
}

#[tokio::test]
async fn what_was_counted_is_counted_once() {
    on_each(async |db| {
        let acme = Tenant::new(db, "acme").await;
        let sandbox = acme.stored(db).await;
        let record = |seconds: i64, metric, resource: &str| UsageRecord {
            id: UsageRecordId::generate(at(seconds)),
            org_id: acme.org.id,
            project_id: acme.project.id,
            sandbox_id: sandbox.id,
            metric,
            resource_id: resource.to_owned(),
            amount: 5_000_000_000,
            at: at(seconds),
        };
        let first = record(1, Metric::FileBytesWritten, "a");
        let repeat = record(2, Metric::FileBytesWritten, "a");
        let other = record(3, Metric::FileBytesWritten, "b");
        let create = record(4, Metric::SandboxCreates, "a");
        let usage = store::usage(acme.reach());
        let tx = db.begin().await.unwrap();
        for record in [&first, &repeat, &other, &create] {
            usage.record(&tx, record).await.unwrap();
        }
        for metric in Metric::COUNTED {
            usage.record(&tx, &record(0, metric, "each is allowed")).await.unwrap();
        }
        tx.commit().await.unwrap();
        let recent = usage.recent(db.read(), 3).await.unwrap();
        assert_eq!(recent, [create, other, first], "newest first, the repeat left out");
        let restricted = store::usage(acme.only(&acme.other)).recent(db.read(), 9).await.unwrap();
        assert_eq!(restricted, [], "another project's");
    })
    .await;
}
