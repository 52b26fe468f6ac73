//! Pricing versions through the admin API.

use futures_util::future::join_all;
use store::audit::Chain;
use tests::{Database, Value, World, json, stories, team::text};

use super::trail;

stories![
    prices_are_published_for_what_begins_later,
    of_many_versions_for_one_instant_one_is_published,
    what_makes_no_sense_about_prices_is_refused_by_name,
];

const VERSIONS: &str = "/admin/v1/pricing-versions";

fn version(name: &str, valid_from: &str) -> Value {
    json!({
        "name": name,
        "currency": "USD",
        "computeUnitSecondsPerCredit": 500,
        "currencyPerCredit": "0.04",
        "idleFactor": "0.25",
        "rates": { "command_invocations": { "credits": "0.5", "per": 1000 } },
        "rounding": "half_up",
        "validFrom": valid_from,
    })
}

async fn prices_are_published_for_what_begins_later(database: Database) {
    let world = World::on(database).await;
    let owner = world.owner().await;
    let billing = owner.operator("billing").await.idempotent("once");
    let acme = world.team("acme").await;
    let body = version("2031-04", &world.stamp("60s"));
    let made = billing.post(VERSIONS, body.clone()).await;
    assert_eq!(made.body, billing.post(VERSIONS, body).await.body, "byte for byte");
    let made = made.is(201);
    assert_eq!((&made["sizes"], &made["idleFactor"]), (&json!({ "base": "1" }), &json!("0.25")));
    let list = owner.get(VERSIONS).await.is(200);
    let names: Vec<_> = list["data"].as_array().unwrap().iter().map(|v| text(&v["name"])).collect();
    assert_eq!(names, ["2031-04", "2026-07"]);
    assert_eq!(list["data"][0], made);
    let page = owner.get(&format!("{VERSIONS}?limit=1&cursor=2031-04")).await.is(200);
    assert_eq!((&page["data"][0]["name"], &page["hasMore"]), (&json!("2026-07"), &json!(false)));
    assert_eq!(owner.get(&format!("{VERSIONS}/2031-04")).await.is(200), made);
    owner.get(&format!("{VERSIONS}/2031-05")).await.refused(404, "not_found");
    assert_eq!(acme.get("/v1/usage").await.is(200)["pricingVersion"], "2026-07");
    world.advance("60s").await;
    assert_eq!(acme.get("/v1/usage").await.is(200)["pricingVersion"], "2031-04");
    let trail = trail(&world, Chain::Installation).await;
    let told: Vec<_> = trail.iter().filter(|line| line["action"] == "pricing.publish").collect();
    assert_eq!((told.len(), &told[0]["actor"]), (1, &json!(billing.id)));
    assert_eq!(told[0]["object"], "2031-04");
    world.close().await;
}

/// Two that begin at one instant would leave open which one prices a sandbox.
async fn of_many_versions_for_one_instant_one_is_published(database: Database) {
    let world = World::on(database).await;
    let owner = world.owner().await;
    let at = world.stamp("1h");
    let asked = (0..6).map(|n| owner.post(VERSIONS, version(&format!("v{n}"), &at)));
    let asked: Vec<_> = asked.collect();
    let mut n_made = 0;
    for answer in join_all(asked).await {
        match answer.status {
            201 => n_made += 1,
            _ => {
                let error = answer.refused(400, "invalid_request");
                assert_eq!(error["details"]["field"], "validFrom");
            }
        }
    }
    assert_eq!(n_made, 1);
    world.close().await;
}

async fn what_makes_no_sense_about_prices_is_refused_by_name(database: Database) {
    let world = World::on(database).await;
    let owner = world.owner().await;
    let with = |name: &str, value: Value| {
        let mut body = version("v", &world.stamp("1h"));
        body[name] = value;
        body
    };
    let rates = |metric: &str, rate: Value| json!({ metric: rate });
    for (body, field) in [
        (with("name", json!("2026-07")), "name"),
        (with("name", json!("a b")), "name"),
        (with("currency", json!("EUR")), "currency"),
        (with("currency", json!("usd")), "currency"),
        (with("currencyPerCredit", json!(0.04)), "currencyPerCredit"),
        (with("currencyPerCredit", json!("-1")), "currencyPerCredit"),
        (with("currencyPerCredit", json!("0.0400000001")), "currencyPerCredit"),
        (with("idleFactor", json!("1.5")), "idleFactor"),
        (with("idleFactor", json!("0.2505")), "idleFactor"),
        (with("computeUnitSecondsPerCredit", json!(0)), "computeUnitSecondsPerCredit"),
        (with("sizes", json!({ "large": "1.2345" })), "sizes.large"),
        (with("rates", rates("preview_hours", json!({ "credits": "1" }))), "rates.preview_hours"),
        (
            with("rates", rates("preview_minutes", json!({ "credits": "1", "for": 1 }))),
            "rates.preview_minutes.for",
        ),
        (with("rounding", json!("sideways")), "rounding"),
        (with("validFrom", json!(world.stamp("59s"))), "validFrom"),
    ] {
        let error = owner.post(VERSIONS, body.clone()).await.refused(400, "invalid_request");
        assert_eq!(error["details"]["field"], field, "{body}");
    }
    owner.get(&format!("{VERSIONS}?cursor=nothing")).await.refused(400, "invalid_request");
    assert_eq!(owner.get(VERSIONS).await.is(200)["data"].as_array().unwrap().len(), 1);
    world.close().await;
}
