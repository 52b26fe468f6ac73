//! The API's side: create, list, get, revoke, limits.

use futures_util::future::join_all;
use tests::{
    Database, World, json,
    preview::Visitor,
    stories,
    team::{ids, text},
};

use super::opens;

stories![
    a_preview_is_made_found_and_revoked,
    a_port_has_one_preview_at_a_time,
    a_senseless_preview_is_refused_by_field,
    previews_have_limits,
    many_previews_at_once_are_exactly_the_limit,
    an_ended_sandbox_has_no_previews,
    an_installation_without_previews_says_so,
];

async fn a_preview_is_made_found_and_revoked(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({ "ttlMs": 600_000 })).await;
    let command = acme.launches(&sandbox, "sleep 5").await;
    let body = json!({ "port": 8000, "sourceCommandId": command });
    let (preview, token) = opens(&acme, &sandbox, body).await;
    let (id, slug) = (text(&preview["id"]), text(&preview["slug"]));
    let port = Visitor::of(&preview).address.port();
    assert_eq!(
        preview,
        json!({
            "id": id,
            "slug": slug,
            "orgId": acme.org_id,
            "projectId": acme.project_id,
            "sandboxId": sandbox,
            "port": 8000,
            "authMode": "authenticated",
            "url": format!("http://{slug}.preview.localhost:{port}"),
            "createdAt": world.stamp("0s"),
            "expiresAt": world.stamp("10m"),
        })
    );
    assert!(id.starts_with("prv_") && token.is_empty(), "{id} {token}");
    world.moves("1s");
    let (other, token) = opens(&acme, &sandbox, json!({ "port": 1, "authMode": "token" })).await;
    assert!(token.starts_with("pvt_") && token.len() == 47, "{token}");

    // Newest first.
    let path = format!("/v1/previews/{id}");
    assert_eq!(acme.get(&path).await.is(200)["preview"], preview);
    let list = format!("/v1/sandboxes/{sandbox}/previews");
    let page = acme.get(&list).await.is(200);
    assert_eq!((&page["data"], &page["hasMore"]), (&json!([other, preview]), &json!(false)));
    let first = acme.get(&format!("{list}?limit=1")).await.is(200);
    let next = format!("{list}?limit=1&cursor={}", text(&first["nextCursor"]));
    assert_eq!(ids(&acme.get(&next).await.is(200)["data"]), [id]);
    let quota = async || acme.get("/v1/usage").await.is(200)["quotas"]["active_previews"].take();
    let wanted = json!({ "current": 2, "limit": 10, "remaining": 8, "resetAt": null });
    assert_eq!(quota().await, wanted);

    world.moves("1s");
    let revoked = acme.delete(&path).await.is(200)["preview"].take();
    assert_eq!(revoked["revokedAt"], world.stamp("0s"));
    assert_eq!(quota().await["current"], 1);
    world.moves("1s");
    assert_eq!(acme.delete(&path).await.is(200)["preview"], revoked, "it stays as it is");
    assert_eq!(acme.get(&path).await.is(200)["preview"], revoked);
    assert_eq!(ids(&acme.get(&list).await.is(200)["data"]).len(), 2, "it is still listed");
    assert_eq!(acme.sandbox(&sandbox).await["status"], "running", "the sandbox goes on");
    world.close().await;
}

/// Acceptance 65: created twice, it is the same one, and its token is not shown again.
async fn a_port_has_one_preview_at_a_time(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let body = json!({ "port": 8000, "authMode": "token" });
    let (preview, _) = opens(&acme, &sandbox, body.clone()).await;
    let path = format!("/v1/sandboxes/{sandbox}/previews");
    for body in [body.clone(), json!({ "port": 8000 })] {
        let again = acme.post(&path, body).await.is(200);
        assert_eq!(again, json!({ "preview": preview }));
    }
    // Asked for by many at once, it is made once.
    let twenty = json!({ "port": 20 });
    let answers = join_all((0..8).map(|_| acme.post(&path, twenty.clone()))).await;
    let made = answers.iter().filter(|answer| answer.status == 201).count();
    let mut seen: Vec<_> = answers.iter().map(|a| text(&a.json()["preview"]["id"])).collect();
    seen.dedup();
    assert_eq!((made, seen.len()), (1, 1));

    let id = text(&preview["id"]);
    acme.delete(&format!("/v1/previews/{id}")).await.is(200);
    let (next, _) = opens(&acme, &sandbox, body).await;
    assert_ne!(next["id"], preview["id"]);
    assert_ne!(next["slug"], preview["slug"], "a slug is never used again");
    world.close().await;
}

