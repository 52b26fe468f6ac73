//! What is metered: whole seconds from ready to the end, the same however they are cut, and counters
//! of what was done.

use std::collections::BTreeMap;

use tests::{Database, World, json, stories};

stories![
    seconds_count_from_ready_to_the_end,
    sandboxes_add_up,
    part_seconds_are_not_lost_between_two_looks,
    a_month_ends_where_the_next_begins,
    the_summary_has_what_clients_need,
    a_restricted_key_sees_its_own_usage,
    counters_count_once,
    another_organization_s_seconds_are_its_own,
];

/// Acceptance 13.
async fn seconds_count_from_ready_to_the_end(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    assert_eq!(acme.used().await, 0);
    let hang = world.driver.hang_next(drivers::Verb::Ensure);
    let sandbox = acme.creates(json!({})).await;
    acme.sees(&sandbox, "starting").await;
    world.moves("20s"); // Being made is free.
    hang.release();
    acme.sees(&sandbox, "ready").await;
    assert_eq!(acme.used().await, 0);
    world.advance("42s").await;
    assert_eq!(acme.used().await, 42, "an open meter counts up to now");
    acme.kills(&sandbox).await;
    world.advance("1h").await;
    assert_eq!(acme.used().await, 42);
    world.close().await;
}

async fn sandboxes_add_up(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let first = acme.starts(json!({})).await;
    world.advance("90s").await; // 90 s of one
    acme.starts(json!({ "ttlMs": 60_000 })).await;
    world.advance("30s").await; // 30 s of two
    acme.kills(&first).await;
    world.advance("10m").await; // 30 s of the second, until it expires
    assert_eq!(acme.used().await, 90 + 2 * 30 + 30);
    world.close().await;
}

/// Whole seconds of a sandbox are counted from its opening, so looking often loses nothing.
async fn part_seconds_are_not_lost_between_two_looks(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    // After n times 300 ms: 0, 0, 0, 1, 1, 1, 2, 2, 2, 3 whole seconds.
    for wanted in [0, 0, 0, 1, 1, 1, 2, 2, 2, 3] {
        world.moves("300ms");
        assert_eq!(acme.used().await, wanted);
    }
    world.moves("999ms"); // 3.999 s
    acme.kills(&sandbox).await;
    assert_eq!(acme.used().await, 3);
    world.close().await;
}

/// 3599.5 s of a sandbox around midnight: 1799 whole seconds in January and 1800 in February,
/// counted from its opening, together the 3599 that it has.
async fn a_month_ends_where_the_next_begins(database: Database) {
    let world = World::on(database).at("2031-01-31T23:00:00Z").await;
    let acme = world.team("acme").await;
    world.moves("30m500ms"); // 23:30:00.5
    let sandbox = acme.starts(json!({})).await;
    world.advance("29m59s").await; // 23:59:59.5
    let january = acme.get("/v1/usage").await.is(200);
    assert_eq!(january["period"]["start"], "2031-01-01T00:00:00.000Z");
    assert_eq!(january["period"]["end"], "2031-02-01T00:00:00.000Z");
    assert_eq!(january["computeUnitSeconds"]["used"], 1799);

    world.advance("500ms").await; // midnight: 1799.5 s in January, 1799 of them whole
    let february = acme.get("/v1/usage").await.is(200);
    assert_eq!(february["period"]["start"], "2031-02-01T00:00:00.000Z");
    assert_eq!(february["period"]["resetAt"], "2031-03-01T00:00:00.000Z");
    assert_eq!(february["computeUnitSeconds"]["used"], 0);
    world.advance("500ms").await; // the 1800th second is February's
    assert_eq!(acme.used().await, 1);
    world.advance("29m59s500ms").await; // 00:30:00, 3599.5 s old
    acme.kills(&sandbox).await;
    assert_eq!(acme.used().await, 3599 - 1799);
    world.advance("1h").await;
    assert_eq!(acme.used().await, 1800);
    world.close().await;
}

