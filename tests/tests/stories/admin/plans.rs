//! Plans and limits through the admin API.

use tests::{Database, World, json, stories, team::text};

use super::trail;

stories![
    plans_are_listed_with_their_limits,
    a_plan_is_set_now_and_for_later,
    a_limit_holds_at_the_next_request_until_it_is_removed,
    what_makes_no_sense_about_plans_is_refused_by_name,
];

async fn plans_are_listed_with_their_limits(database: Database) {
    let world = World::on(database).await;
    let owner = world.owner().await;
    let auditor = owner.operator("auditor").await;
    let plans = auditor.get("/admin/v1/plans").await.is(200);
    let names: Vec<_> =
        plans["data"].as_array().unwrap().iter().map(|p| text(&p["plan"])).collect();
    assert_eq!(names, ["free", "builder", "scale", "enterprise"]);
    let free = &plans["data"][0];
    assert_eq!((&free["mode"], &free["creditOnce"]), (&json!("credit_only"), &json!("10")));
    assert_eq!(free["limits"]["max_concurrent_sandboxes"], 2);
    assert!(free["limits"].get("max_command_ms").is_none(), "without end");
    assert_eq!(auditor.get("/admin/v1/plans/scale").await.is(200), plans["data"][2]);
    auditor.get("/admin/v1/plans/gold").await.refused(404, "not_found");
    world.close().await;
}

/// A Builder's 25 live sandboxes at a time, then a Scale's 100.
async fn a_plan_is_set_now_and_for_later(database: Database) {
    let world = World::on(database).at("2031-01-20T12:00:00Z").await;
    let owner = world.owner().await;
    let acme = world.team("acme").await;
    let path = format!("/admin/v1/organizations/{}/plan", acme.org_id);
    let body =
        json!({ "plan": "enterprise", "at": "2031-02-01T00:00:00Z", "reason": "a contract" });
    let set = owner.put(&path, body).await.is(200);
    assert_eq!((&set["plan"], &set["mode"]), (&json!("builder"), &json!("credit_then_invoice")));
    assert_eq!(
        set["nextPlan"],
        json!({ "plan": "enterprise", "takesEffectAt": "2031-02-01T00:00:00Z" })
    );
    let set = owner.put(&path, json!({ "plan": "scale", "reason": "they grow" })).await.is(200);
    assert_eq!((&set["plan"], set.get("nextPlan")), (&json!("scale"), None));
    assert_eq!(set["limits"]["max_concurrent_sandboxes"], 100);
    let quota = &acme.get("/v1/usage").await.is(200)["quotas"]["active_sandboxes"];
    assert_eq!(quota["limit"], 100, "at the next request");
    assert_eq!(owner.get(&path).await.is(200), set);
    // Its credit came with it: 100 USD worth, of which 20 were there.
    let balance = owner.get(&path.replace("/plan", "/balance")).await.is(200);
    assert_eq!((&balance["plan"], &balance["mode"]), (&set["plan"], &set["mode"]));
    let trail = trail(&world, acme.org()).await;
    let told: Vec<_> = trail.iter().filter(|line| line["action"] == "plan.change").collect();
    assert_eq!((told.len(), &told[1]["actor"]), (2, &json!(owner.id)));
    assert_eq!(told[1]["details"]["plan"], "scale");
    assert_eq!(told[1]["details"]["reason"], "they grow");
    world.close().await;
}

async fn a_limit_holds_at_the_next_request_until_it_is_removed(database: Database) {
    let world = World::on(database).await;
    let owner = world.owner().await;
    let acme = world.team("acme").await;
    let path =
        format!("/admin/v1/organizations/{}/limit-overrides/max_concurrent_sandboxes", acme.org_id);
    let set = owner.put(&path, json!({ "value": 1, "reason": "a trial" })).await.is(200);
    assert_eq!(set["limitOverrides"], json!({ "max_concurrent_sandboxes": 1 }));
    assert_eq!(set["limits"]["max_concurrent_sandboxes"], 1);
    acme.starts(json!({})).await;
    acme.post("/v1/sandboxes", json!({})).await.refused(429, "quota_exceeded");
    let patient = owner.idempotent("k");
    let removed = patient.delete(&format!("{path}?reason=it+is+over")).await.is(200);
    assert_eq!(
        (&removed["limitOverrides"], &removed["limits"]["max_concurrent_sandboxes"]),
        (&json!({}), &json!(25))
    );
    acme.starts(json!({})).await;
    // With the same key and another reason it is another request.
    let other = patient.delete(&format!("{path}?reason=no")).await;
    other.refused(409, "idempotency_key_reused");
    let trail = trail(&world, acme.org()).await;
    let told: Vec<_> = trail.iter().filter(|line| line["action"] == "limit.set").collect();
    let details = |at: usize| &told[at]["details"];
    assert_eq!(told.len(), 2);
    assert_eq!(details(0)["value"], 1);
    assert_eq!((&details(1)["value"], &details(1)["reason"]), (&json!(null), &json!("it is over")));
    world.close().await;
}

async fn what_makes_no_sense_about_plans_is_refused_by_name(database: Database) {
    let world = World::on(database).await;
    let owner = world.owner().await;
    let acme = world.team("acme").await;
    let of_acme = format!("/admin/v1/organizations/{}", acme.org_id);
    let reason = "r".repeat(501);
    for (path, body, field) in [
        ("plan", json!({ "plan": "gold", "reason": "r" }), "plan"),
        ("plan", json!({ "plan": "team", "reason": "r" }), "plan"),
        ("plan", json!({ "plan": "scale" }), "reason"),
        ("plan", json!({ "plan": "scale", "reason": reason }), "reason"),
        ("plan", json!({ "plan": "scale", "reason": "r", "at": "2031-03-10T11:59:59Z" }), "at"),
        ("plan", json!({ "plan": "scale", "reason": "r", "at": "soon" }), "at"),
        ("limit-overrides/max_fun", json!({ "value": 1, "reason": "r" }), "limit"),
        ("limit-overrides/retention_days", json!({ "value": -1, "reason": "r" }), "value"),
        (
            "limit-overrides/retention_days",
            json!({ "value": 4_294_967_296_u64, "reason": "r" }),
            "limit",
        ),
        ("spend-cap", json!({ "cap": "-1", "reason": "r" }), "cap"),
        ("spend-cap", json!({ "cap": 1, "reason": "r" }), "cap"),
    ] {
        let answer = owner.put(&format!("{of_acme}/{path}"), body.clone()).await;
        let error = answer.refused(400, "invalid_request");
        assert_eq!(error["details"]["field"], field, "{path} {body}");
    }
    let answer = owner.delete(&format!("{of_acme}/spend-cap")).await;
    assert_eq!(answer.refused(400, "invalid_request")["details"]["field"], "reason");
    world.close().await;
}
