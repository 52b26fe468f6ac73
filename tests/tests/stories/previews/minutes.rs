//! Minutes: each that begins while a preview is active is counted once, whatever happens meanwhile.

use billing::{
    money::CREDIT,
    pricing::{PricingVersion, Rate},
};
use domain::{limits::Plan, metric::Metric};
use tests::{Database, World, json, preview::ok, stories, team::text};

use super::{Place, opens};

stories![
    minutes_are_counted_as_they_begin,
    nothing_is_charged_before_a_sandbox_is_ready,
    minutes_end_with_the_sandbox_however_late_that_is_noticed,
    minutes_survive_a_server,
    two_servers_count_a_minute_once,
    minutes_have_a_price_and_end_with_the_credit,
    minutes_are_on_the_statement,
];

const MINUTES: &str = "select cast(coalesce(sum(amount), 0) as bigint) from usage_records where metric = 'preview_minutes'";

async fn minutes_are_counted_as_they_begin(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let (preview, _) = opens(&acme, &sandbox, json!({ "port": 80 })).await;
    let path = format!("/v1/previews/{}", text(&preview["id"]));
    for (by, wanted, why) in [
        ("30s", 1, "the first has begun"),
        ("30s", 1, "nothing is known of the very end of it"),
        ("30s", 2, "the second has begun"),
        ("3m", 5, "90 s and three minutes"),
    ] {
        world.advance(by).await;
        assert_eq!(world.number(MINUTES).await, wanted, "{why}");
    }
    // 12:04:30 + 30 s: the fifth minute has ended, the sixth has not begun.
    world.moves("30s");
    acme.delete(&path).await.is(200);
    world.advance("10m").await;
    assert_eq!(world.number(MINUTES).await, 5);

    // Two at a time count twice, and what is revoked at once has begun a minute.
    let (one, _) = opens(&acme, &sandbox, json!({ "port": 1 })).await;
    opens(&acme, &sandbox, json!({ "port": 2 })).await;
    acme.delete(&format!("/v1/previews/{}", text(&one["id"]))).await.is(200);
    world.advance("61s").await;
    assert_eq!(world.number(MINUTES).await, 5 + 1 + 2);
    let usage = acme.get("/v1/usage").await.is(200);
    let first = &usage["events"].as_array().unwrap()[0];
    assert_eq!((&first["metric"], &first["amount"]), (&json!("preview_minutes"), &json!(1)));
    world.close().await;
}

async fn nothing_is_charged_before_a_sandbox_is_ready(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let hang = world.driver.hang_next(drivers::Verb::Ensure);
    let sandbox = acme.creates(json!({})).await;
    opens(&acme, &sandbox, json!({ "port": 80 })).await;
    world.moves("45s");
    hang.release();
    acme.sees(&sandbox, "ready").await;
    world.advance("20s").await; // 65 s after the preview was made, 20 s after it can be used.
    assert_eq!(world.number(MINUTES).await, 1);
    acme.kills(&sandbox).await;

    // One whose sandbox never comes up costs nothing.
    // Its boot removes what came up too late, if nobody has found it before.
    world.tolerates_warning("removing a sandbox that no row wants");
    let hang = world.driver.hang_next(drivers::Verb::Ensure);
    let sandbox = acme.creates(json!({})).await;
    opens(&acme, &sandbox, json!({ "port": 80 })).await;
    world.moves("5s");
    acme.kills(&sandbox).await;
    hang.release();
    world.settle().await;
    assert_eq!(world.number(MINUTES).await, 1);
    world.close().await;
}

/// It expires after ten minutes, and nobody is there until an hour later.
async fn minutes_end_with_the_sandbox_however_late_that_is_noticed(database: Database) {
    let mut world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({ "ttlMs": 600_000 })).await;
    opens(&acme, &sandbox, json!({ "port": 80 })).await;
    world.advance("90s").await;
    world.kills_server().await;
    world.moves("1h");
    world.starts_server().await;
    world.settle().await;
    assert_eq!(world.number(MINUTES).await, 10);
    acme.sees(&sandbox, "destroyed").await;

    // One that dies is charged up to where it was seen alive.
    world.expects_warning("a sandbox stopped by itself");
    let sandbox = acme.starts(json!({})).await;
    opens(&acme, &sandbox, json!({ "port": 80 })).await;
    world.advance("61s").await;
    assert_eq!(world.number(MINUTES).await, 12);
    world.driver.crash(sandbox.parse().unwrap());
    world.advance("10m").await;
    assert_eq!(world.number(MINUTES).await, 12);
    world.close().await;
}

