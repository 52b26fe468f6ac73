//! Metered seconds and counters: nothing lost, nothing counted twice.

use chrono::{DateTime, TimeDelta, Utc};
use domain::sandbox::Sandbox;
use store::{
    Db, meters,
    usage::{Metric, UsageRecord, UsageRecordId},
};

use crate::fixtures::{Tenant, at, everyone, micros, on_each, put};

async fn open(db: &Db, sandbox: &Sandbox, from: DateTime<Utc>, multiplier_milli: i64) {
    let tx = db.begin().await.unwrap();
    meters::open(&tx, sandbox, from, multiplier_milli, "2026-07").await.unwrap();
    tx.commit().await.unwrap();
}

async fn close(db: &Db, sandbox: &Sandbox, at: DateTime<Utc>) {
    let tx = db.begin().await.unwrap();
    meters::close(&tx, sandbox.id, at).await.unwrap();
    tx.commit().await.unwrap();
}

async fn seconds(db: &Db, from: DateTime<Utc>, until: DateTime<Utc>, now: DateTime<Utc>) -> i64 {
    store::usage(everyone()).compute_unit_seconds(db.read(), from, until, now).await.unwrap()
}

#[tokio::test]
async fn however_time_is_cut_the_parts_add_up() {
    on_each(async |db| {
        let acme = Tenant::new(db, "acme").await;
        let sandbox = acme.stored(db).await;
        // 100.6 s from an odd instant: 100 whole seconds.
        let (opened, closed) = (at(10) + micros(300_001), at(110) + micros(900_001));
        open(db, &sandbox, opened, 1000).await;
        close(db, &sandbox, closed).await;
        assert_eq!(seconds(db, at(0), at(1000), at(1000)).await, 100);
        for step in [micros(1_000_000), micros(1_700_003), micros(333_333), micros(60_000_000)] {
            let (mut from, mut sum) = (at(9), 0);
            while from < at(120) {
                sum += seconds(db, from, from + step, at(1000)).await;
                from += step;
            }
            assert_eq!(sum, 100, "in steps of {step}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_open_meter_runs_to_now_and_never_past_the_expiry() {
    on_each(async |db| {
        let acme = Tenant::new(db, "acme").await;
        let sandbox = Sandbox { expires_at: at(100), ..acme.sandbox() };
        put(db, &sandbox).await;
        open(db, &sandbox, at(10), 1000).await;
        for (from, until, now, wanted, why) in [
            (0, 1000, 10, 0, "just opened"),
            (0, 1000, 10, 0, "again"),
            (0, 1000, 25, 15, "to now"),
            (0, 1000, 5, 0, "before it opened"),
            (0, 1000, 500, 90, "cleanup is late, the expiry was in time"),
            (0, 50, 500, 40, "a period that ends before"),
            (50, 1000, 500, 50, "a period that begins within"),
            (100, 1000, 500, 0, "a period that begins at the end"),
            (0, 10, 500, 0, "a period that ends at the opening"),
        ] {
            assert_eq!(seconds(db, at(from), at(until), at(now)).await, wanted, "{why}");
        }
        close(db, &sandbox, at(100)).await;
        assert_eq!(seconds(db, at(0), at(1000), at(500)).await, 90, "closed, it is the same");
    })
    .await;
}

#[tokio::test]
async fn a_meter_is_opened_once_and_closed_once() {
    on_each(async |db| {
        let acme = Tenant::new(db, "acme").await;
        let sandbox = acme.stored(db).await;
        open(db, &sandbox, at(10), 1000).await;
        open(db, &sandbox, at(10), 1000).await;
        open(db, &sandbox, at(12), 9000).await;
        assert_eq!(seconds(db, at(0), at(50), at(50)).await, 40, "the first opening");
        close(db, &sandbox, at(30)).await;
        close(db, &sandbox, at(40)).await;
        assert_eq!(seconds(db, at(0), at(50), at(50)).await, 20, "the first end");
        open(db, &sandbox, at(10), 1000).await;
        assert_eq!(seconds(db, at(0), at(50), at(50)).await, 20, "a late repeat of the opening");
        let early = acme.stored(db).await;
        open(db, &early, at(10), 1000).await;
        close(db, &early, at(9)).await;
        assert_eq!(seconds(db, at(0), at(50), at(50)).await, 20, "an end before the opening");
        close(db, &acme.stored(db).await, at(9)).await; // was never opened
    })
    .await;
}

#[tokio::test]
async fn thousandths_of_a_multiplier_are_cut_off_after_the_sum() {
    on_each(async |db| {
        let acme = Tenant::new(db, "acme").await;
        for _ in 0..3 {
            let sandbox = acme.stored(db).await;
            open(db, &sandbox, at(0), 1_500).await;
            close(db, &sandbox, at(1)).await;
        }
        // 3 * 1 s * 1.5 = 4.5, not 3 * 1
        assert_eq!(seconds(db, at(0), at(10), at(10)).await, 4);
        let large = acme.stored(db).await;
        open(db, &large, at(0), 64_000).await;
        close(db, &large, at(0) + TimeDelta::days(3650)).await;
        let far = at(0) + TimeDelta::days(4000);
        // 64 * 10 years of 365 days, and the 4.5 from above
        assert_eq!(seconds(db, at(0), far, far).await, 64 * 3650 * 86_400 + 4);
    })
    .await;
}

#[tokio::test]
async fn what_was_counted_is_counted_once() {
    on_each(async |db| {
        let acme = Tenant::new(db, "acme").await;
        let record = |seconds: i64, metric, resource: &str| UsageRecord {
            id: UsageRecordId::generate(at(seconds)),
            org_id: acme.org.id,
            project_id: None,
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
        for metric in Metric::ALL {
            usage.record(&tx, &record(0, metric, "each is allowed")).await.unwrap();
        }
        tx.commit().await.unwrap();
        let recent = usage.recent(db.read(), 3).await.unwrap();
        assert_eq!(recent, [create, other, first], "newest first, the repeat left out");
        let restricted = store::usage(acme.only(&acme.project)).recent(db.read(), 9).await.unwrap();
        assert_eq!(restricted, [], "what lies in no project is the organization's alone");
    })
    .await;
}
