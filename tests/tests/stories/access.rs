//! Who comes in: credentials, scopes, and what a request without them gets.

use domain::{id::OrganizationId, organization::Standing};
use futures_util::future::join_all;
use tests::{Database, World, json, stories};

stories![
    a_request_without_a_credential_is_unauthorized,
    a_wrong_key_is_invalid,
    a_key_may_come_in_either_header,
    a_bearer_token_goes_before_an_api_key_header,
    every_answer_has_a_request_id_of_its_own,
    a_key_does_only_what_its_scopes_say,
    a_missing_scope_hides_whether_a_thing_exists,
    another_organization_sees_nothing,
    a_suspended_organization_is_told_so,
    a_flood_of_junk_does_not_stop_a_good_key,
    what_helps_to_start_needs_no_credential,
];

/// Acceptance 1.
async fn a_request_without_a_credential_is_unauthorized(database: Database) {
    let world = World::on(database).await;
    let nobody = world.nobody();
    for request in [
        nobody.clone(),
        nobody.with("authorization", "Basic dXNlcjpwYXNz"),
        nobody.with("authorization", "Bearer"),
        nobody.with("x-api-key", ""),
    ] {
        request.get("/v1/sandboxes").await.refused(401, "unauthorized");
    }
    world.close().await;
}

/// Acceptance 2.
async fn a_wrong_key_is_invalid(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let secret = &acme.secret;
    let mut typo = secret.clone();
    let last = if typo.ends_with('0') { "1" } else { "0" };
    typo.replace_range(typo.len() - 1.., last);
    for (wrong, why) in [
        ("cn_live_wrong".to_owned(), "malformed"),
        (typo, "a typo in the checksum"),
        (format!("{secret}0"), "one character more"),
        (secret[..18].to_owned(), "only the part that lists show"),
        (secret.replace("cn_live_", "cn_agent_"), "another kind"),
        (
            api::auth::generate_key(domain::key::KeyKind::Api).expose().to_owned(),
            "well-formed and unknown",
        ),
        ("x".repeat(4000), "very long"),
    ] {
        let answer = world.nobody().with("authorization", &format!("Bearer {wrong}"));
        let error = answer.get("/v1/sandboxes").await.refused(401, "invalid_api_key");
        assert!(!error.to_string().contains(&wrong), "{why}: a key must not come back");
    }
    world.close().await;
}

/// Acceptance 3.
async fn a_key_may_come_in_either_header(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let nobody = world.nobody();
    for (name, value) in [
        ("x-api-key", acme.secret.clone()),
        ("X-API-Key", format!("  {} ", acme.secret)),
        ("Authorization", format!("bearer {}", acme.secret)),
    ] {
        nobody.with(name, &value).get("/v1/projects").await.is(200);
    }
    let in_query = format!("/v1/projects?api_key={0}&x-api-key={0}", acme.secret);
    nobody.get(&in_query).await.refused(401, "unauthorized");
    world.close().await;
}

async fn a_bearer_token_goes_before_an_api_key_header(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    acme.with("x-api-key", "cn_live_wrong").get("/v1/projects").await.is(200);
    let wrong = world.nobody().with("authorization", "Bearer cn_live_wrong");
    let wrong = wrong.with("x-api-key", &acme.secret);
    wrong.get("/v1/projects").await.refused(401, "invalid_api_key");
    world.close().await;
}

/// Acceptance 6; that errors repeat the id is looked at with every answer of every story.
async fn every_answer_has_a_request_id_of_its_own(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let mut seen = std::collections::BTreeSet::new();
    for path in ["/v1/projects", "/v1/projects", "/v1/nope", "/healthz", "/v1/commands/x"] {
        let id = acme.get(path).await.header("x-request-id").to_owned();
        assert!(seen.insert(id.clone()), "{path}: {id} came twice");
    }
    // A client's own id is not taken over: ids in the log are ours.
    let theirs = acme.with("x-request-id", "theirs").get("/v1/projects").await;
    assert_ne!(theirs.header("x-request-id"), "theirs");
    world.close().await;
}

/// Acceptance 7.
async fn a_key_does_only_what_its_scopes_say(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let reader = acme.key("sandbox:read").await;
    let error = reader.post("/v1/sandboxes", json!({})).await.refused(403, "forbidden");
    assert_eq!(error["details"]["requiredScope"], "sandbox:create");
    assert_eq!(acme.lists().await.len(), 0, "no sandbox was created");
    reader.get("/v1/sandboxes").await.is(200);
    // A key needs no scope to see its projects.
    reader.get("/v1/projects").await.is(200);
    world.close().await;
}

/// The order of checks: the scope goes before the resource, the body and the state.
async fn a_missing_scope_hides_whether_a_thing_exists(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let runner = acme.key("command:run").await;
    let missing = "sbx_00000000000070008000000000000000";
    for id in [sandbox.as_str(), missing, "nonsense"] {
        let path = format!("/v1/sandboxes/{id}");
        runner.get(&path).await.refused(403, "forbidden");
        runner.delete(&path).await.refused(403, "forbidden");
        runner.post_text(&format!("{path}/ttl"), "{").await.refused(403, "forbidden");
    }
    assert_eq!(acme.sandbox(&sandbox).await["status"], "ready");
    world.close().await;
}

