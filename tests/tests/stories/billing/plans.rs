//! Plans, limits and overrides: they take effect at their instant, for every server, and change nothing
//! that was before it.

use api::config::CatalogueName;
use domain::limits::Plan;
use tests::{Database, Team, World, at, json, stories};

use super::dear;

stories![
    a_plan_to_come_changes_limits_at_its_instant,
    a_change_in_the_middle_of_a_life_changes_no_second_before_it,
    a_smaller_plan_stops_what_it_does_not_pay_for_and_invoices_what_was,
    a_change_after_a_month_asks_for_that_month_as_it_was,
    a_plan_that_was_replaced_never_takes_effect,
    an_override_takes_effect_at_every_server,
    every_change_is_noted_with_its_reason,
    the_documented_plans_have_their_limits,
    no_command_runs_longer_than_its_plan_allows,
];

async fn limit(acme: &Team) -> u64 {
    let usage = acme.get("/v1/usage").await.is(200);
    usage["quotas"]["active_sandboxes"]["limit"].as_u64().unwrap()
}

async fn a_plan_to_come_changes_limits_at_its_instant(database: Database) {
    let world = World::on(database).await;
    let acme = world.team_on("acme", Plan::Free).await;
    world.changes_plan(&acme, Plan::Scale, Some("2031-03-10T13:00:00Z")).await;
    world.advance("59m59s999ms").await;
    assert_eq!((limit(&acme).await, acme.remaining().await), (2, Some(300.000_3)));
    world.moves("1ms"); // Nobody has settled anything yet.
    assert_eq!((limit(&acme).await, acme.remaining().await), (100, None));
    world.settle().await;
    // 100 USD / 0.0333333 USD = 3000.003 credits come with it; the free ones stay.
    assert_eq!(world.balance(&acme, "credit:plan").await, 3_000_003_000_003);
    assert_eq!(world.balance(&acme, "credit:free").await, 300_000_300_000);
    world.changes_plan(&acme, Plan::Builder, None).await;
    assert_eq!(limit(&acme).await, 25);
    world.close().await;
}

/// Free credit until 12:31:00, 1800 s of the 3000.003 s; then the builder's 600.0006 credits first.
async fn a_change_in_the_middle_of_a_life_changes_no_second_before_it(database: Database) {
    let world = World::on(database).await;
    world.introduces(dear()).await; // 12:01:00
    let acme = world.team_on("acme", Plan::Free).await;
    world.changes_plan(&acme, Plan::Builder, Some("2031-03-10T12:31:00Z")).await;
    acme.starts(json!({})).await;
    world.advance("20m30s").await;
    let early = world.windows(&acme, "2031-03-10T12:00:00Z", "2031-03-10T12:20:00Z").await;
    assert_eq!(early.len(), 19 + 1, "a window a minute, and that of the creation");
    world.advance("2h").await; // To its end at 13:01:00.
    world.advance("2m").await;
    let later = world.windows(&acme, "2031-03-10T12:00:00Z", "2031-03-10T12:20:00Z").await;
    assert_eq!(early, later);
    assert_eq!(world.balance(&acme, "credit:free").await, 300_000_300_000 - 180_000_000_000);
    assert_eq!(world.balance(&acme, "credit:plan").await, 600_000_600_000 - 180_000_000_000);
    world.close().await;
}

/// Enterprise has no credit of its own. 90 s from 12:01:00 to 12:02:30, in the middle of a minute, are
/// invoiced: 9 credits at 0.0333333 USD are 0.2999997 USD. From then on the free plan's credit pays:
/// 3000 s more, to 12:52:30.
async fn a_smaller_plan_stops_what_it_does_not_pay_for_and_invoices_what_was(database: Database) {
    let world = World::on(database).await;
    world.introduces(dear()).await;
    let acme = world.team_on("acme", Plan::Enterprise).await;
    world.changes_plan(&acme, Plan::Free, Some("2031-03-10T12:02:30Z")).await;
    let sandbox = acme.starts(json!({})).await;
    for _ in 0..4 {
        world.advance("30s").await;
        assert_eq!(acme.sandbox(&sandbox).await["status"], "ready");
    }
    world.advance("3h").await;
    let end = ("platform_cleanup".to_owned(), "2031-03-10T12:52:30.999Z".to_owned());
    assert_eq!(acme.end_of(&sandbox).await, end);
    world.advance("2m").await;
    assert_eq!(world.balance(&acme, "overage").await, -9_000_000_000);
    world.advance("30d").await;
    let statement = world.statement(&acme, "2031-03").await;
    assert!(statement["closedAt"].is_string(), "{statement}");
    assert_eq!(
        (&statement["amountDue"], &statement["writtenOff"]),
        (&json!("0.30"), &json!("0.00"))
    );
    world.close().await;
}

/// The month's overage, 36 credits or 1.20 USD, was used on a plan with invoices; the change comes half
/// an hour after its end and half an hour before its statement.
async fn a_change_after_a_month_asks_for_that_month_as_it_was(database: Database) {
    let world = World::on(database).at("2031-01-31T20:00:00Z").await;
    world.introduces(dear()).await;
    let acme = world.team_on("acme", Plan::Enterprise).await;
    acme.starts(json!({ "ttlMs": 360_000 })).await;
    world.advance("4h29m").await;
    world.changes_plan(&acme, Plan::Free, None).await;
    world.advance("1h").await;
    let statement = world.statement(&acme, "2031-01").await;
    assert!(statement["closedAt"].is_string(), "{statement}");
    assert_eq!(
        (&statement["amountDue"], &statement["writtenOff"]),
        (&json!("1.20"), &json!("0.00"))
    );
    world.close().await;
}

