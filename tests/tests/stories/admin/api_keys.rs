//! Tenants' keys through the admin API: made with a preset or scopes, rotated while they are used.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use domain::id::OrganizationId;
use tests::{Database, World, json, stories, team::ids};

use super::{acts, trail};

stories![
    a_key_is_made_as_it_is_asked_for,
    a_rotated_key_works_until_the_very_instant,
    a_rotation_under_traffic_fails_no_request,
    a_key_is_rotated_once,
    a_rotated_key_is_refused_at_the_other_server,
    a_key_is_revoked_by_an_operator,
];

const HOUR_MS: u64 = 3_600_000;

async fn a_key_is_made_as_it_is_asked_for(database: Database) {
    let world = World::on(database).await;
    let owner = world.owner().await;
    let acme = world.team("acme").await;
    let org = &*acme.org_id;
    let project = acme.project("web").await;
    world.moves("1s");
    let body = json!({ "scopes": ["sandbox:read", "project:create"], "projectIds": [project] });
    let (id, restricted) = owner.api_key(org, body).await;
    assert_eq!(
        ids(&restricted.get("/v1/projects").await.is(200)["data"]),
        std::slice::from_ref(&project)
    );
    restricted.post("/v1/sandboxes", json!({})).await.refused(403, "forbidden");
    world.moves("1s");
    let (quick, key) = owner.api_key(org, json!({ "preset": "quickstart" })).await;
    key.get("/v1/usage").await.is(200);
    key.get("/v1/api-keys").await.refused(403, "forbidden");
    world.keeps_house().await;

    let path = format!("/admin/v1/organizations/{org}/api-keys");
    let list = owner.get(&path).await;
    assert!(!list.text().contains(&key.secret[19..]), "a secret is shown once");
    let list = list.is(200);
    assert_eq!(ids(&list["data"]), [quick.clone(), id.clone(), acme.id.clone()]);
    assert_eq!(list["data"][0]["lastUsedAt"], world.stamp("0s"));
    assert_eq!(list["data"][1]["projectIds"], json!([project]));
    assert_eq!(list["data"][1]["scopes"], json!(["sandbox:read", "project:create"]));
    let got = owner.get(&format!("{path}/{id}")).await.is(200);
    assert_eq!(got["apiKey"], list["data"][1]);
    let rival = world.team("rival").await;
    let theirs = format!("/admin/v1/organizations/{}/api-keys/{id}", rival.org_id);
    owner.get(&theirs).await.refused(404, "not_found");
    owner.delete(&theirs).await.refused(404, "not_found");
    owner.post(&format!("{theirs}/rotate"), json!({})).await.refused(404, "not_found");
    world.close().await;
}

/// No background work has a part in it: nothing runs between the last good instant and the end.
async fn a_rotated_key_works_until_the_very_instant(database: Database) {
    let world = World::on(database).await;
    let owner = world.owner().await;
    let acme = world.team("acme").await;
    acme.get("/v1/projects").await.is(200);
    let (id, successor) = owner.rotates(&acme.org_id, &acme.id, HOUR_MS).await;
    successor.get("/v1/projects").await.is(200);
    let old = acme.get(&format!("/v1/api-keys/{}", acme.id)).await.is(200);
    assert_eq!(old["apiKey"]["expiresAt"], world.stamp("1h"));
    assert_eq!(old["apiKey"]["replacedByApiKeyId"], id.as_str());
    let new = acme.get(&format!("/v1/api-keys/{id}")).await.is(200);
    for same in ["name", "scopes", "createdByUserId"] {
        assert_eq!(new["apiKey"][same], old["apiKey"][same], "{same}");
    }
    world.moves("59m59s");
    world.moves("999ms");
    acme.get("/v1/projects").await.is(200);
    world.moves("1ms");
    acme.get("/v1/projects").await.refused(401, "invalid_api_key");
    successor.get("/v1/projects").await.is(200);
    let trail = trail(&world, acme.org_id.parse::<OrganizationId>().unwrap()).await;
    let told = [["key.create", &*owner.id, "ok"], ["key.rotate", &*owner.id, "ok"]];
    assert_eq!(acts(&trail)[3..], told);
    assert_eq!(trail[4]["details"]["replacedBy"], id.as_str());
    world.close().await;
}