async fn a_senseless_preview_is_refused_by_field(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let (sandbox, other) = (acme.starts(json!({})).await, acme.starts(json!({})).await);
    let foreign = text(&acme.runs(&other, "true").await["id"]);
    let path = format!("/v1/sandboxes/{sandbox}/previews");
    for (body, code, field) in [
        (json!({}), "invalid_request", "port"),
        (json!({ "port": 0 }), "invalid_request", "port"),
        (json!({ "port": 65_536 }), "invalid_request", "port"),
        (json!({ "port": -1 }), "invalid_request", "port"),
        (json!({ "port": "80" }), "invalid_request", "port"),
        (json!({ "port": 80, "authMode": "public" }), "unsupported_preview_auth_mode", "authMode"),
        (json!({ "port": 80, "authMode": "" }), "unsupported_preview_auth_mode", "authMode"),
        (json!({ "port": 80, "sourceCommandId": "x" }), "invalid_request", "sourceCommandId"),
        (json!({ "port": 80, "sourceCommandId": foreign }), "invalid_request", "sourceCommandId"),
    ] {
        let error = acme.post(&path, body.clone()).await.refused(400, code);
        assert_eq!(error["details"]["field"], field, "{body}");
    }
    acme.post("/v1/sandboxes/sbx_nope/previews", json!({ "port": 80 }))
        .await
        .refused(404, "not_found");
    acme.get("/v1/previews/prv_nope").await.refused(404, "not_found");
    world.close().await;
}

/// 3 of a sandbox, 10 of an organization; what is revoked makes room.
async fn previews_have_limits(database: Database) {
    let world = World::on(database).await;
    let (acme, rival) = (world.team("acme").await, world.team("rival").await);
    let mut all = Vec::new();
    for n in 0..4 {
        let sandbox = acme.starts(json!({})).await;
        let path = format!("/v1/sandboxes/{sandbox}/previews");
        for port in 1..=if n < 3 { 3 } else { 1 } {
            all.push(text(&opens(&acme, &sandbox, json!({ "port": port })).await.0["id"]));
        }
        let limit = if n < 3 { 3 } else { 10 };
        let error = acme.post(&path, json!({ "port": 9 })).await.refused(429, "quota_exceeded");
        assert_eq!(error["details"]["limit"], limit, "sandbox {n}");
        // What is there already needs no room.
        acme.post(&path, json!({ "port": 1 })).await.is(200);
    }
    let theirs = rival.starts(json!({})).await;
    opens(&rival, &theirs, json!({ "port": 1 })).await;
    acme.delete(&format!("/v1/previews/{}", all[0])).await.is(200);
    let sandbox = acme.starts(json!({})).await;
    opens(&acme, &sandbox, json!({ "port": 1 })).await;
    acme.kills(&sandbox).await;
    let sandbox = acme.starts(json!({})).await;
    opens(&acme, &sandbox, json!({ "port": 1 })).await;
    world.close().await;
}

async fn many_previews_at_once_are_exactly_the_limit(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandboxes = join_all((0..5).map(|_| acme.starts(json!({})))).await;
    // Five of each of five: 3 each would be 15, 10 are allowed.
    let asked = sandboxes.iter().flat_map(|sandbox| (1..=5).map(move |port| (sandbox, port)));
    let asked = asked.map(|(sandbox, port)| {
        let path = format!("/v1/sandboxes/{sandbox}/previews");
        let acme = &acme;
        async move { acme.post(&path, json!({ "port": port })).await.status }
    });
    let statuses = join_all(asked).await;
    let n = |status: u16| statuses.iter().filter(|given| **given == status).count();
    assert_eq!((n(201), n(429)), (10, 15), "{statuses:?}");
    let most = "select coalesce(max(n), 0) from
        (select count(*) as n from previews group by sandbox_id) as each_one";
    assert_eq!(world.number("select count(*) from previews").await, 10);
    assert!(world.number(most).await <= 3);
    world.close().await;
}

async fn an_ended_sandbox_has_no_previews(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({ "ttlMs": 60_000 })).await;
    let (preview, _) = opens(&acme, &sandbox, json!({ "port": 80 })).await;
    world.advance("1m").await;
    let path = format!("/v1/sandboxes/{sandbox}/previews");
    acme.post(&path, json!({ "port": 81 })).await.refused(410, "sandbox_destroyed");
    // Its record stays, and can still be revoked.
    let seen = acme.get(&path).await.is(200)["data"].take();
    assert_eq!(seen, json!([preview]));
    let revoked = acme.delete(&format!("/v1/previews/{}", text(&preview["id"]))).await.is(200);
    assert_eq!(revoked["preview"]["revokedAt"], world.stamp("0s"));
    world.close().await;
}

async fn an_installation_without_previews_says_so(database: Database) {
    let world = World::on(database).with(|config| config.preview_listen = None).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let path = format!("/v1/sandboxes/{sandbox}/previews");
    let refused = acme.post(&path, json!({ "port": 80 })).await;
    refused.refused(403, "feature_not_enabled");
    assert_eq!(acme.get(&path).await.is(200)["data"], json!([]));
    world.close().await;
}