async fn a_plan_that_was_replaced_never_takes_effect(database: Database) {
    let world = World::on(database).await;
    let acme = world.team_on("acme", Plan::Free).await;
    world.changes_plan(&acme, Plan::Enterprise, Some("2031-03-10T13:00:00Z")).await;
    world.changes_plan(&acme, Plan::Builder, Some("2031-03-10T14:00:00Z")).await;
    world.advance("90m").await;
    assert_eq!(limit(&acme).await, 2);
    world.advance("90m").await;
    assert_eq!(limit(&acme).await, 25);
    world.close().await;
}

async fn an_override_takes_effect_at_every_server(database: Database) {
    let mut world = World::on(database).await;
    let acme = world.team("acme").await;
    let mut keys = vec![(*acme).clone()];
    if database == Database::Postgres {
        let there = world.replica().await;
        keys.push(there(&acme));
    }
    let sandbox = acme.starts(json!({})).await;
    for key in &keys {
        key.get("/v1/usage").await.is(200); // It remembers the limits as they were.
    }
    world.limits(&acme, "max_concurrent_sandboxes", Some(1)).await;
    world.limits(&acme, "max_create_ttl_ms", Some(60_000)).await;
    world.limits(&acme, "max_extend_ttl_ms", Some(120_000)).await;
    world.limits(&acme, "retention_days", Some(3)).await;
    world.limits(&acme, "max_command_ms", Some(5_000)).await;
    for key in &keys {
        // Another server is told, which takes a moment.
        let told = async || {
            let usage = key.get("/v1/usage").await.is(200);
            (usage["quotas"]["active_sandboxes"]["limit"] == 1).then_some(())
        };
        world.until("the new limits", told).await;
        key.post("/v1/sandboxes", json!({})).await.refused(429, "quota_exceeded");
        let long = json!({ "ttlMs": 60_001 });
        key.post("/v1/sandboxes", long).await.refused(400, "sandbox_ttl_exceeded");
        let path = format!("/v1/sandboxes/{sandbox}");
        let long = json!({ "ttlMs": 120_001 });
        key.post(&format!("{path}/ttl"), long).await.refused(400, "sandbox_ttl_exceeded");
        let long = json!({ "command": "true", "timeoutMs": 5001 });
        key.post(&format!("{path}/commands"), long).await.refused(400, "invalid_request");
    }
    world.limits(&acme, "max_concurrent_sandboxes", None).await;
    acme.starts(json!({ "ttlMs": 60_000 })).await;
    world.close().await;
}

async fn every_change_is_noted_with_its_reason(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    world.changes_plan(&acme, Plan::Scale, None).await;
    world.caps(&acme, Some("12.5")).await;
    world.limits(&acme, "retention_days", Some(3)).await;
    world.limits(&acme, "retention_days", None).await;
    let noted =
        "select count(*) from plan_changes where reason <> '' and made_at = takes_effect_at";
    assert_eq!(world.number(noted).await, 1 + 4, "the first plan, and four changes");
    let reset =
        "select count(*) from plan_changes where setting = 'retention_days' and value is null";
    assert_eq!(world.number(reset).await, 1);
    world.close().await;
}

/// Free 1 sandbox of 30 minutes, Developer 3 of 60, Team 10 of 2 hours (contract, section 7.1).
async fn the_documented_plans_have_their_limits(database: Database) {
    let catalogue = CatalogueName::Documented;
    let world = World::on(database).with(|config| config.plan_catalogue = catalogue).await;
    for (name, plan, n, minutes) in
        [("f", Plan::Free, 1, 30), ("d", Plan::Developer, 3, 60), ("t", Plan::Team, 10, 120)]
    {
        let team = world.team_on(name, plan).await;
        assert_eq!(limit(&team).await, n);
        let longest = minutes * 60_000;
        let long = json!({ "ttlMs": longest + 1 });
        team.post("/v1/sandboxes", long).await.refused(400, "sandbox_ttl_exceeded");
        team.starts(json!({ "ttlMs": longest })).await;
    }
    world.close().await;
}

/// Five minutes on the documented free plan: as a limit, as the default, and for what runs in the
/// background without a timeout of its own.
async fn no_command_runs_longer_than_its_plan_allows(database: Database) {
    let catalogue = CatalogueName::Documented;
    let world = World::on(database).with(|config| config.plan_catalogue = catalogue).await;
    let acme = world.team_on("acme", Plan::Free).await;
    let sandbox = acme.starts(json!({})).await;
    let path = format!("/v1/sandboxes/{sandbox}/commands");
    let long = json!({ "command": "true", "timeoutMs": 300_001 });
    let error = acme.post(&path, long).await.refused(400, "invalid_request");
    assert_eq!(error["details"]["field"], "timeoutMs", "{error}");
    acme.runs_with(&sandbox, json!({ "command": "true", "timeoutMs": 300_000 })).await;
    let background = acme.launches_and_sees(&sandbox, "sleep infinity").await;
    let started = world.now();
    world.advance("4m59s").await;
    assert_eq!(acme.command(&background).await["status"], "running");
    world.moves("1s");
    // What ends it has five seconds of grace.
    world.moves("5s");
    let ended = acme.sees_command(&background, "timed_out").await;
    assert!(at(ended["finishedAt"].as_str().unwrap()) >= started + tests::span("5m"));
    // Below the default of a minute, the plan's is the default.
    world.limits(&acme, "max_command_ms", Some(2_000)).await;
    let run = tokio::spawn({
        let (key, path) = ((*acme).clone(), path.clone());
        async move { key.post(&path, json!({ "command": "sleep infinity" })).await }
    });
    acme.sees_a_run(&sandbox).await;
    world.moves("2s");
    world.moves("5s");
    assert_eq!(run.await.unwrap().is(200)["command"]["status"], "timed_out");
    world.close().await;
}
