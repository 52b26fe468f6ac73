//! `/metrics`: exact numbers after known acts, on an address of its own, and no tenant in any of it.

use std::collections::BTreeSet;

use drivers::{ErrorKind, Verb};
use tests::{Database, Mailbox, World, json, stories};

stories![
    requests_are_counted_by_operation,
    nobody_reads_metrics_from_the_api,
    calls_of_the_driver_are_counted,
    live_sandboxes_are_counted_by_status,
    what_is_late_is_told_in_seconds,
    a_database_that_is_away_leaves_the_rest,
    confirms_are_counted,
    returns_are_counted,
    refusals_of_the_broker_are_counted_and_nothing_is_lost,
];

fn requests(operation: &str, status: &str) -> String {
    let name = "crownest_http_request_duration_seconds_count";
    format!("{name}{{operation=\"{operation}\",status=\"{status}\"}}")
}

async fn requests_are_counted_by_operation(database: Database) {
    let world = World::on(database).measured().await;
    let acme = world.team("acme").await;
    let sandbox = acme.creates(json!({})).await;
    world.settle().await;
    for _ in 0..3 {
        acme.sandbox(&sandbox).await;
    }
    acme.get("/v1/sandboxes/sbx_00000000000070008000000000000000").await.refused(404, "not_found");
    acme.post("/v1/sandboxes", json!({ "ttlMs": "long" })).await.is(400);
    world.nobody().get("/v1/usage").await.refused(401, "unauthorized");
    for path in ["/v1/nowhere", "/v1/nowhere/else"] {
        world.nobody().get(path).await.refused(404, "not_found");
    }
    let seen = world.scrapes().await;
    for (operation, status, n) in [
        ("createSandbox", "2xx", 1.0),
        ("createSandbox", "4xx", 1.0),
        ("getSandbox", "2xx", 3.0),
        ("getSandbox", "4xx", 1.0),
        ("getUsage", "4xx", 1.0),
        ("none", "4xx", 2.0),
    ] {
        assert!((seen.number(&requests(operation, status)) - n).abs() < 0.1, "{}", seen.text);
    }
    assert_eq!(seen.find(&requests("listSandboxes", "2xx")), None, "nobody asked");
    seen.shows(&[
        ("crownest_http_requests_in_flight", 0.0),
        ("crownest_http_requests_abandoned_total", 0.0),
        // Once; then the key is remembered.
        ("crownest_key_verification_duration_seconds_count", 1.0),
        ("crownest_key_verification_refusals_total", 0.0),
        ("crownest_work_failures_total{work=\"reconcile\"}", 0.0),
        ("crownest_database_up", 1.0),
    ]);
    assert!(seen.text.contains("crownest_build_info{version=\""), "{}", seen.text);
    let (named, ids) = (&seen.text, [&acme.org_id, &acme.project_id, &acme.id, &sandbox]);
    for word in ids.into_iter().chain([&acme.secret]).map(String::as_str).chain(["acme"]) {
        assert!(!named.contains(word), "{word} in\n{named}");
    }
    let (names, distinct) = (seen.names(), seen.names().into_iter().collect::<BTreeSet<_>>());
    assert_eq!(names.len(), distinct.len(), "each name once: {names:?}");
    for name in names {
        assert!(name.starts_with("crownest_"), "{name}");
        assert!(named.contains(&format!("# HELP {name} ")), "{name} says not what it is");
    }
    world.close().await;
}

async fn nobody_reads_metrics_from_the_api(database: Database) {
    let world = World::on(database).measured().await;
    world.scrapes().await;
    world.nobody().get("/metrics").await.refused(404, "not_found");
    world.close().await;
}

