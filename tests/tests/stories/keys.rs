//! API keys: listing, revoking, and what a key that is restricted to projects sees.

use domain::organization::Standing;
use tests::{Database, World, json, stories, team::ids};

stories![
    a_key_is_listed_without_its_secret,
    a_revoked_key_opens_nothing_at_once,
    a_key_that_revokes_itself_is_answered_and_then_refused,
    a_key_revoked_at_one_server_is_refused_at_the_other,
    a_remembered_key_is_read_again_when_nothing_can_be_heard,
    a_restricted_key_sees_its_project_alone,
    a_restricted_key_works_in_its_project_by_default,
    the_last_use_of_a_key_is_written_down,
];

async fn a_key_is_listed_without_its_secret(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    world.moves("1s");
    let second = acme.key("sandbox:read,api_key:read").await;
    let list = acme.get("/v1/api-keys").await;
    for secret in [&acme.secret, &second.secret] {
        assert!(!list.text().contains(&secret[19..]), "a secret is shown once");
    }
    let list = list.is(200);
    assert_eq!(ids(&list["data"]), [second.id.clone(), acme.id.clone()], "newest first");
    let key = &list["data"][0];
    assert_eq!(key["prefix"], &second.secret[..18]);
    assert_eq!(key["last4"], &second.secret[second.secret.len() - 4..]);
    assert_eq!(key["scopes"], json!(["sandbox:read", "api_key:read"]));
    assert_eq!(key["orgId"], acme.org_id.as_str());
    assert_eq!(key["createdAt"], world.stamp("0s"));
    assert!(key["createdByUserId"].as_str().unwrap().starts_with("usr_"));
    for absent in ["revokedAt", "projectIds", "secret", "secretHash"] {
        assert!(key.get(absent).is_none(), "{absent} is left out");
    }
    let got = acme.get(&format!("/v1/api-keys/{}", second.id)).await.is(200);
    assert_eq!(&got["apiKey"]["prefix"], &key["prefix"]);
    world.close().await;
}

/// Acceptance 8 and 15.
async fn a_revoked_key_opens_nothing_at_once(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let leaver = acme.key("all").await;
    leaver.get("/v1/projects").await.is(200);
    let path = format!("/v1/api-keys/{}", leaver.id);
    let revoked = acme.delete(&path).await.is(200);
    assert_eq!(revoked["apiKey"]["revokedAt"], world.stamp("0s"));
    leaver.get("/v1/projects").await.refused(401, "invalid_api_key");
    leaver.post("/v1/sandboxes", json!({})).await.refused(401, "invalid_api_key");

    world.moves("1m");
    assert_eq!(acme.delete(&path).await.is(200), revoked, "revoked twice, it stays as it was");
    assert_eq!(acme.get(&path).await.is(200), revoked);
    acme.get("/v1/projects").await.is(200);
    world.close().await;
}

async fn a_key_that_revokes_itself_is_answered_and_then_refused(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let own = acme.key("api_key:revoke").await;
    own.delete(&format!("/v1/api-keys/{}", own.id)).await.is(200);
    let again = own.delete(&format!("/v1/api-keys/{}", own.id)).await;
    again.refused(401, "invalid_api_key");
    world.close().await;
}

/// Two servers over one database. The announcement takes a moment to arrive, so what is held is that
/// it needs no more than that. On SQLite there is one server to a database.
async fn a_key_revoked_at_one_server_is_refused_at_the_other(database: Database) {
    let mut world = World::on(database).await;
    if database == Database::Postgres {
        let there = world.replica().await;
        let acme = world.team("acme").await;
        for _ in 0..5 {
            let leaver = acme.key("all").await;
            // Both have verified the key and remember it.
            leaver.get("/v1/projects").await.is(200);
            there(&leaver).get("/v1/projects").await.is(200);
            acme.delete(&format!("/v1/api-keys/{}", leaver.id)).await.is(200);
            let revoked_at = std::time::Instant::now();
            let refused = async || {
                let answer = there(&leaver).get("/v1/projects").await;
                (answer.status == 401).then_some(())
            };
            world.until("the refusal at the other server", refused).await;
            assert!(revoked_at.elapsed() < std::time::Duration::from_secs(2));
        }
    }
    world.close().await;
}

