//! Sandboxes of all organizations through the admin API.

use domain::{id::SandboxId, limits::Plan};
use tests::{Database, World, json, stories, team::ids};

use super::trail;

stories![
    sandboxes_of_all_organizations_are_listed_by_filter,
    a_kill_ends_billing_at_once_and_is_told_once,
    a_kill_of_what_is_over_changes_nothing,
];

const SANDBOXES: &str = "/admin/v1/sandboxes";

async fn sandboxes_of_all_organizations_are_listed_by_filter(database: Database) {
    let world = World::on(database).await;
    let owner = world.owner().await;
    let auditor = owner.operator("auditor").await;
    let (acme, rival) = (world.team("acme").await, world.team("rival").await);
    let project = acme.project("other").await;
    let first = acme.starts(json!({})).await;
    world.moves("1s");
    let second = rival.starts(json!({ "template": "python" })).await;
    world.moves("1s");
    let third = acme.starts(json!({ "projectId": project })).await;
    acme.kills(&first).await;
    let host = &world.server().app().config.host;
    let list =
        async |query: &str| ids(&auditor.get(&format!("{SANDBOXES}{query}")).await.is(200)["data"]);
    for (query, wanted) in [
        (String::new(), vec![&third, &second]),
        ("?include=historical".to_owned(), vec![&third, &second, &first]),
        (format!("?organizationId={}", rival.org_id), vec![&second]),
        (format!("?organizationId={}&include=historical", acme.org_id), vec![&third, &first]),
        (format!("?projectId={project}"), vec![&third]),
        ("?status=destroyed".to_owned(), vec![&first]),
        ("?template=python".to_owned(), vec![&second]),
        ("?template=%00".to_owned(), vec![]),
        (format!("?host={host}"), vec![&third, &second]),
        ("?host=elsewhere".to_owned(), vec![]),
    ] {
        assert!(list(&query).await.iter().eq(wanted), "{query}");
    }
    let page = auditor.get(&format!("{SANDBOXES}?limit=1")).await.is(200);
    let cursor = page["nextCursor"].as_str().unwrap();
    assert_eq!(list(&format!("?limit=1&cursor={cursor}")).await, std::slice::from_ref(&second));
    let got = auditor.get(&format!("{SANDBOXES}/{first}")).await.is(200);
    let sandbox = &got["sandbox"];
    assert_eq!((&sandbox["orgId"], &sandbox["status"]), (&json!(acme.org_id), &json!("destroyed")));
    assert_eq!((&sandbox["createdByApiKeyId"], &sandbox["host"]), (&json!(acme.id), &json!(host)));
    assert_eq!(sandbox["pricingVersion"], "2026-07");
    let unknown = SandboxId::generate(world.now());
    auditor.get(&format!("{SANDBOXES}/{unknown}")).await.refused(404, "not_found");
    world.close().await;
}

/// 90 s of one sandbox are 90 compute unit seconds, and not a second more an hour later.
async fn a_kill_ends_billing_at_once_and_is_told_once(database: Database) {
    let world = World::on(database).await;
    let owner = world.owner().await;
    let support = owner.operator("support").await;
    let acme = world.team_on("acme", Plan::Enterprise).await;
    let sandbox = acme.starts(json!({})).await;
    let command = acme.launches_and_sees(&sandbox, "sleep infinity").await;
    world.advance("90s").await;
    let path = format!("{SANDBOXES}/{sandbox}/kill");
    let body = json!({ "reason": "it mines coins" });
    let patient = support.idempotent("once");
    let killed = patient.post(&path, body.clone()).await;
    let again = patient.post(&path, body.clone()).await;
    assert_eq!((killed.status, &killed.body), (200, &again.body), "byte for byte");
    let killed = killed.json();
    assert_eq!(killed["sandbox"]["status"], "destroyed");
    assert_eq!(killed["sandbox"]["endReason"], "platform_cleanup");
    assert_eq!(killed["sandbox"]["endedAt"], world.stamp("0s"));
    assert!(world.driver.running().is_empty(), "it is gone when the answer comes");
    let end = ("platform_cleanup".to_owned(), world.stamp("0s"));
    assert_eq!(acme.end_of(&sandbox).await, end);
    assert_eq!(acme.command(&command).await["status"], "killed");
    world.advance("1h").await;
    assert_eq!(acme.used().await, 90);
    // By state: another request finds it killed, and nothing is told of that.
    let later = owner.post(&path, json!({ "reason": "again" })).await.is(200);
    assert_eq!(later["sandbox"]["endedAt"], killed["sandbox"]["endedAt"]);
    let trail = trail(&world, acme.org()).await;
    let told: Vec<_> = trail.iter().filter(|line| line["object"] == *sandbox).collect();
    assert_eq!(told.len(), 2, "created and killed: {told:?}");
    assert_eq!(
        (&told[1]["action"], &told[1]["actor"]),
        (&json!("sandbox.kill"), &json!(support.id))
    );
    assert_eq!(
        told[1]["details"],
        json!({ "endReason": "platform_cleanup", "reason": "it mines coins" })
    );
    world.close().await;
}

async fn a_kill_of_what_is_over_changes_nothing(database: Database) {
    let world = World::on(database).await;
    let owner = world.owner().await;
    let acme = world.team("acme").await;
    let by_user = acme.starts(json!({})).await;
    acme.kills(&by_user).await;
    let expired = acme.starts(json!({ "ttlMs": 60_000 })).await;
    let end = world.stamp("60s");
    world.moves("2m"); // Whoever cleans up is late.
    let kill = async |id: &str, reason: &str| {
        owner.post(&format!("{SANDBOXES}/{id}/kill"), json!({ "reason": reason })).await
    };
    let seen = kill(&expired, "r").await.is(200);
    assert_eq!(seen["sandbox"]["endReason"], "ttl_expired");
    assert_eq!(seen["sandbox"]["endedAt"], end);
    assert_eq!(kill(&by_user, "r").await.is(200)["sandbox"]["endReason"], "user_killed");
    let error = kill(&by_user, "").await.refused(400, "invalid_request");
    assert_eq!(error["details"]["field"], "reason");
    let unknown = SandboxId::generate(world.now()).to_string();
    kill(&unknown, "r").await.refused(404, "not_found");
    let trail = trail(&world, acme.org()).await;
    let by_owner = trail.iter().filter(|line| line["actor"] == *owner.id).count();
    assert_eq!(by_owner, 0, "what was over already was ended by nobody's wish");
    world.close().await;
}