async fn calls_of_the_driver_are_counted(database: Database) {
    let world = World::on(database).measured().await;
    let acme = world.team("acme").await;
    world.expects_warning("a sandbox did not come up; trying again");
    for kind in [ErrorKind::NoCapacity, ErrorKind::Host] {
        world.driver.fail_next(Verb::Ensure, kind);
    }
    let sandbox = acme.creates(json!({})).await;
    world.settle().await;
    world.advance("1s").await;
    world.advance("1s").await;
    acme.sees(&sandbox, "ready").await;
    acme.kills(&sandbox).await;
    world.settle().await;
    let seen = world.scrapes().await;
    let errors = |verb, kind| {
        let name = "crownest_driver_errors_total";
        seen.number(&format!("{name}{{driver=\"simulated\",verb=\"{verb}\",kind=\"{kind}\"}}"))
    };
    let found = [
        errors("ensure", "no_capacity"),
        errors("ensure", "host"),
        errors("ensure", "timed_out"),
        errors("remove", "host"),
        errors("ensure", "abandoned"),
    ];
    assert_eq!(found, [1.0, 1.0, 0.0, 0.0, 0.0]);
    let calls = |verb| {
        let name = "crownest_driver_verb_duration_seconds_count";
        seen.number(&format!("{name}{{driver=\"simulated\",verb=\"{verb}\"}}"))
    };
    assert_eq!((calls("ensure"), calls("remove")), (3.0, 1.0));
    world.close().await;
}

async fn live_sandboxes_are_counted_by_status(database: Database) {
    let world = World::on(database).measured().await;
    let acme = world.team("acme").await;
    let rival = world.team("rival").await;
    acme.starts(json!({})).await;
    rival.starts(json!({})).await;
    let idle = acme.starts(json!({})).await;
    acme.runs(&idle, "true").await;
    let busy = rival.starts(json!({})).await;
    rival.launches_and_sees(&busy, "sleep infinity").await;
    let killed = rival.starts(json!({})).await;
    rival.kills(&killed).await;
    world.settle().await;
    let hang = world.driver.hang_next(Verb::Ensure);
    let slow = acme.creates(json!({})).await;
    acme.sees(&slow, "starting").await;
    world.scrapes().await.shows(&[
        ("crownest_sandboxes{status=\"creating\"}", 0.0),
        ("crownest_sandboxes{status=\"starting\"}", 1.0),
        ("crownest_sandboxes{status=\"ready\"}", 2.0),
        ("crownest_sandboxes{status=\"running\"}", 1.0),
        ("crownest_sandboxes{status=\"idle\"}", 1.0),
        ("crownest_sandboxes{status=\"expiring\"}", 0.0),
    ]);
    hang.release();
    acme.sees(&slow, "ready").await;
    world.close().await;
}

/// The team's first events are written at noon, and so is its account.
async fn what_is_late_is_told_in_seconds(database: Database) {
    let world = World::on(database).measured().await;
    let acme = world.team("acme").await;
    acme.starts(json!({})).await;
    world.settle().await;
    world.advance("30s").await;
    let unpublished = "select count(*) from outbox_events where published_at is null";
    let n = f64::from(i32::try_from(world.number(unpublished).await).unwrap());
    assert!(n >= 4.0, "key, credit, created, ready");
    world.scrapes().await.shows(&[
        ("crownest_outbox_events", n),
        ("crownest_outbox_lag_seconds", 30.0),
        // Windows end with the minute.
        ("crownest_meter_lag_seconds", 30.0),
        ("crownest_account_lag_seconds", 0.0),
        ("crownest_publisher_connected", 0.0),
        ("crownest_publisher_confirms_total", 0.0),
    ]);
    // It is seen alive after the end of the window, before that is cut.
    world.advance("35s").await;
    world.advance("15s").await;
    world.scrapes().await.shows(&[
        ("crownest_outbox_lag_seconds", 80.0),
        ("crownest_meter_lag_seconds", 20.0),
        ("crownest_account_lag_seconds", 0.0),
    ]);
    // Nobody settles an account that somebody else holds.
    let held = world.db().begin().await.unwrap();
    let billing = store::billing(store::Everyone::for_worker("story"));
    billing.lock_account(&held, acme.org_id.parse().unwrap()).await.unwrap();
    world.moves("100s");
    world.scrapes().await.shows(&[
        // Due 10 s after the end of a window: at 12:02:10, 50 s before 12:03:00.
        ("crownest_account_lag_seconds", 50.0),
        ("crownest_meter_lag_seconds", 120.0),
    ]);
    held.rollback().await.unwrap();
    world.close().await;
}

