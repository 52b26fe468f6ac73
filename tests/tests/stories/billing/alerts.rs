//! Alerts: each threshold is reached once in a period, whoever notices.

use api::app::billing::tick;
use domain::limits::Plan;
use futures_util::future::join_all;
use tests::{Database, World, json, stories};

use super::dear;

stories![
    credit_has_its_thresholds,
    a_cap_has_its_thresholds_in_each_month,
    a_quota_has_its_thresholds,
    two_workers_raise_an_alert_once,
];

const MARCH: &str = "2031-03-01T00:00:00Z";

/// 3000.003 s: half of them are over after 1500.0015 s, 80 % after 2400.0024 s.
async fn credit_has_its_thresholds(database: Database) {
    let world = World::on(database).await;
    world.introduces(dear()).await; // 12:01:00
    let acme = world.team_on("acme", Plan::Free).await;
    acme.starts(json!({})).await;
    let credit = async || {
        let alerts = world.alerts(&acme, MARCH).await;
        alerts.into_iter().filter(|alert| alert.starts_with("credit")).collect::<Vec<_>>()
    };
    world.advance("24m").await;
    assert_eq!(credit().await, [""; 0]);
    world.advance("3m").await;
    assert_eq!(credit().await, ["credit 50"]);
    world.advance("12m").await;
    assert_eq!(credit().await, ["credit 50"]);
    world.advance("4m").await;
    assert_eq!(credit().await, ["credit 50", "credit 80"]);
    world.advance("1h").await;
    world.advance("2m").await;
    // 0.0003 credits are left that buy nothing: all of what could be is used, but not all.
    assert_eq!(credit().await, ["credit 50", "credit 80"]);
    world.close().await;
}

/// A cap of 1 USD: 30.00003 credits, 300 s.
async fn a_cap_has_its_thresholds_in_each_month(database: Database) {
    let world = World::on(database).await;
    world.introduces(dear()).await;
    let acme = world.team_on("acme", Plan::Enterprise).await;
    world.caps(&acme, Some("1")).await;
    world.limits(&acme, "max_concurrent_sandboxes", Some(1000)).await;
    for (month, wanted) in [(MARCH, ["spend_cap 50"]), ("2031-04-01T00:00:00Z", ["spend_cap 50"])] {
        for _ in 0..2 {
            // 80 s: 26.7 %, then 53.3 %.
            acme.starts(json!({ "ttlMs": 80_000 })).await;
            world.advance("80s").await;
            world.advance("2m").await;
        }
        assert_eq!(world.alerts(&acme, month).await, wanted);
        world.advance("30d").await;
    }
    world.close().await;
}

/// Of four: the second is half, all four are the whole; 80 % is reached with the fourth as well.
async fn a_quota_has_its_thresholds(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    world.limits(&acme, "max_concurrent_sandboxes", Some(4)).await;
    let mut ids = Vec::new();
    for (n, wanted) in [(1, &[][..]), (2, &[50]), (3, &[50]), (4, &[50, 80, 100])] {
        ids.push(acme.starts(json!({})).await);
        let mut alerts = world.alerts(&acme, MARCH).await;
        alerts.sort_by_key(String::len);
        let wanted: Vec<_> = wanted.iter().map(|percent| format!("quota {percent}")).collect();
        assert_eq!(alerts, wanted, "{n} of 4");
    }
    for id in ids {
        acme.kills(&id).await;
        acme.starts(json!({})).await;
    }
    assert_eq!(world.alerts(&acme, MARCH).await.len(), 3);
    world.close().await;
}

async fn two_workers_raise_an_alert_once(database: Database) {
    let mut world = World::on(database).await;
    world.introduces(dear()).await;
    if database == Database::Postgres {
        let _there = world.replica().await;
    }
    let mut teams = Vec::new();
    for n in 0..4 {
        let team = world.team_on(&format!("team-{n}"), Plan::Free).await;
        team.starts(json!({ "ttlMs": 3_000_000 })).await;
        teams.push(team);
    }
    for _ in 0..60 {
        world.moves("61s");
        let rounds = world.servers().chain(world.servers()).map(|server| {
            server.within(|app| async move {
                api::work::liveness::round(&app).await?;
                tick::round(&app).await
            })
        });
        for done in join_all(rounds).await {
            done.unwrap();
        }
    }
    world.advance("2m").await;
    for team in &teams {
        let alerts = world.alerts(team, MARCH).await;
        assert_eq!(alerts, ["credit 50", "credit 80", "quota 50"]);
    }
    let announced = "select count(*) from billing_alerts where subject = 'credit'";
    assert_eq!(world.number(announced).await, 8);
    world.close().await;
}
