//! Members and projects of organizations.

use domain::id::OrganizationId;
use tests::{Database, World, json, stories, team::ids};

use super::{acts, trail};

stories![
    members_are_added_listed_and_removed,
    a_removed_members_keys_open_nothing,
    projects_are_made_and_renamed,
    nothing_is_added_to_a_closed_organization,
    what_makes_no_sense_is_refused_by_name,
];

async fn members_are_added_listed_and_removed(database: Database) {
    let world = World::on(database).await;
    let owner = world.owner().await;
    let acme = owner.organization("acme").await;
    let other = owner.organization("other").await;
    let members = format!("/admin/v1/organizations/{acme}/members");
    let ann = json!({ "email": "ann@acme.test", "role": "owner" });
    let made = owner.post(&members, ann.clone()).await.is(201);
    assert_eq!(
        (&made["member"]["role"], &made["member"]["orgId"]),
        (&json!("owner"), &json!(acme))
    );
    owner.post(&members, ann).await.refused(409, "conflict");
    world.moves("1s");
    let bob = owner.member(&acme, "bob@acme.test").await;
    let list = owner.get(&members).await.is(200);
    assert_eq!(list["data"][0]["id"], bob.as_str(), "newest first");
    assert_eq!(list["data"][1], made["member"]);
    let elsewhere = format!("/admin/v1/organizations/{other}/members/{bob}");
    owner.delete(&elsewhere).await.refused(404, "not_found");
    let removed = owner.delete(&format!("{members}/{bob}")).await.is(200);
    assert_eq!(removed["member"]["removedAt"], world.stamp("0s"));
    world.moves("1s");
    assert_eq!(owner.delete(&format!("{members}/{bob}")).await.is(200), removed);
    assert_eq!(ids(&owner.get(&members).await.is(200)["data"]).len(), 1);
    // Back, and the same person as before.
    assert_eq!(owner.member(&acme, "bob@acme.test").await, bob);
    let trail = trail(&world, acme.parse::<OrganizationId>().unwrap()).await;
    let actions: Vec<_> = acts(&trail).iter().map(|[action, _, _]| *action).collect();
    let wanted = ["member.add", "member.add", "member.remove", "member.add"];
    assert_eq!(actions[2..], wanted);
    assert!(!format!("{trail:?}").contains("acme.test"), "no address in the trail");
    world.close().await;
}

/// They know the secrets.
async fn a_removed_members_keys_open_nothing(database: Database) {
    let world = World::on(database).await;
    let owner = world.owner().await;
    let acme = owner.organization("acme").await;
    let (ann, bob) =
        (owner.member(&acme, "ann@acme.test").await, owner.member(&acme, "bob@acme.test").await);
    let of = |user: &str| json!({ "preset": "all", "userId": user });
    let (_, anns) = owner.api_key(&acme, of(&ann)).await;
    let (_, bobs) = owner.api_key(&acme, of(&bob)).await;
    for key in [&anns, &bobs] {
        key.get("/v1/projects").await.is(200);
    }
    let bob_path = format!("/admin/v1/organizations/{acme}/members/{bob}");
    owner.delete(&bob_path).await.is(200);
    bobs.get("/v1/projects").await.refused(401, "invalid_api_key");
    anns.get("/v1/projects").await.is(200);
    // Back, but not the keys.
    owner.member(&acme, "bob@acme.test").await;
    bobs.get("/v1/projects").await.refused(401, "invalid_api_key");
    owner.delete(&bob_path).await.is(200);
    let path = format!("/admin/v1/organizations/{acme}/api-keys");
    let body = json!({ "name": "k", "preset": "all", "userId": bob });
    let error = owner.post(&path, body).await.refused(400, "invalid_request");
    assert_eq!(error["details"]["field"], "userId");
    world.close().await;
}