async fn the_summary_has_what_clients_need(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    world.advance("42s").await;
    let usage = acme.get("/v1/usage").await;
    // Numbers as a client reads them: no trailing zeros, no rounding.
    assert!(usage.text().contains("\"used\":0.042"), "{usage}");
    let usage = usage.is(200);
    let period = json!({
        "start": "2031-03-01T00:00:00.000Z",
        "end": "2031-04-01T00:00:00.000Z",
        "resetAt": "2031-04-01T00:00:00.000Z",
    });
    assert_eq!(usage["period"], period);
    assert_eq!(usage["pricingVersion"], "2026-07");
    assert_eq!(usage["computeUnitSecondsPerCredit"], 1000);
    assert_eq!(usage["currencyPerCredit"], 0.033_333_3);
    assert_eq!(usage["computeUnitSeconds"], json!({ "used": 42 }));
    let quota = json!({ "current": 1, "limit": 25, "remaining": 24, "resetAt": null });
    assert_eq!(usage["quotas"]["active_sandboxes"], quota);
    let event = &usage["events"][0];
    assert_eq!(event["metric"], "sandbox_creates");
    assert_eq!(event["resourceId"], sandbox.as_str());
    assert_eq!(event["amount"], 1);
    assert_eq!(event["orgId"], acme.org_id.as_str());
    assert_eq!(event["projectId"], acme.project_id.as_str());
    world.close().await;
}

async fn a_restricted_key_sees_its_own_usage(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let theirs = acme.project("theirs").await;
    let restricted = acme.restricted_key("all", &[&theirs]).await;
    acme.starts(json!({})).await;
    world.advance("10s").await;
    acme.starts(json!({ "projectId": theirs })).await;
    world.advance("5s").await;
    let usage = restricted.get("/v1/usage").await.is(200);
    assert_eq!(usage["computeUnitSeconds"]["used"], 5);
    assert_eq!(usage["events"].as_array().unwrap().len(), 1);
    assert_eq!(acme.used().await, 15 + 5);
    world.close().await;
}

/// What was counted, by metric, as the summary's events say.
async fn counted(acme: &tests::Team) -> BTreeMap<String, i64> {
    let usage = acme.get("/v1/usage").await.is(200);
    let mut sums = BTreeMap::new();
    for event in usage["events"].as_array().unwrap() {
        let metric = event["metric"].as_str().unwrap().to_owned();
        *sums.entry(metric).or_default() += event["amount"].as_i64().unwrap();
    }
    sums
}

async fn counters_count_once(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let once = acme.idempotent("once");
    let made = once.post("/v1/sandboxes", json!({})).await.is(201);
    once.post("/v1/sandboxes", json!({})).await.is(201);
    let sandbox = made["sandbox"]["id"].as_str().unwrap();
    let path = format!("/v1/sandboxes/{sandbox}/commands");
    for _ in 0..2 {
        once.post(&path, json!({ "command": "true" })).await.is(200);
    }
    acme.runs(sandbox, "false").await;
    let write = json!({ "path": "a.bin", "content": "AP8=", "encoding": "base64" });
    acme.put(&format!("/v1/sandboxes/{sandbox}/files"), write).await.is(200);
    // A refused request is no use.
    acme.post(&path, json!({ "command": "" })).await.refused(400, "invalid_request");
    let wanted = [("command_invocations", 2), ("file_bytes_written", 2), ("sandbox_creates", 1)];
    let wanted: BTreeMap<_, _> = wanted.map(|(metric, n)| (metric.to_owned(), n)).into();
    assert_eq!(counted(&acme).await, wanted);
    world.close().await;
}

async fn another_organization_s_seconds_are_its_own(database: Database) {
    let world = World::on(database).await;
    let (acme, rival) = (world.team("acme").await, world.team("rival").await);
    acme.starts(json!({})).await;
    world.advance("10s").await;
    rival.starts(json!({})).await;
    world.advance("5s").await;
    assert_eq!((acme.used().await, rival.used().await), (15, 5));
    let usage = rival.get("/v1/usage").await.text();
    assert!(!usage.contains(&acme.org_id));
    world.close().await;
}