async fn minutes_survive_a_server(database: Database) {
    let mut world = World::on(database).await;
    let acme = world.team("acme").await;
    let place = Place::of(&acme).await;
    let _app = place.plays(&world, |_| ok("hello"));
    world.advance("90s").await;
    for _ in 0..3 {
        world.kills_server().await;
        world.moves("10m");
        world.starts_server().await;
        world.settle().await;
    }
    // 31:30 and the three milliseconds that the starts took.
    assert_eq!(world.number(MINUTES).await, 32);
    world.close().await;
}

async fn two_servers_count_a_minute_once(database: Database) {
    let mut world = World::on(database).await;
    let acme = world.team("acme").await;
    let _at_replica = world.replica().await;
    let mut wanted = 0;
    for port in [1, 2, 3] {
        let sandbox = acme.starts(json!({})).await;
        opens(&acme, &sandbox, json!({ "port": port })).await;
    }
    for n in 1..=5 {
        world.moves("61s");
        // At the same time, again and again.
        let rounds = world.servers().flat_map(|server| [server; 4]).map(|server| {
            server.within(|app| async move { api::work::liveness::round(&app).await.ok() })
        });
        futures_util::future::join_all(rounds).await;
        let rounds = world.servers().flat_map(|server| [server; 4]).map(|server| {
            server.within(|app| async move { api::app::previews::minutes::round(&app).await })
        });
        for round in futures_util::future::join_all(rounds).await {
            round.unwrap();
        }
        wanted = 3 * (n + 1);
        let look = async || (world.number(MINUTES).await == wanted).then_some(());
        world.until(&format!("{wanted} minutes"), look).await;
    }
    world.settle().await;
    assert_eq!(world.number(MINUTES).await, wanted);
    world.close().await;
}

/// Half a credit a minute, beside a sandbox that is nearly free.
fn priced() -> PricingVersion {
    let rate = Rate { nano_credits: CREDIT / 2, per: 1 };
    PricingVersion {
        name: "priced".to_owned(),
        compute_unit_seconds_per_credit: 1_000_000,
        rates: [(Metric::PreviewMinutes, rate)].into(),
        ..PricingVersion::built_in()
    }
}

/// 1.2 credits are two minutes, and not a third: the preview ends when that would begin, the sandbox goes
/// on.
async fn minutes_have_a_price_and_end_with_the_credit(database: Database) {
    let world = World::on(database).await;
    world.introduces(priced()).await;
    let acme = world.team_on("acme", Plan::Enterprise).await;
    world.caps(&acme, Some("0")).await;
    world.sells(&acme, "1.2").await;
    let place = Place::of(&acme).await;
    let _app = place.plays(&world, |_| ok("hello"));
    for _ in 0..11 {
        world.advance("10s").await;
        assert_eq!(place.visitor.get("/", &[place.key()]).await.status, 200);
    }
    world.advance("15s").await; // 125 s
    assert_eq!(world.number(MINUTES).await, 2);
    place.visitor.get("/", &[place.key()]).await.refused(502, "preview_unavailable");
    assert_eq!(acme.sandbox(&place.sandbox).await["status"], "ready");
    let path = format!("/v1/sandboxes/{}/previews", place.sandbox);
    let body = json!({ "port": 8000 });
    acme.post(&path, body.clone()).await.refused(402, "billing_spend_cap_reached");
    world.sells(&acme, "0.5").await;
    acme.post(&path, body).await.is(201);
    world.advance("10s").await;
    acme.kills(&place.sandbox).await;
    world.advance("2m").await;
    assert_eq!(world.number(MINUTES).await, 3);
    assert_eq!(world.balance(&acme, "overage").await, 0);
    world.close().await;
}

async fn minutes_are_on_the_statement(database: Database) {
    let world = World::on(database).at("2031-01-31T23:58:30Z").await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({ "ttlMs": 600_000 })).await;
    opens(&acme, &sandbox, json!({ "port": 80 })).await;
    world.advance("3m").await;
    acme.kills(&sandbox).await;
    world.advance("3h").await;
    // Minutes begin at 23:58:30 and 23:59:30, and at 00:00:30 of the next month.
    let january = world.statement(&acme, "2031-01").await;
    let line = january["usage"].as_array().unwrap().iter();
    let mut lines = line.filter(|line| line["metric"] == "preview_minutes");
    assert_eq!(lines.next().unwrap()["quantity"], "2", "{january}");
    assert_eq!(world.number(MINUTES).await, 3);
    world.close().await;
}
