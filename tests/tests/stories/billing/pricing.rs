//! Pricing versions: published ahead, pinned by a sandbox for life, with prices for idle time and for
//! what is counted.

use api::app::{audit::Actor, billing::manage};
use billing::{
    money::CREDIT,
    pricing::{PricingVersion, Rate},
};
use domain::{limits::Plan, metric::Metric};
use futures_util::future::join_all;
use tests::{Database, World, json, stories};

use super::dear;

stories![
    a_version_is_pinned_for_life,
    a_version_needs_notice,
    idle_time_has_its_own_price,
    work_shortens_what_idle_time_had_stretched,
    a_longer_life_ends_with_its_credit,
    commands_have_a_price,
    thirds_of_a_credit_are_not_overdrawn,
    concurrent_commands_spend_no_more_than_there_is,
    creates_have_a_price,
];

/// Commands at half a credit, everything else as built in.
fn priced(metric: Metric) -> PricingVersion {
    let rate = Rate { nano_credits: CREDIT / 2, per: 1 };
    PricingVersion {
        name: "priced".to_owned(),
        rates: [(metric, rate)].into(),
        ..PricingVersion::built_in()
    }
}

/// 100 s and 200 s of the old one's sandbox at a thousandth of a credit, 200 s of the new one's at a
/// tenth.
async fn a_version_is_pinned_for_life(database: Database) {
    let world = World::on(database).await;
    let acme = world.team_on("acme", Plan::Enterprise).await;
    world.publishes("100s", dear()).await;
    let old = acme.starts(json!({})).await;
    world.advance("99s").await;
    assert_eq!(acme.get("/v1/usage").await.is(200)["pricingVersion"], "2026-07");
    world.advance("1s").await;
    let usage = acme.get("/v1/usage").await.is(200);
    assert_eq!(
        (&usage["pricingVersion"], &usage["computeUnitSecondsPerCredit"]),
        (&json!("dear"), &json!(10))
    );
    let new = acme.starts(json!({})).await;
    world.advance("200s").await;
    acme.kills(&old).await;
    acme.kills(&new).await;
    world.advance("2m").await;
    assert_eq!(world.balance(&acme, "usage").await, 300 * CREDIT / 1000 + 200 * CREDIT / 10);
    world.close().await;
}

async fn a_version_needs_notice(database: Database) {
    let world = World::on(database).await;
    for (seconds, fits) in [(59, false), (60, true), (3600, false)] {
        // The last one: of this name there is one already.
        let valid_from = world.now() + chrono::TimeDelta::seconds(seconds);
        let version = PricingVersion { valid_from, ..dear() };
        let publish = async move |app: std::sync::Arc<api::app::App>| {
            manage::publish_pricing(&app, &Actor::operator(), &version).await.is_ok()
        };
        assert_eq!(world.server().within(publish).await, fits, "{seconds} s ahead");
    }
    world.close().await;
}

fn half_when_idle() -> PricingVersion {
    PricingVersion { name: "idle".to_owned(), idle_factor_milli: 500, ..dear() }
}

/// 600 s, of which commands run for 100 s and, two at a time, for another 60 s: 160 + 440 / 2 = 380
/// compute unit seconds.
async fn idle_time_has_its_own_price(database: Database) {
    let world = World::on(database).await;
    world.introduces(half_when_idle()).await;
    let acme = world.team_on("acme", Plan::Enterprise).await;
    let sandbox = acme.starts(json!({})).await;
    world.advance("50s").await;
    let first = acme.launches_and_sees(&sandbox, "sleep 100").await;
    world.advance("100s").await;
    acme.sees_command(&first, "exited").await;
    world.advance("200s").await;
    let one = acme.launches_and_sees(&sandbox, "sleep 40").await;
    world.moves("20s");
    let two = acme.launches_and_sees(&sandbox, "sleep 40").await;
    world.advance("20s").await;
    acme.sees_command(&one, "exited").await;
    world.advance("20s").await;
    acme.sees_command(&two, "exited").await;
    world.advance("190s").await;
    acme.kills(&sandbox).await;
    assert_eq!(acme.used().await, 380);
    world.advance("2m").await;
    assert_eq!(acme.used().await, 380);
    assert_eq!(world.balance(&acme, "usage").await, 38 * CREDIT);
    world.close().await;
}

/// 100 bought credits are 2000 s of idleness: at 12:33:55, after 1975 s, 1.25 are left, which would be
/// 25 s more. A command makes 12.5 s of them; the 13th second is full at 12:34:08. Nobody waits for the
/// instant that was predicted, nor for the next minute.
async fn work_shortens_what_idle_time_had_stretched(database: Database) {
    let world = World::on(database).await;
    world.introduces(half_when_idle()).await; // 12:01:00
    let acme = world.team_on("acme", Plan::Enterprise).await;
    world.caps(&acme, Some("0")).await;
    world.sells(&acme, "100").await;
    let sandbox = acme.starts(json!({})).await;
    world.advance("1975s").await;
    acme.launches_and_sees(&sandbox, "sleep infinity").await;
    for _ in 0..12 {
        world.advance("1s").await;
        assert_eq!(acme.sandbox(&sandbox).await["status"], "running");
    }
    world.advance("1s").await;
    assert_eq!(acme.end_of(&sandbox).await.0, "platform_cleanup");
    assert!(acme.end_of(&sandbox).await.1.as_str() >= "2031-03-10T12:34:07.000Z");
    world.advance("2m").await;
    assert_eq!(world.balance(&acme, "overage").await, 0);
    world.close().await;
}

