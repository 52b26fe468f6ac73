//! A story in which everything happens that events tell of.

use std::collections::BTreeSet;

use api::{
    app::{
        audit::Actor,
        billing::manage::{self, NewGrant},
    },
    config::Config,
};
use billing::credit::GrantKind;
use domain::{limits::Plan, metric::Metric};
use store::{
    Everyone,
    usage::{UsageRecord, UsageRecordId},
};
use tests::{Team, World, json, message};

/// The types of all events.
pub const KINDS: [&str; 16] = [
    "crownest.command.finished.v1",
    "crownest.credit.exhausted.v1",
    "crownest.credit.granted.v1",
    "crownest.key.created.v1",
    "crownest.key.revoked.v1",
    "crownest.key.rotated.v1",
    "crownest.organization.closed.v1",
    "crownest.organization.resumed.v1",
    "crownest.organization.suspended.v1",
    "crownest.plan.changed.v1",
    "crownest.sandbox.created.v1",
    "crownest.sandbox.ended.v1",
    "crownest.sandbox.ready.v1",
    "crownest.statement.closed.v1",
    "crownest.threshold.reached.v1",
    "crownest.usage.recorded.v1",
];

/// When it begins: in a month that ends after credit does.
pub const BEGINNING: &str = "2031-01-27T20:00:00Z";
const LONG_MS: u64 = 48 * 3_600_000;

/// Few windows and long lives.
pub const fn settings(config: &mut Config) {
    config.usage_window_seconds = 3600;
    config.max_create_ttl_ms = Some(LONG_MS);
}

/// Some days before the end of a month: one team works, changes its plan and buys credit, another
/// one runs out of it, and a third one leaves; then the month is closed.
pub async fn happens(world: &World) -> [Team; 2] {
    let acme = world.team("acme").await;
    let leaver = acme.key("sandbox:read").await;
    works(world, &acme).await;
    acme.delete(&format!("/v1/api-keys/{}", leaver.id)).await.is(200);
    pays(world, &acme).await;
    leaves(world, &acme).await;

    // 300.0003 credits are 300,000 s: two sandboxes for 41 hours and 40 minutes.
    let rival = world.team_on("rival", Plan::Free).await;
    let first = rival.starts(json!({ "ttlMs": LONG_MS })).await;
    let second = rival.starts(json!({ "ttlMs": LONG_MS })).await;
    world.advance("42h").await;
    rival.sees(&first, "destroyed").await;
    rival.sees(&second, "destroyed").await;
    world.advance("30d").await;
    world.until("every kind of event", async || happened(world).await.then_some(())).await;
    [acme, rival]
}

/// And operators look after their organizations.
async fn leaves(world: &World, acme: &Team) {
    let owner = world.owner().await;
    let rotated = acme.key("sandbox:read").await.id;
    let path = format!("/admin/v1/organizations/{}/api-keys/{rotated}/rotate", acme.org_id);
    owner.post(&path, json!({ "overlapMs": 0 })).await.is(201);
    let organization = owner.organization("leaver").await;
    let path = |verb| format!("/admin/v1/organizations/{organization}/{verb}");
    owner.post(&path("suspend"), json!({ "reason": "unpaid" })).await.is(200);
    owner.post_nothing(&path("resume")).await.is(200);
    owner.post(&path("close"), json!({ "reason": "they left" })).await.is(200);
}

async fn happened(world: &World) -> bool {
    let events = message::events(world.db()).await;
    let kinds: BTreeSet<_> = events.iter().map(|event| event.kind.as_str()).collect();
    let usage = events.iter().filter(|event| event.kind == "crownest.usage.recorded.v1");
    let metrics: BTreeSet<_> = usage
        .map(|event| serde_json::from_str::<serde_json::Value>(&event.data).unwrap())
        .map(|data| data["metric"].as_str().unwrap().to_owned())
        .collect();
    KINDS.iter().all(|kind| kinds.contains(kind)) && metrics.len() == Metric::ALL.len()
}

async fn works(world: &World, acme: &Team) {
    let sandbox = acme.starts(json!({})).await;
    acme.runs(&sandbox, "echo done").await;
    acme.runs(&sandbox, "exit 3").await;
    let write = json!({ "path": "a.txt", "content": "five!" });
    acme.put(&format!("/v1/sandboxes/{sandbox}/files"), write).await.is(200);
    acme.post(&format!("/v1/sandboxes/{sandbox}/artifacts"), json!({ "path": "a.txt" }))
        .await
        .is(201);
    acme.post(&format!("/v1/sandboxes/{sandbox}/previews"), json!({ "port": 8000 })).await.is(201);
    runs_code(world, acme, &sandbox).await;
    acme.launches_and_sees(&sandbox, "sleep infinity").await;
    world.advance("150s").await;
    acme.kills(&sandbox).await;
    let short = acme.starts(json!({ "ttlMs": 60_000 })).await;
    world.advance("2m").await;
    acme.sees(&short, "destroyed").await;
}

/// What no request does yet, but every window must be able to tell of.
async fn runs_code(world: &World, acme: &Team, sandbox: &str) {
    let tx = world.db().begin().await.unwrap();
    let id = UsageRecordId::generate(world.now());
    let record = UsageRecord {
        id,
        org_id: acme.org_id.parse().unwrap(),
        project_id: acme.project_id.parse().unwrap(),
        sandbox_id: sandbox.parse().unwrap(),
        metric: Metric::CodeRunInvocations,
        resource_id: id.to_string(),
        amount: 7,
        at: world.now(),
    };
    store::usage(Everyone::for_worker("story")).record(&tx, &record).await.unwrap();
    tx.commit().await.unwrap();
}

async fn pays(world: &World, acme: &Team) {
    let org = acme.org_id.parse().unwrap();
    let grant = NewGrant {
        kind: GrantKind::Purchased,
        credits: "12.500000001".parse().unwrap(),
        priority: None,
        expires_at: Some(world.now() + tests::span("365d")),
        key: "order-1".to_owned(),
        reason: "bought".to_owned(),
    };
    let paying = |app| async move {
        manage::change(&app, &Actor::operator(), org, grant).await.unwrap();
        let set = manage::SetPlan { plan: Plan::Scale, at: None, reason: "more room".to_owned() };
        manage::change(&app, &Actor::operator(), org, set).await.unwrap();
    };
    world.server().within(paying).await;
}