/// What a server remembers of a key is good while changes are announced to it, and for a minute.
async fn a_remembered_key_is_read_again_when_nothing_can_be_heard(database: Database) {
    let world = World::on(database).await;
    let (acme, other) = (world.team("acme").await, world.team("other").await);
    for (team, why) in [(&acme, "the channel is down"), (&other, "a minute has passed")] {
        team.get("/v1/projects").await.is(200);
        // Nobody announces this.
        let org = team.org_id.parse().unwrap();
        let suspended = Standing::Suspended { since: world.now(), reason: "story".to_owned() };
        let set = store::organizations::set_standing(world.db().write(), org, &suspended, None);
        set.await.unwrap();
        if why == "the channel is down" {
            world.server().app().auth.set_channel(false);
        } else {
            world.server().app().auth.set_channel(true);
            world.moves("1m");
        }
        let answer = team.get("/v1/projects").await;
        assert_eq!(answer.status, 403, "{why}: {answer}");
    }
    world.close().await;
}

/// A key that is restricted to projects sees and touches only what lies in them.
async fn a_restricted_key_sees_its_project_alone(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let theirs = acme.project("theirs").await;
    let restricted = acme.restricted_key("all", &[&theirs]).await;
    let outside = acme.starts(json!({})).await;
    let inside = acme.starts(json!({ "projectId": theirs })).await;
    let command = acme.launches(&outside, "echo out").await;
    acme.sees_command(&command, "exited").await;

    let projects = restricted.get("/v1/projects").await.is(200);
    assert_eq!(ids(&projects["data"]), std::slice::from_ref(&theirs));
    assert_eq!(
        ids(&restricted.get("/v1/sandboxes").await.is(200)["data"]),
        std::slice::from_ref(&inside)
    );
    let by_project = format!("/v1/sandboxes?projectId={}", acme.project_id);
    let answer = restricted.get(&by_project).await;
    assert!(
        answer.status == 403 || answer.is(200)["data"] == json!([]),
        "a project out of reach lists nothing"
    );
    restricted.get(&format!("/v1/sandboxes/{inside}")).await.is(200);
    for (path, why) in [
        (format!("/v1/sandboxes/{outside}"), "the sandbox"),
        (format!("/v1/sandboxes/{outside}/files"), "its files"),
        (format!("/v1/commands/{command}"), "its command"),
        (format!("/v1/commands/{command}/logs"), "its log"),
    ] {
        let answer = restricted.get(&path).await;
        assert_eq!(answer.status, 404, "{why}: {answer}");
    }
    restricted.delete(&format!("/v1/sandboxes/{outside}")).await.refused(404, "not_found");
    let explicit = json!({ "projectId": acme.project_id });
    restricted.post("/v1/sandboxes", explicit).await.refused(403, "forbidden");
    restricted.post("/v1/projects", json!({ "name": "x" })).await.refused(403, "forbidden");
    assert_eq!(acme.sandbox(&outside).await["status"], "idle");
    world.close().await;
}

async fn a_restricted_key_works_in_its_project_by_default(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let theirs = acme.project("theirs").await;
    let restricted = acme.restricted_key("all", &[&theirs]).await;
    let made = restricted.post("/v1/sandboxes", json!({})).await.is(201);
    assert_eq!(made["sandbox"]["projectId"], theirs.as_str());
    world.close().await;
}

async fn the_last_use_of_a_key_is_written_down(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let busy = acme.key("all").await;
    let path = format!("/v1/api-keys/{}", busy.id);
    assert!(acme.get(&path).await.is(200)["apiKey"].get("lastUsedAt").is_none());
    world.moves("5m");
    busy.get("/v1/projects").await.is(200);
    world.keeps_house().await;
    let key = acme.get(&path).await.is(200);
    assert_eq!(key["apiKey"]["lastUsedAt"], world.stamp("0s"));
    world.close().await;
}
