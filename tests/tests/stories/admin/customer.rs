//! A customer's life with its operators, from the first day to the first statement, all over HTTP.

use tests::{Database, Key, Value, World, json, stories, team::text};

stories![operators_look_after_a_customer];

/// The free plan's 10 USD are 300.0003 credits; an hour of a sandbox is 3.6 credits, or 0.12 USD.
async fn operators_look_after_a_customer(database: Database) {
    let world = World::on(database).at("2031-01-20T12:00:00Z").await;
    let owner = world.owner().await;
    let (support, billing, auditor) = (
        owner.operator("support").await,
        owner.operator("billing").await,
        owner.operator("auditor").await,
    );
    let body = json!({ "name": "acme", "plan": "free" });
    let made = support.idempotent("acme").post("/admin/v1/organizations", body).await.is(201);
    let org = text(&made["organization"]["id"]);
    let of = |rest: &str| format!("/admin/v1/organizations/{org}/{rest}");
    let order =
        json!({ "kind": "purchased", "credits": "50", "key": "po-1", "reason": "an order" });
    billing.post(&of("credit-grants"), order).await.is(201);
    assert_eq!(auditor.get(&of("balance")).await.is(200)["credits"], "350.0003");

    owner.member(&org, "ann@acme.example").await;
    let scopes = json!({ "scopes": ["sandbox:create", "sandbox:read"] });
    let (key_id, key) = owner.api_key(&org, scopes).await;
    key.get("/v1/usage").await.refused(403, "forbidden");
    let sandbox = text(&key.post("/v1/sandboxes", json!({})).await.is(201)["sandbox"]["id"]);
    world.settle().await;
    world.advance("1h").await;
    world.advance("2m").await;
    let usage = of("usage?bucket=day&from=2031-01-20T00:00:00Z&metric=compute_unit_seconds");
    let used = &auditor.get(&usage).await.is(200)["data"][0];
    assert_eq!((&used["quantity"], &used["credits"]), (&json!("3600"), &json!("3.6")));
    assert_eq!(auditor.get(&of("balance")).await.is(200)["credits"], "346.4003");

    let set = json!({ "plan": "scale", "reason": "they grow" });
    assert_eq!(billing.put(&of("plan"), set).await.is(200)["mode"], "credit_then_invoice");

    let successor = rotates_under_traffic(&world, &owner, (&org, &key_id), &key).await;

    support.post(&of("suspend"), json!({ "reason": "a chargeback" })).await.is(200);
    successor.get("/v1/sandboxes").await.refused(403, "org_suspended");
    support.post_nothing(&of("resume")).await.is(200);
    successor.get("/v1/sandboxes").await.is(200);

    world.advance("12d").await;
    let statement = billing.get(&of("statements/2031-01")).await.is(200);
    assert!(statement.get("closedAt").is_some());
    assert_eq!(
        (&statement["usageTotal"], &statement["amountDue"]),
        (&json!("0.12"), &json!("0.00"))
    );
    let trail = auditor.get(&of("audit-entries")).await.is(200);
    let told: Vec<_> = trail["data"].as_array().unwrap().iter().map(told).collect();
    let (owner, support, billing) = (&*owner.id, &*support.id, &*billing.id);
    assert_eq!(
        told,
        [
            ["organization.create", support],
            ["credit.grant", "platform"],
            ["credit.grant", billing],
            ["member.add", owner],
            ["key.create", owner],
            ["sandbox.create", &key_id],
            ["sandbox.end", "platform"],
            ["plan.change", billing],
            ["credit.grant", "platform"],
            ["plan.take_effect", "platform"],
            ["key.create", owner],
            ["key.rotate", owner],
            ["organization.suspend", support],
            ["organization.resume", support],
            ["credit.grant", "platform"],
        ]
    );
    assert_eq!(trail["data"][5]["object"], sandbox.as_str());
    world.close().await;
}

fn told(entry: &Value) -> [&str; 2] {
    ["action", "actor"].map(|name| entry[name].as_str().unwrap())
}

/// Requests with the old key and, once it is there, the new one, while the one takes the other's place.
async fn rotates_under_traffic(
    world: &World,
    owner: &tests::Admin,
    (org, key_id): (&str, &str),
    key: &Key,
) -> Key {
    const OVERLAP_MS: u64 = 60_000;
    let traffic = async {
        for _ in 0..20 {
            key.get("/v1/sandboxes").await.is(200);
        }
    };
    let ((), (_, successor)) = tokio::join!(traffic, owner.rotates(org, key_id, OVERLAP_MS));
    for key in [key, &successor] {
        key.get("/v1/sandboxes").await.is(200);
    }
    world.moves("60s");
    key.get("/v1/sandboxes").await.refused(401, "invalid_api_key");
    successor.get("/v1/sandboxes").await.is(200);
    successor
}
