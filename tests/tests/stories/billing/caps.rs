//! Spend caps: usage beyond credit is invoiced up to them, and where one is reached everything stops
//! at that second, until the next month or a higher cap.

use domain::limits::Plan;
use tests::{Database, World, json, stories};

use super::dear;

stories![
    plan_credit_comes_each_month_and_goes_with_it,
    a_cap_stops_at_the_second,
    a_cap_that_is_reached_before_midnight_is_that_month_s,
    a_cap_leaves_the_next_month_its_own_room,
    a_raised_cap_makes_room_at_once,
    a_cap_of_nothing_is_credit_alone,
    without_a_cap_usage_has_no_end,
];

/// The builder plan: 20 USD / 0.0333333 USD = 600.0006 credits a month.
async fn plan_credit_comes_each_month_and_goes_with_it(database: Database) {
    let world = World::on(database).await;
    world.introduces(dear()).await;
    let acme = world.team("acme").await;
    assert_eq!(world.credit(&acme).await, 600_000_600_000);
    acme.starts(json!({ "ttlMs": 1_000_000 })).await; // 1000 s = 100 credits
    world.advance("1h").await;
    world.advance("2m").await; // The last window is booked with its minute.
    assert_eq!(world.credit(&acme).await, 500_000_600_000);
    world.sells(&acme, "7").await;
    world.advance("80d").await; // Two months later, the end of May.
    assert_eq!(world.balance(&acme, "credit:plan").await, 600_000_600_000);
    assert_eq!(world.balance(&acme, "credit:purchased").await, 7_000_000_000);
    assert_eq!(world.balance(&acme, "expired").await, 500_000_600_000 + 600_000_600_000);
    let expiries = "select count(*) from ledger_transactions where kind = 'expiry'";
    assert_eq!(world.number(expiries).await, 2, "of March and April");
    world.close().await;
}

/// 600.0006 credits and a cap of 1 USD, 30.00003000003 credits cut off to 30.000030000: together
/// 630.00063 credits, 6300 s of one sandbox and nothing for another second.
async fn a_cap_stops_at_the_second(database: Database) {
    let world = World::on(database).await;
    world.introduces(dear()).await; // 12:01:00
    let acme = world.team("acme").await;
    world.caps(&acme, Some("1")).await;
    let ids = [acme.starts(json!({})).await, acme.starts(json!({})).await];
    world.advance("3h").await;
    // 3150 s of two.
    let end = ("platform_cleanup".to_owned(), "2031-03-10T12:53:30.999Z".to_owned());
    for id in &ids {
        assert_eq!(acme.end_of(id).await, end);
    }
    acme.post("/v1/sandboxes", json!({})).await.refused(402, "billing_spend_cap_reached");
    world.advance("2m").await;
    assert_eq!(acme.used().await, 6300);
    assert_eq!(world.credit(&acme).await, 0);
    // What no credit paid for: 630 - 600.0006 credits, 0.99997999 USD.
    assert_eq!(world.balance(&acme, "overage").await, -29_999_400_000);
    let statement = world.statement(&acme, "2031-03").await;
    assert_eq!(statement["overageCredits"], "29.9994");
    assert_eq!(statement["amountDue"], "1.00");
    world.close().await;
}

/// 600.0006 credits and 30.00003 until the cap of January, of which 60 s are not settled yet at
/// midnight. The server is not there from 23:00 to 02:00: the stop is where the cap ended,
/// 6300 s after 22:05:00 of January for one, though by then February has credit and room of its own.
async fn a_cap_that_is_reached_before_midnight_is_that_month_s(database: Database) {
    let mut world = World::on(database).at("2031-01-31T22:00:00Z").await;
    world.introduces(dear()).await;
    let acme = world.team("acme").await;
    world.caps(&acme, Some("1")).await;
    world.advance("4m").await; // 22:05:00
    let ttl = json!({ "ttlMs": 3_600_000 });
    let ids = [acme.starts(ttl.clone()).await, acme.starts(ttl).await];
    for id in &ids {
        let longer = json!({ "ttlMs": 36_000_000 });
        acme.post(&format!("/v1/sandboxes/{id}/ttl"), longer).await.is(200);
    }
    world.advance("30m").await;
    world.kills_server().await;
    world.moves("5h");
    world.starts_server().await;
    world.settle().await;
    for id in &ids {
        let end = ("platform_cleanup".to_owned(), "2031-01-31T22:57:30.999Z".to_owned());
        assert_eq!(acme.end_of(id).await, end);
    }
    acme.starts(json!({})).await;
    world.close().await;
}