/// Clients hold the old key until they are given the new one, all within the overlap.
async fn a_rotation_under_traffic_fails_no_request(database: Database) {
    const CLIENTS: usize = 8;
    let world = World::on(database).await;
    let owner = world.owner().await;
    let acme = world.team("acme").await;
    acme.get("/v1/projects").await.is(200);
    let (over, n_done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let given = Arc::new(std::sync::RwLock::new((*acme).clone()));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (over, n_done, given) = (over.clone(), n_done.clone(), given.clone());
            tokio::spawn(async move {
                while !over.load(Ordering::Acquire) {
                    let key = given.read().unwrap().clone();
                    let answer = key.get("/v1/projects").await;
                    assert_eq!(answer.status, 200, "{answer}");
                    n_done.fetch_add(1, Ordering::AcqRel);
                }
            })
        })
        .collect();
    let more = async || {
        let wanted = n_done.load(Ordering::Acquire) + 3 * CLIENTS;
        let look = async || (n_done.load(Ordering::Acquire) >= wanted).then_some(());
        world.until("requests", look).await;
    };
    let mut id = acme.id.clone();
    for _ in 0..3 {
        more().await;
        let (next, successor) = owner.rotates(&acme.org_id, &id, HOUR_MS).await;
        more().await;
        *given.write().unwrap() = successor;
        more().await;
        id = next;
    }
    over.store(true, Ordering::Release);
    for client in clients {
        client.await.unwrap();
    }
    world.moves("2h");
    acme.get("/v1/projects").await.refused(401, "invalid_api_key");
    let last = given.read().unwrap().clone();
    last.get("/v1/projects").await.is(200);
    world.close().await;
}

async fn a_key_is_rotated_once(database: Database) {
    let world = World::on(database).await;
    let owner = world.owner().await;
    let acme = world.team("acme").await;
    let path = format!("/admin/v1/organizations/{}/api-keys/{}/rotate", acme.org_id, acme.id);
    let patient = owner.idempotent("r1");
    let first = patient.post(&path, json!({})).await.is(201);
    let again = patient.post(&path, json!({})).await.is(201);
    assert_eq!(first["apiKey"], again["apiKey"], "a retry makes no third key");
    assert!(first["secret"].is_string() && again.get("secret").is_none());
    owner.post(&path, json!({})).await.refused(409, "conflict");
    assert_eq!(world.number("select count(*) from api_keys").await, 2);
    // With no overlap, the old one opens nothing from the answer on.
    let id = first["apiKey"]["id"].as_str().unwrap();
    let (_, last) = owner.rotates(&acme.org_id, id, 0).await;
    let old = world.nobody().with("x-api-key", first["secret"].as_str().unwrap());
    old.get("/v1/projects").await.refused(401, "invalid_api_key");
    last.get("/v1/projects").await.is(200);
    world.close().await;
}

async fn a_rotated_key_is_refused_at_the_other_server(database: Database) {
    let mut world = World::on(database).await;
    if database == Database::Postgres {
        let there = world.replica().await;
        let owner = world.owner().await;
        let acme = world.team("acme").await;
        there(&acme).get("/v1/projects").await.is(200);
        let (_, successor) = owner.rotates(&acme.org_id, &acme.id, HOUR_MS).await;
        there(&successor).get("/v1/projects").await.is(200);
        there(&acme).get("/v1/projects").await.is(200);
        // It hears of the end of the key when it hears of the rotation, long before.
        let heard = async || {
            let seen = there(&acme).get(&format!("/v1/api-keys/{}", acme.id)).await.is(200);
            seen["apiKey"]["expiresAt"].is_string().then_some(())
        };
        world.until("the rotation", heard).await;
        world.moves("1h");
        there(&acme).get("/v1/projects").await.refused(401, "invalid_api_key");
        there(&successor).get("/v1/projects").await.is(200);
    }
    world.close().await;
}

async fn a_key_is_revoked_by_an_operator(database: Database) {
    let world = World::on(database).await;
    let owner = world.owner().await;
    let acme = world.team("acme").await;
    acme.get("/v1/projects").await.is(200);
    let path = format!("/admin/v1/organizations/{}/api-keys/{}", acme.org_id, acme.id);
    let revoked = owner.delete(&path).await.is(200);
    assert_eq!(revoked["apiKey"]["revokedAt"], world.stamp("0s"));
    acme.get("/v1/projects").await.refused(401, "invalid_api_key");
    world.moves("1m");
    assert_eq!(owner.delete(&path).await.is(200), revoked);
    owner.post(&format!("{path}/rotate"), json!({})).await.refused(409, "conflict");
    world.close().await;
}
