//! Usage through the admin API: over time, window by window, and corrected.

use billing::money::CREDIT;
use domain::{id::OrganizationId, limits::Plan};
use tests::{Database, Value, World, json, stories, team::text};

use super::trail;

stories![
    usage_is_summed_up_by_hour_day_and_month,
    windows_are_read_page_by_page_and_corrected,
    what_makes_no_sense_about_usage_is_refused_by_name,
];

fn sums(page: &Value) -> Vec<[&str; 3]> {
    let buckets = page["data"].as_array().unwrap().iter();
    buckets.map(|b| ["from", "quantity", "credits"].map(|name| b[name].as_str().unwrap())).collect()
}

/// From 22:30 on: 5400 s on the last day of January, 3600 s on the first of February, a thousandth of a
/// credit each. Beside it, 1800 s of another project.
async fn usage_is_summed_up_by_hour_day_and_month(database: Database) {
    let world = World::on(database).at("2031-01-31T22:30:00Z").await;
    let owner = world.owner().await;
    let acme = world.team_on("acme", Plan::Enterprise).await;
    let rival = world.team("rival").await;
    let other = acme.project("other").await;
    let long = acme.starts(json!({})).await;
    acme.post(&format!("/v1/sandboxes/{long}/ttl"), json!({ "ttlMs": 9_000_000 })).await.is(200);
    acme.starts(json!({ "ttlMs": 1_800_000, "projectId": other })).await;
    rival.starts(json!({})).await;
    world.advance("3h").await;
    world.advance("2m").await;
    let path = format!("/admin/v1/organizations/{}/usage", acme.org_id);
    let metric = "metric=compute_unit_seconds";
    let project = format!("projectId={}", acme.project_id);
    let get = async |query: &str| owner.get(&format!("{path}?{query}")).await.is(200);
    let hours = get(&format!("bucket=hour&from=2031-01-31T22:00:00Z&{metric}&{project}")).await;
    assert_eq!(
        sums(&hours),
        [
            ["2031-01-31T22:00:00Z", "1800", "1.8"],
            ["2031-01-31T23:00:00Z", "3600", "3.6"],
            ["2031-02-01T00:00:00Z", "3600", "3.6"],
        ]
    );
    assert_eq!(hours["data"][0]["until"], "2031-01-31T23:00:00Z");
    assert_eq!(hours["data"][0]["pricingVersion"], "2026-07");
    let days = get(&format!("bucket=day&from=2031-01-01T00:00:00Z&{metric}")).await;
    let january = |project: &str| {
        let buckets = days["data"].as_array().unwrap().iter();
        let mut of = buckets.filter(|b| b["from"] == "2031-01-31T00:00:00Z");
        text(&of.find(|b| b["projectId"] == project).unwrap()["quantity"])
    };
    assert_eq!(
        (january(&acme.project_id), january(&other)),
        ("5400".to_owned(), "1800".to_owned())
    );
    let months = get(&format!("bucket=month&from=2031-01-01T00:00:00Z&{metric}&{project}")).await;
    assert_eq!(
        sums(&months),
        [["2031-01-01T00:00:00Z", "5400", "5.4"], ["2031-02-01T00:00:00Z", "3600", "3.6"]]
    );
    // Page by page it is the same.
    let (mut cursor, mut seen) = (String::new(), Vec::new());
    let all = "bucket=hour&from=2031-01-31T22:00:00Z&until=2031-02-01T01:00:00Z";
    loop {
        let page = get(&format!("{all}&limit=1{cursor}")).await;
        seen.extend(page["data"].as_array().unwrap().iter().cloned());
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert!(seen.len() >= 6, "creates are counted as well: {seen:?}");
    assert_eq!(json!(seen), get(all).await["data"]);
    world.close().await;
}

/// A window of 60 s was measured as 60 and should have been 20.5: 0.0395 credits come back.
async fn windows_are_read_page_by_page_and_corrected(database: Database) {
    let world = World::on(database).await;
    let owner = world.owner().await;
    let acme = world.team_on("acme", Plan::Enterprise).await;
    let sandbox = acme.starts(json!({})).await;
    world.advance("150s").await;
    acme.kills(&sandbox).await;
    world.advance("2m").await;
    let of_acme = format!("/admin/v1/organizations/{}", acme.org_id);
    let path = format!("{of_acme}/usage-windows?from=2031-03-10T12:00:00Z");
    let (mut cursor, mut seen) = (String::new(), Vec::new());
    loop {
        let page = owner.get(&format!("{path}&limit=1{cursor}")).await.is(200);
        seen.extend(page["data"].as_array().unwrap().iter().cloned());
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(json!(seen), owner.get(&path).await.is(200)["data"]);
    let timed: Vec<_> = seen.iter().filter(|w| w["metric"] == "compute_unit_seconds").collect();
    let quantities: Vec<_> = timed.iter().map(|w| text(&w["quantity"])).collect();
    assert_eq!(quantities, ["60", "60", "30"]);
    let first = timed[0];
    let body = json!({
        "sandboxId": sandbox,
        "metric": "compute_unit_seconds",
        "start": first["from"],
        "quantity": "20.5",
        "reason": "the host's clock was wrong",
    });
    let patient = owner.idempotent("k");
    let path = format!("{of_acme}/usage-corrections");
    let made = patient.post(&path, body.clone()).await;
    assert_eq!(made.body, patient.post(&path, body.clone()).await.body);
    let made = made.is(201);
    let transaction = &made["transaction"];
    assert_eq!(transaction["correctsTransactionId"], first["transactionId"]);
    assert_eq!(transaction["reason"], "the host's clock was wrong");
    assert_eq!(world.balance(&acme, "usage").await, CREDIT * 1105 / 10_000);
    // Without the key of the request, it costs what is booked already.
    let error = owner.post(&path, body).await.refused(400, "invalid_request");
    assert_eq!(error["details"]["field"], "quantity");
    let usage =
        format!("{of_acme}/usage?bucket=day&from=2031-03-10T00:00:00Z&metric=compute_unit_seconds");
    let usage = owner.get(&usage).await.is(200);
    assert_eq!(sums(&usage), [["2031-03-10T00:00:00Z", "110.5", "0.1105"]]);
    let trail = trail(&world, acme.org()).await;
    let told: Vec<_> = trail.iter().filter(|line| line["action"] == "usage.correct").collect();
    assert_eq!((told.len(), &told[0]["actor"]), (1, &json!(owner.id)));
    assert_eq!(told[0]["object"], transaction["id"]);
    world.close().await;
}

async fn what_makes_no_sense_about_usage_is_refused_by_name(database: Database) {
    let world = World::on(database).await;
    let owner = world.owner().await;
    let acme = world.team("acme").await;
    let of_acme = format!("/admin/v1/organizations/{}", acme.org_id);
    for (query, field) in [
        ("usage?from=2031-03-01T00:00:00Z", "bucket"),
        ("usage?bucket=week&from=2031-03-01T00:00:00Z", "bucket"),
        ("usage?bucket=day", "from"),
        ("usage?bucket=day&from=2031-03-01T00:00:01Z", "from"),
        ("usage?bucket=hour&from=2031-01-01T00:00:00Z", "until"),
        ("usage?bucket=month&from=2031-03-01T00:00:00Z&until=2031-03-02T00:00:00Z", "until"),
        ("usage?bucket=day&from=2031-03-01T00:00:00Z&metric=fun", "metric"),
        ("usage?bucket=day&from=2031-03-01T00:00:00Z&cursor=1:2:3:4", "cursor"),
        ("usage-windows?from=2031-03-01T00:00:00Z&cursor=x", "cursor"),
        ("usage-windows", "from"),
    ] {
        let answer = owner.get(&format!("{of_acme}/{query}")).await;
        let error = answer.refused(400, "invalid_request");
        assert_eq!(error["details"]["field"], field, "{query}");
    }
    let sandbox = acme.starts(json!({})).await;
    let body = |quantity: &str, start: &str| {
        let metric = "compute_unit_seconds";
        json!({
            "sandboxId": sandbox, "metric": metric, "start": start, "quantity": quantity, "reason": "r",
        })
    };
    for (body, field) in [
        (body("1.2345", "2031-03-10T12:00:00Z"), "quantity"),
        (body("1", "2031-03-09T12:00:00Z"), "start"),
        (body("1", "noon"), "start"),
    ] {
        let answer = owner.post(&format!("{of_acme}/usage-corrections"), body.clone()).await;
        let error = answer.refused(400, "invalid_request");
        assert_eq!(error["details"]["field"], field, "{body}");
    }
    let nowhere = OrganizationId::generate(world.now());
    for query in
        ["usage?bucket=day&from=2031-03-01T00:00:00Z", "usage-windows?from=2031-03-01T00:00:00Z"]
    {
        owner
            .get(&format!("/admin/v1/organizations/{nowhere}/{query}"))
            .await
            .refused(404, "not_found");
    }
    world.close().await;
}