/// From 23:00:00 on: 3600 s of one in January, 360 credits; February begins with 600.0006 of its own.
async fn a_cap_leaves_the_next_month_its_own_room(database: Database) {
    let world = World::on(database).at("2031-01-31T21:59:00Z").await;
    world.introduces(dear()).await;
    let acme = world.team("acme").await;
    world.caps(&acme, Some("1")).await;
    // Two use up January: 630.00063 credits are 3150 s of both.
    let ids = [acme.starts(json!({})).await, acme.starts(json!({})).await];
    world.advance("55m").await; // 22:54:00, well
    // after the start at 22:00:00
    let end = ("platform_cleanup".to_owned(), "2031-01-31T22:52:30.999Z".to_owned());
    for id in &ids {
        assert_eq!(acme.end_of(id).await, end);
    }
    acme.post("/v1/sandboxes", json!({})).await.refused(402, "billing_spend_cap_reached");
    world.advance("1h4m59s999ms").await;
    acme.post("/v1/sandboxes", json!({})).await.refused(402, "billing_spend_cap_reached");
    world.moves("1ms"); // Midnight, and nobody has settled anything yet.
    let ids = [acme.starts(json!({})).await, acme.starts(json!({})).await];
    world.advance("3h").await;
    let end = ("platform_cleanup".to_owned(), "2031-02-01T00:52:30.999Z".to_owned());
    for id in &ids {
        assert_eq!(acme.end_of(id).await, end);
    }
    world.advance("2m").await;
    assert_eq!(world.balance(&acme, "usage").await, 2 * 630_000_000_000);
    world.close().await;
}

/// Up to 2 USD are 60.00006 credits beyond the 600.0006: 6600 s in all, 300 s more than with 1 USD.
async fn a_raised_cap_makes_room_at_once(database: Database) {
    let world = World::on(database).await;
    world.introduces(dear()).await;
    let acme = world.team("acme").await;
    world.caps(&acme, Some("1")).await;
    let one = acme.starts(json!({})).await;
    let other = acme.starts(json!({})).await;
    world.advance("1h").await;
    for id in [&one, &other] {
        assert_eq!(acme.end_of(id).await.0, "platform_cleanup");
    }
    acme.post("/v1/sandboxes", json!({})).await.refused(402, "billing_spend_cap_reached");
    world.caps(&acme, Some("2")).await;
    let third = acme.starts(json!({})).await;
    let until = tests::time::printed(world.now() + tests::span("300s999ms"));
    world.advance("1h").await;
    assert_eq!(acme.end_of(&third).await, ("platform_cleanup".to_owned(), until));
    world.caps(&acme, None).await;
    acme.starts(json!({})).await;
    world.caps(&acme, Some("0")).await; // Below what was used: there is no room, and nothing is undone.
    acme.post("/v1/sandboxes", json!({})).await.refused(402, "billing_spend_cap_reached");
    world.close().await;
}

/// 600.0006 credits: 6000 s, and not one more.
async fn a_cap_of_nothing_is_credit_alone(database: Database) {
    let world = World::on(database).await;
    world.introduces(dear()).await;
    let acme = world.team("acme").await;
    world.caps(&acme, Some("0")).await;
    let ids = [acme.starts(json!({})).await, acme.starts(json!({})).await];
    world.advance("2h").await;
    let end = ("platform_cleanup".to_owned(), "2031-03-10T12:51:00.999Z".to_owned());
    for id in &ids {
        assert_eq!(acme.end_of(id).await, end);
    }
    acme.post("/v1/sandboxes", json!({})).await.refused(402, "billing_spend_cap_reached");
    assert_eq!(world.balance(&acme, "overage").await, 0);
    world.close().await;
}

async fn without_a_cap_usage_has_no_end(database: Database) {
    let world = World::on(database).await;
    world.introduces(dear()).await;
    let acme = world.team_on("acme", Plan::Enterprise).await;
    let id = acme.starts(json!({})).await;
    world.advance("2h").await;
    assert_eq!(acme.end_of(&id).await.0, "ttl_expired");
    assert_eq!(acme.remaining().await, None);
    world.advance("2m").await;
    assert_eq!(world.balance(&acme, "overage").await, -360_000_000_000);
    acme.starts(json!({})).await;
    world.close().await;
}