/// What belongs to somebody else is not there: the same answer as for an id that nobody has.
async fn another_organization_sees_nothing(database: Database) {
    let world = World::on(database).await;
    let (acme, rival) = (world.team("acme").await, world.team("rival").await);
    let sandbox = acme.starts(json!({ "metadata": { "run": "secret" } })).await;
    let command = acme.launches(&sandbox, "echo secret").await;
    acme.sees_command(&command, "exited").await;

    let theirs = rival.get(&format!("/v1/sandboxes/{sandbox}")).await;
    let nobodys = rival.get("/v1/sandboxes/sbx_00000000000070008000000000000000").await;
    let without_id = |mut error: tests::Value| {
        error["requestId"].take();
        error
    };
    assert_eq!(
        without_id(theirs.refused(404, "not_found")),
        without_id(nobodys.refused(404, "not_found")),
    );
    let run = json!({ "command": "echo mine" });
    rival.post(&format!("/v1/sandboxes/{sandbox}/commands"), run).await.refused(404, "not_found");
    rival.delete(&format!("/v1/sandboxes/{sandbox}")).await.refused(404, "not_found");
    rival.get(&format!("/v1/commands/{command}")).await.refused(404, "not_found");
    rival.get(&format!("/v1/commands/{command}/logs")).await.refused(404, "not_found");
    rival.get(&format!("/v1/commands/{command}/stream")).await.refused(404, "not_found");
    rival.get(&format!("/v1/api-keys/{}", acme.id)).await.refused(404, "not_found");
    rival.delete(&format!("/v1/api-keys/{}", acme.id)).await.refused(404, "not_found");
    for list in ["/v1/sandboxes?include=historical", "/v1/sandboxes?metadata.run=secret"] {
        assert_eq!(rival.get(list).await.is(200)["data"], json!([]), "{list}");
    }
    let project = json!({ "projectId": acme.project_id });
    rival.post("/v1/sandboxes", project).await.refused(403, "forbidden");
    assert_eq!(acme.sandbox(&sandbox).await["status"], "idle");
    world.close().await;
}

async fn a_suspended_organization_is_told_so(database: Database) {
    let world = World::on(database).await;
    let (acme, other) = (world.team("acme").await, world.team("other").await);
    acme.get("/v1/projects").await.is(200);
    let org: OrganizationId = acme.org_id.parse().unwrap();
    let suspended = Standing::Suspended { since: world.now(), reason: "story".to_owned() };
    let set = store::organizations::set_standing(world.db().write(), org, &suspended, None);
    set.await.unwrap();
    world.server().app().auth.forget_rows();
    acme.get("/v1/projects").await.refused(403, "org_suspended");
    acme.post("/v1/sandboxes", json!({})).await.refused(403, "org_suspended");
    other.get("/v1/projects").await.is(200);

    let set = store::organizations::set_standing(world.db().write(), org, &Standing::Active, None);
    set.await.unwrap();
    world.server().app().auth.forget_rows();
    acme.get("/v1/projects").await.is(200);
    world.close().await;
}

/// Wrong keys that are well formed cost argon2 only if their public part is a real key's; then they
/// queue behind each other, not before other keys, and not before the same key once it was seen.
async fn a_flood_of_junk_does_not_stop_a_good_key(database: Database) {
    let world = World::on(database).await;
    let (acme, victim) = (world.team("acme").await, world.team("victim").await);
    victim.get("/v1/projects").await.is(200);
    let lookup = victim.secret["cn_live_".len()..].split('_').next().unwrap();
    let wrong =
        domain::key::KeySecret::from_parts(domain::key::KeyKind::Api, lookup, &"x".repeat(32))
            .unwrap();
    let junk = |n: usize| {
        let secret = if n.is_multiple_of(2) { wrong.expose() } else { "cn_live_junk" };
        world.nobody().with("authorization", &format!("Bearer {secret}"))
    };
    let flood = join_all((0..64).map(junk).map(|junk| async move {
        let answer = junk.get("/v1/projects").await;
        // On a slow machine the queue of one key's junk may be told to come back.
        assert!(matches!(answer.status, 401 | 503), "{answer}");
    }));
    let good = async {
        acme.get("/v1/projects").await.is(200);
        victim.get("/v1/projects").await.is(200);
    };
    tokio::join!(flood, good);
    world.close().await;
}

/// Acceptance 9.
async fn what_helps_to_start_needs_no_credential(database: Database) {
    let world = World::on(database).await;
    let nobody = world.nobody();
    for (path, content_type, holds) in [
        ("/openapi.json", "application/vnd.oai.openapi+json", "\"openapi\""),
        ("/llms.txt", "text/markdown", "CrowNest"),
        ("/auth.md", "text/markdown", "cn_live_"),
        ("/.well-known/api-catalog", "application/linkset+json", "\"linkset\""),
        ("/healthz", "application/json", ""),
        ("/readyz", "application/json", "driver"),
    ] {
        let answer = nobody.get(path).await;
        assert_eq!(answer.status, 200, "{answer}");
        assert!(answer.header("content-type").starts_with(content_type), "{path}");
        assert!(answer.text().contains(holds), "{answer}");
    }
    let document = nobody.get("/openapi.json").await.json();
    assert_eq!(document["info"]["title"], "CrowNest API");
    assert_eq!(nobody.get("/docs").await.status, 200, "the page to browse the document");
    world.close().await;
}