/// 3 credits are 30 s. A sandbox that was to live for 20 s gets an hour in its last second.
async fn a_longer_life_ends_with_its_credit(database: Database) {
    let world = World::on(database).await;
    world.introduces(dear()).await;
    let acme = world.team_on("acme", Plan::Enterprise).await;
    world.caps(&acme, Some("0")).await;
    world.sells(&acme, "3").await;
    let sandbox = acme.starts(json!({ "ttlMs": 20_000 })).await;
    world.advance("19s").await;
    let longer = json!({ "ttlMs": 3_600_000 });
    acme.post(&format!("/v1/sandboxes/{sandbox}/ttl"), longer).await.is(200);
    world.advance("11s").await; // On the second, and before the minute is over.
    let end = ("platform_cleanup".to_owned(), "2031-03-10T12:01:30.000Z".to_owned());
    assert_eq!(acme.end_of(&sandbox).await, end);
    world.close().await;
}

/// Three commands at half a credit, and not a fourth; what is refused has not run.
async fn commands_have_a_price(database: Database) {
    let world = World::on(database).await;
    world.introduces(priced(Metric::CommandInvocations)).await;
    let acme = world.team_on("acme", Plan::Enterprise).await;
    world.caps(&acme, Some("0")).await;
    world.sells(&acme, "1.9").await;
    let sandbox = acme.starts(json!({})).await;
    for n in 1..=3 {
        acme.runs(&sandbox, "echo x >> n").await;
        let left = 1.9 - 0.5 * f64::from(n);
        assert!((acme.remaining().await.unwrap() - left).abs() < 1e-9);
    }
    let path = format!("/v1/sandboxes/{sandbox}/commands");
    let body = json!({ "command": "echo x >> n" });
    acme.post(&path, body.clone()).await.refused(402, "billing_spend_cap_reached");
    world.sells(&acme, "0.2").await; // 0.6
    acme.post(&path, body.clone()).await.is(200);
    acme.post(&path, body).await.refused(402, "billing_spend_cap_reached");
    world.advance("2h").await; // 0.1 credits are 100 s.
    assert_eq!(acme.end_of(&sandbox).await.1, "2031-03-10T12:02:40.000Z");
    world.advance("2m").await;
    assert_eq!(world.balance(&acme, "usage").await, 4 * CREDIT / 2 + CREDIT / 10);
    assert_eq!((world.credit(&acme).await, world.balance(&acme, "overage").await), (0, 0));
    world.close().await;
}

/// Three commands cost a credit. The first two are a third each, cut off: 0.666666666 credits. The third
/// makes it 1, so with 0.999999999 it cannot be paid, though a third alone would be.
async fn thirds_of_a_credit_are_not_overdrawn(database: Database) {
    let world = World::on(database).await;
    let rate = Rate { nano_credits: CREDIT, per: 3 };
    let rates = [(Metric::CommandInvocations, rate)].into();
    world.introduces(PricingVersion { rates, ..priced(Metric::CommandInvocations) }).await;
    let acme = world.team_on("acme", Plan::Enterprise).await;
    world.caps(&acme, Some("0")).await;
    world.sells(&acme, "0.999999999").await;
    let sandbox = acme.starts(json!({})).await;
    acme.runs(&sandbox, "true").await;
    acme.runs(&sandbox, "true").await;
    let path = format!("/v1/sandboxes/{sandbox}/commands");
    let body = json!({ "command": "true" });
    acme.post(&path, body).await.refused(402, "billing_spend_cap_reached");
    world.close().await;
}

/// Credit for 7 of 40 commands, at one server and at two.
async fn concurrent_commands_spend_no_more_than_there_is(database: Database) {
    let mut world = World::on(database).await;
    world.introduces(priced(Metric::CommandInvocations)).await;
    let acme = world.team_on("acme", Plan::Enterprise).await;
    let mut keys = vec![(*acme).clone()];
    if database == Database::Postgres {
        let there = world.replica().await;
        keys.push(there(&acme));
    }
    world.caps(&acme, Some("0")).await;
    world.sells(&acme, "3.7").await;
    let sandbox = acme.starts(json!({})).await;
    let path = format!("/v1/sandboxes/{sandbox}/commands");
    let n_keys = keys.len();
    let asked = (0..40).map(|n| {
        let body = json!({ "command": "true", "background": true });
        let (key, path) = (&keys[n % n_keys], &path);
        async move { key.post(path, body).await.status }
    });
    // The clock goes on meanwhile: each counts at an instant of its own.
    let moving = async {
        for _ in 0..40 {
            world.moves("1ms");
            tokio::task::yield_now().await;
        }
    };
    let (statuses, ()) = tokio::join!(join_all(asked), moving);
    let n = |status: u16| statuses.iter().filter(|found| **found == status).count();
    assert_eq!((n(202), n(402)), (7, 33), "{statuses:?}");
    acme.kills(&sandbox).await;
    world.advance("2m").await;
    assert_eq!(world.balance(&acme, "overage").await, 0);
    assert_eq!(world.balance(&acme, "usage").await, 7 * CREDIT / 2);
    world.close().await;
}

/// While an operator changes the plan again and again: neither waits for the other for ever.
async fn creates_have_a_price(database: Database) {
    let world = World::on(database).await;
    world.introduces(priced(Metric::SandboxCreates)).await;
    let acme = world.team("acme").await;
    world.caps(&acme, Some("0")).await; // 600.0006 credits
    let creating = join_all((0..12).map(|_| async {
        let id = acme.creates(json!({})).await;
        acme.kills(&id).await;
    }));
    let changing = async {
        for plan in [Plan::Scale, Plan::Builder, Plan::Scale, Plan::Builder, Plan::Scale] {
            world.changes_plan(&acme, plan, None).await;
        }
    };
    tokio::join!(creating, changing);
    world.advance("2m").await;
    assert_eq!(world.balance(&acme, "usage").await, 12 * CREDIT / 2);
    world.close().await;
}
