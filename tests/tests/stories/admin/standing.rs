//! Suspended, resumed and closed organizations: whose keys open nothing, and what becomes of what runs.

use domain::id::OrganizationId;
use tests::{Admin, Database, Key, Team, Value, World, json, message, stories};

use super::{acts, trail};

stories![
    a_suspended_organization_is_refused_at_the_next_request,
    it_is_refused_at_every_server,
    what_runs_ends_when_the_grace_period_does,
    it_ends_though_the_server_was_away,
    whoever_settles_first_bills_no_more_than_the_grace_period,
    what_is_resumed_in_time_is_spared,
    closing_is_final_and_ends_what_runs,
    nothing_begins_once_it_is_suspended,
    a_change_of_standing_is_told_once,
];

async fn begin(database: Database) -> (World, Admin, Team) {
    let world = World::on(database).with(|config| config.suspension_grace_minutes = 10).await;
    let (owner, acme) = (world.owner().await, world.team("acme").await);
    (world, owner, acme)
}

fn path(acme: &Team, verb: &str) -> String {
    format!("/admin/v1/organizations/{}/{verb}", acme.org_id)
}

async fn suspends(owner: &Key, acme: &Team) -> Value {
    let body = json!({ "reason": "unpaid" });
    owner.post(&path(acme, "suspend"), body).await.is(200)["organization"].take()
}

async fn a_suspended_organization_is_refused_at_the_next_request(database: Database) {
    let (world, owner, acme) = begin(database).await;
    let sandbox = acme.starts(json!({})).await;
    let told = suspends(&owner, &acme).await;
    assert_eq!((&told["status"], &told["statusReason"]), (&json!("suspended"), &json!("unpaid")));
    assert_eq!(told["statusSince"], world.stamp("0s"));
    assert_eq!(told["cleanupAt"], world.stamp("10m"));
    acme.get("/v1/projects").await.refused(403, "org_suspended");
    acme.delete(&format!("/v1/sandboxes/{sandbox}")).await.refused(403, "org_suspended");
    world.moves("1m");
    // Again, for another reason: it stays as it was.
    let again = owner.post(&path(&acme, "suspend"), json!({ "reason": "other" })).await.is(200);
    assert_eq!(again["organization"], told);
    for (body, field) in [
        (json!({}), "reason"),
        (json!({ "reason": " " }), "reason"),
        (json!({ "reason": "x".repeat(501) }), "reason"),
    ] {
        let error = owner.post(&path(&acme, "suspend"), body).await;
        assert_eq!(error.refused(400, "invalid_request")["details"]["field"], field);
    }
    let nobodys =
        format!("/admin/v1/organizations/{}/resume", OrganizationId::generate(world.now()));
    owner.post_nothing(&nobodys).await.refused(404, "not_found");
    world.close().await;
}

async fn it_is_refused_at_every_server(database: Database) {
    let (mut world, owner, acme) = begin(database).await;
    if database == Database::Postgres {
        let there = world.replica().await;
        acme.get("/v1/projects").await.is(200);
        there(&acme).get("/v1/projects").await.is(200);
        suspends(&there(&owner), &acme).await;
        for key in [(*acme).clone(), there(&acme)] {
            let refused = async || (key.get("/v1/projects").await.status == 403).then_some(());
            world.until("the refusal", refused).await;
        }
        owner.post_nothing(&path(&acme, "resume")).await.is(200);
        for key in [(*acme).clone(), there(&acme)] {
            let taken = async || (key.get("/v1/projects").await.status == 200).then_some(());
            world.until("the welcome", taken).await;
        }
    }
    world.close().await;
}

async fn what_runs_ends_when_the_grace_period_does(database: Database) {
    let (world, owner, acme) = begin(database).await;
    let (sandbox, other) = (acme.starts(json!({})).await, world.team("other").await);
    let others = other.starts(json!({})).await;
    suspends(&owner, &acme).await;
    let end = world.stamp("10m");
    world.advance("9m59s").await;
    assert_eq!(world.driver.running().len(), 2, "it is not over yet");
    world.advance("30s").await;
    assert_eq!(world.driver.running(), [others.parse().unwrap()]);
    let shown = owner.get(&path(&acme, "")[..path(&acme, "").len() - 1]).await.is(200);
    assert!(shown["organization"].get("cleanupAt").is_none(), "nothing is left to end");
    owner.post_nothing(&path(&acme, "resume")).await.is(200);
    let ended = acme.sandbox(&sandbox).await;
    assert_eq!((&ended["status"], &ended["destroyedAt"]), (&json!("destroyed"), &json!(end)));
    assert_eq!(ended["destroyedReason"], "platform_cleanup");
    assert_eq!(acme.used().await, 600, "billed to the end of the grace period");
    acme.starts(json!({})).await;
    world.close().await;
}

/// Nobody looks when the grace period ends; what was late is not billed, whichever worker is first to
/// look afterwards.
async fn it_ends_though_the_server_was_away(database: Database) {
    let (mut world, owner, acme) = begin(database).await;
    let sandbox = acme.starts(json!({})).await;
    suspends(&owner, &acme).await;
    let end = world.stamp("10m");
    world.kills_server().await;
    world.moves("20m");
    world.starts_server().await;
    world.settle().await;
    assert_eq!(world.driver.running(), []);
    owner.post_nothing(&path(&acme, "resume")).await.is(200);
    assert_eq!(acme.sandbox(&sandbox).await["destroyedAt"], end);
    assert_eq!(acme.used().await, 600);
    world.close().await;
}