async fn a_database_that_is_away_leaves_the_rest(database: Database) {
    let mut world = World::on(database).measured().await;
    world.nobody().get("/v1/nowhere").await.refused(404, "not_found");
    world.scrapes().await.shows(&[("crownest_database_up", 1.0), ("crownest_outbox_events", 0.0)]);
    world.expects_warning("failed; trying again");
    world.tolerates_warning("failed");
    let away = |app: std::sync::Arc<api::app::App>| async move { app.db.clone().close().await };
    world.server().within(away).await.unwrap();
    let failing = async || {
        let seen = world.scrapes().await;
        seen.shows(&[("crownest_database_up", 0.0)]);
        for gone in ["crownest_outbox_events", "crownest_meter_lag_seconds"] {
            assert_eq!(seen.find(gone), None, "what is not known is not told");
        }
        assert!((seen.number(&requests("none", "4xx")) - 1.0).abs() < 0.1, "{}", seen.text);
        let failures = seen.number("crownest_work_failures_total{work=\"reconcile\"}");
        (failures >= 1.0).then_some(())
    };
    world.until("a failure that is counted", failing).await;
    world.kills_server().await;
    world.starts_server().await;
    world.scrapes().await.shows(&[("crownest_database_up", 1.0), ("crownest_outbox_events", 0.0)]);
    world.close().await;
}

async fn confirms_are_counted(database: Database) {
    let Some(mut mailbox) = Mailbox::open().await else { return };
    let world = World::on(database).measured().with(mailbox.settings()).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    acme.runs(&sandbox, "true").await;
    acme.kills(&sandbox).await;
    mailbox.has_everything(&world).await;
    let all = world.number("select count(*) from outbox_events").await;
    let all = f64::from(i32::try_from(all).unwrap());
    world.scrapes().await.shows(&[
        ("crownest_publisher_connected", 1.0),
        ("crownest_publisher_confirms_total", all),
        ("crownest_publisher_confirm_duration_seconds_count", all),
        ("crownest_publisher_returns_total", 0.0),
        ("crownest_publisher_nacks_total", 0.0),
        ("crownest_publisher_connection_failures_total", 0.0),
        ("crownest_outbox_events", 0.0),
        ("crownest_outbox_lag_seconds", 0.0),
    ]);
    world.close().await;
    mailbox.close().await;
}

/// Of events that no queue takes, and that need not wait for one.
async fn returns_are_counted(database: Database) {
    let Some(mut mailbox) = Mailbox::open().await else { return };
    mailbox.declares().await;
    mailbox.binds("crownest.key.#").await;
    mailbox.binds("crownest.credit.#").await;
    let world = World::on(database)
        .measured()
        .with(mailbox.settings())
        .with(|config| config.amqp_declare_topology = false)
        .with(|config| config.amqp_keep_unroutable = false)
        .await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    acme.kills(&sandbox).await;
    world.settle().await;
    let waiting = "select count(*) from outbox_events where published_at is null";
    let none = async || (world.number(waiting).await == 0).then_some(());
    world.until("everything published", none).await;
    let of = async |kinds: &str| {
        let sql = format!("select count(*) from outbox_events where type like '{kinds}'");
        f64::from(i32::try_from(world.number(&sql).await).unwrap())
    };
    let (sandboxes, keys) = (of("crownest.sandbox.%").await, of("crownest.key.%").await);
    let (usage, credit) = (of("crownest.usage.%").await, of("crownest.credit.%").await);
    assert!(sandboxes >= 3.0 && keys >= 1.0 && credit >= 1.0);
    world.scrapes().await.shows(&[
        ("crownest_publisher_returns_total", sandboxes + usage),
        ("crownest_publisher_confirms_total", keys + credit),
        ("crownest_outbox_events", 0.0),
    ]);
    world.close().await;
    mailbox.close().await;
}

/// A queue that is full says no to the event for all of them; once it is gone, everything arrives.
async fn refusals_of_the_broker_are_counted_and_nothing_is_lost(database: Database) {
    let Some(mut mailbox) = Mailbox::open().await else { return };
    mailbox.declares().await;
    mailbox.binds("crownest.#").await;
    let full = mailbox.adds_full_queue().await;
    let world = World::on(database).measured().with(mailbox.settings()).await;
    world.expects_warning("the broker is lost; connecting again");
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    acme.kills(&sandbox).await;
    let nacks = async || {
        let seen = world.scrapes().await;
        (seen.number("crownest_publisher_nacks_total") >= 2.0).then_some(())
    };
    world.until("refusals of the broker", nacks).await;
    let waiting = "select count(*) from outbox_events where published_at is null";
    assert!(world.number(waiting).await > 0, "what was refused waits");
    mailbox.deletes(&full).await;
    mailbox.has_everything(&world).await;
    world.close().await;
    mailbox.close().await;
}