async fn projects_are_made_and_renamed(database: Database) {
    let world = World::on(database).await;
    let owner = world.owner().await;
    let acme = world.team("acme").await;
    world.moves("1s");
    let path = format!("/admin/v1/organizations/{}/projects", acme.org_id);
    let made = owner.post(&path, json!({ "name": "web" })).await.is(201);
    let id = made["project"]["id"].as_str().unwrap();
    assert_eq!(owner.get(&format!("{path}/{id}")).await.is(200), made);
    assert_eq!(ids(&owner.get(&path).await.is(200)["data"]), [id, &acme.project_id]);
    let renamed = owner.patch(&format!("{path}/{id}"), json!({ "name": "site" })).await.is(200);
    assert_eq!(renamed["project"]["name"], "site");
    assert_eq!(acme.get("/v1/projects").await.is(200)["data"][0], renamed["project"]);
    let rival = world.team("rival").await;
    let theirs = format!("/admin/v1/organizations/{}/projects/{id}", rival.org_id);
    owner.get(&theirs).await.refused(404, "not_found");
    owner.patch(&theirs, json!({ "name": "x" })).await.refused(404, "not_found");
    world.close().await;
}

async fn nothing_is_added_to_a_closed_organization(database: Database) {
    let world = World::on(database).await;
    let owner = world.owner().await;
    let acme = owner.organization("acme").await;
    owner.member(&acme, "ann@acme.test").await;
    let (key, _) = owner.api_key(&acme, json!({ "preset": "all" })).await;
    let below = format!("/admin/v1/organizations/{acme}");
    owner.post(&format!("{below}/close"), json!({ "reason": "gone" })).await.is(200);
    for (path, body) in [
        ("members".to_owned(), json!({ "email": "bob@acme.test", "role": "member" })),
        ("projects".to_owned(), json!({ "name": "p" })),
        ("api-keys".to_owned(), json!({ "name": "k", "preset": "all" })),
        (format!("api-keys/{key}/rotate"), json!({})),
    ] {
        owner.post(&format!("{below}/{path}"), body).await.refused(409, "conflict");
    }
    owner.get(&format!("{below}/members")).await.is(200);
    world.close().await;
}

async fn what_makes_no_sense_is_refused_by_name(database: Database) {
    let world = World::on(database).await;
    let owner = world.owner().await;
    let (acme, rival) = (world.team("acme").await, world.team("rival").await);
    let below = format!("/admin/v1/organizations/{}", acme.org_id);
    let key = |more: serde_json::Value| {
        let mut body = json!({ "name": "k" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    for (path, body, field) in [
        ("members", json!({ "email": "nobody", "role": "owner" }), "email"),
        ("members", json!({ "email": "a@b", "role": "boss" }), "role"),
        ("projects", json!({ "name": "" }), "name"),
        ("api-keys", key(json!({})), "scopes"),
        ("api-keys", key(json!({ "scopes": [] })), "scopes"),
        ("api-keys", key(json!({ "scopes": ["sandbox:read"], "preset": "all" })), "scopes"),
        ("api-keys", key(json!({ "preset": "some" })), "preset"),
        ("api-keys", key(json!({ "scopes": ["sandbox:fly"] })), "scopes[0]"),
        ("api-keys", key(json!({ "preset": "all", "projectIds": [] })), "projectIds"),
        (
            "api-keys",
            key(json!({ "preset": "all", "projectIds": [rival.project_id] })),
            "projectIds",
        ),
    ] {
        let answer = owner.post(&format!("{below}/{path}"), body.clone()).await;
        let error = answer.refused(400, "invalid_request");
        assert_eq!(error["details"]["field"], field, "{body}");
    }
    let rotate = format!("{below}/api-keys/{}/rotate", acme.id);
    let error = owner.post(&rotate, json!({ "overlapMs": 604_800_001_u64 })).await;
    assert_eq!(error.refused(400, "invalid_request")["details"]["field"], "overlapMs");
    let empty = owner.organization("empty").await;
    let path = format!("/admin/v1/organizations/{empty}/api-keys");
    let error = owner.post(&path, json!({ "name": "k", "preset": "all" })).await;
    assert_eq!(error.refused(400, "invalid_request")["details"]["field"], "userId");
    world.close().await;
}