/// The sandbox is seen alive and settled after its time, before anybody ends it.
async fn whoever_settles_first_bills_no_more_than_the_grace_period(database: Database) {
    let (world, owner, acme) = begin(database).await;
    let sandbox = acme.starts(json!({})).await;
    suspends(&owner, &acme).await;
    let end = world.stamp("10m");
    world.moves("20m");
    let seen = |app| async move { api::work::liveness::round(&app).await };
    world.server().within(seen).await.unwrap();
    world.settles_books().await;
    world.settle().await;
    owner.post_nothing(&path(&acme, "resume")).await.is(200);
    assert_eq!(acme.sandbox(&sandbox).await["destroyedAt"], end);
    assert_eq!(acme.used().await, 600);
    world.close().await;
}

async fn what_is_resumed_in_time_is_spared(database: Database) {
    let (world, owner, acme) = begin(database).await;
    let sandbox = acme.starts(json!({})).await;
    suspends(&owner, &acme).await;
    world.advance("9m").await;
    let told = owner.post_nothing(&path(&acme, "resume")).await.is(200);
    assert_eq!(told["organization"]["status"], "active");
    for absent in ["statusSince", "statusReason", "cleanupAt"] {
        assert!(told["organization"].get(absent).is_none(), "{absent}");
    }
    assert_eq!(owner.post_nothing(&path(&acme, "resume")).await.is(200), told, "active already");
    world.advance("20m").await;
    assert_eq!(acme.sandbox(&sandbox).await["status"], "ready");
    // Suspended anew, it has its whole time again.
    suspends(&owner, &acme).await;
    world.advance("9m").await;
    assert_eq!(world.driver.running().len(), 1);
    owner.post_nothing(&path(&acme, "resume")).await.is(200);
    world.close().await;
}

async fn closing_is_final_and_ends_what_runs(database: Database) {
    let (world, owner, acme) = begin(database).await;
    let sandbox = acme.starts(json!({})).await;
    acme.launches_and_sees(&sandbox, "sleep infinity").await;
    world.advance("60s").await;
    let body = json!({ "reason": "they left" });
    let told = owner.post(&path(&acme, "close"), body.clone()).await.is(200);
    assert_eq!(told["organization"]["status"], "closed");
    world.settle().await;
    assert_eq!(world.driver.running(), []);
    acme.get("/v1/projects").await.refused(403, "org_suspended");
    world.moves("1m");
    for (verb, body) in [("suspend", body.clone()), ("resume", json!({}))] {
        owner.post(&path(&acme, verb), body).await.refused(409, "conflict");
    }
    let again = owner.post(&path(&acme, "close"), json!({ "reason": "x" })).await.is(200);
    assert_eq!(again["organization"]["statusReason"], "they left");
    let ended = "select count(*) from sandboxes where end_reason = 'platform_cleanup'";
    assert_eq!(world.number(ended).await, 1);
    let kept = "select count(*) from ledger_transactions";
    assert!(world.number(kept).await > 0, "its ledger stays");
    world.close().await;
}

/// A request that came in before the suspension, and gets to its transaction after it.
async fn nothing_begins_once_it_is_suspended(database: Database) {
    use api::app::{idempotency::Answer, sandboxes};
    let (world, owner, acme) = begin(database).await;
    let secret = acme.secret.clone();
    let authenticate = |app: std::sync::Arc<api::app::App>| async move {
        app.auth.authenticate(Some(&secret), "req_1", "").await.unwrap()
    };
    let caller = world.server().within(authenticate).await;
    suspends(&owner, &acme).await;
    let new = sandboxes::NewSandbox {
        project_id: None,
        template: None,
        template_version_id: None,
        ttl_ms: None,
        metadata: domain::metadata::Metadata::default(),
        restores: false,
    };
    let create = |app: std::sync::Arc<api::app::App>| async move {
        let print = |_: &domain::sandbox::Sandbox, _| Answer { status: 201, body: Vec::new() };
        sandboxes::create(&app, &caller, None, new, print).await
    };
    let refused = world.server().within(create).await.unwrap_err();
    assert!(refused.to_string().contains("suspended"), "{refused}");
    assert_eq!(world.number("select count(*) from sandboxes").await, 0);
    world.close().await;
}

async fn a_change_of_standing_is_told_once(database: Database) {
    let (world, owner, acme) = begin(database).await;
    let support = owner.operator("support").await;
    let body = json!({ "reason": "unpaid" });
    let patient = support.idempotent("s1");
    let first = patient.post(&path(&acme, "suspend"), body.clone()).await;
    support.post_nothing(&path(&acme, "resume")).await.is(200);
    let again = patient.post(&path(&acme, "suspend"), body).await;
    assert_eq!((first.status, first.body), (200, again.body), "a retry changes nothing");
    acme.get("/v1/projects").await.is(200);
    owner.post(&path(&acme, "close"), json!({ "reason": "fraud" })).await.is(200);
    let trail = trail(&world, acme.org_id.parse::<OrganizationId>().unwrap()).await;
    assert_eq!(
        acts(&trail)[3..],
        [
            ["organization.suspend", &support.id, "ok"],
            ["organization.resume", &support.id, "ok"],
            ["organization.close", &owner.id, "ok"],
        ]
    );
    assert_eq!(
        trail[3]["details"],
        json!({ "reason": "unpaid", "cleanupAt": world.now() + tests::span("10m") })
    );
    let kinds: Vec<_> = message::events(world.db()).await.into_iter().map(|e| e.kind).collect();
    let told: Vec<_> = kinds.iter().filter(|kind| kind.contains("organization")).collect();
    assert_eq!(
        told,
        [
            "crownest.organization.suspended.v1",
            "crownest.organization.resumed.v1",
            "crownest.organization.closed.v1"
        ]
    );
    world.close().await;
}
