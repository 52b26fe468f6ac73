//! What bad requests get: the envelope with a code and the field, whatever was wrong, and nothing
//! done.

use reqwest::Method;
use tests::{Answer, Database, Team, Value, World, json, stories};

stories![
    an_unknown_route_is_not_found,
    a_known_route_with_another_method_says_so,
    bodies_that_are_no_json_are_refused,
    wrong_values_are_refused_by_field,
    an_over_long_body_is_refused,
    another_content_type_is_refused,
    empty_bodies_need_no_content_type,
    unknown_fields_are_ignored,
    ids_that_are_none_are_not_found,
    huge_headers_break_nothing,
];

/// Acceptance 4.
async fn an_unknown_route_is_not_found(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    for path in ["/v1/nope", "/v1", "/", "/v1/sandboxes/x/y/z", "/v2/sandboxes", "/v1/sandboxes/"] {
        acme.get(path).await.refused(404, "not_found");
        acme.post(path, json!({})).await.refused(404, "not_found");
    }
    world.close().await;
}

async fn a_known_route_with_another_method_says_so(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    for (method, path) in [
        (Method::PATCH, "/v1/sandboxes"),
        (Method::PUT, "/v1/projects"),
        (Method::DELETE, "/v1/usage"),
        (Method::POST, "/v1/commands/cmd_00000000000070008000000000000000"),
    ] {
        let answer = acme.send(acme.request(method.clone(), path)).await;
        assert!(answer.header("allow").contains("GET"), "{method} {path}: {answer}");
        answer.refused(405, "method_not_allowed");
    }
    world.close().await;
}

/// Acceptance 5.
async fn bodies_that_are_no_json_are_refused(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    for (body, why) in [
        (b"{".to_vec(), "cut off"),
        (b"not json".to_vec(), "words"),
        (b"[]".to_vec(), "a list"),
        (b"null".to_vec(), "null"),
        (b"\"text\"".to_vec(), "a string"),
        (b"{} {}".to_vec(), "two values"),
        (b"\xff\xfe{}".to_vec(), "not UTF-8"),
        (b"{\"template\":\"\\ud800\"}".to_vec(), "half a surrogate pair"),
        ("[".repeat(100_000).into_bytes(), "nested without end"),
    ] {
        let error = acme.post_text("/v1/sandboxes", body).await.refused(400, "invalid_request");
        assert_eq!(error["details"]["field"], "body", "{why}: {error}");
    }
    assert_eq!(acme.lists().await.len(), 0);
    world.close().await;
}

/// Acceptance 5 and the bounds of every field.
async fn wrong_values_are_refused_by_field(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let of = |end: &str| format!("/v1/sandboxes/{sandbox}{end}");
    let sandboxes = "/v1/sandboxes".to_owned();
    let long = "x".repeat(200_000);
    let rows = [
        (&sandboxes, json!({ "ttlMs": -1 }), "ttlMs"),
        (&sandboxes, json!({ "ttlMs": 0 }), "ttlMs"),
        (&sandboxes, json!({ "ttlMs": 1.5 }), "ttlMs"),
        (&sandboxes, json!({ "ttlMs": "1000" }), "ttlMs"),
        (&sandboxes, json!({ "ttlMs": true }), "ttlMs"),
        (&sandboxes, json!({ "template": 7 }), "template"),
        (&sandboxes, json!({ "projectId": "prj_1" }), "projectId"),
        (&sandboxes, json!({ "projectId": sandbox }), "projectId"),
        (&sandboxes, json!({ "templateVersionId": "tplv" }), "templateVersionId"),
        (&"/v1/projects".to_owned(), json!({}), "name"),
        (&"/v1/projects".to_owned(), json!({ "name": "  " }), "name"),
        (&"/v1/projects".to_owned(), json!({ "name": "a\u{0}b" }), "name"),
        (&"/v1/projects".to_owned(), json!({ "name": "x".repeat(129) }), "name"),
        (&of("/ttl"), json!({}), "ttlMs"),
        (&of("/ttl"), json!({ "ttlMs": 0 }), "ttlMs"),
        (&of("/commands"), json!({}), "command"),
        (&of("/commands"), json!({ "command": " " }), "command"),
        (&of("/commands"), json!({ "command": "a\u{0}" }), "command"),
        (&of("/commands"), json!({ "command": long }), "command"),
        (&of("/commands"), json!({ "command": ["ls"] }), "command"),
        (&of("/commands"), json!({ "command": "true", "timeoutMs": 0 }), "timeoutMs"),
        (&of("/commands"), json!({ "command": "true", "timeoutMs": 600_001 }), "timeoutMs"),
        (&of("/commands"), json!({ "command": "true", "background": "yes" }), "background"),
        (&of("/commands"), json!({ "command": "true", "env": { "A": 1 } }), "env.A"),
        (&of("/commands"), json!({ "command": "true", "env": { "A=B": "1" } }), "env"),
        (&of("/files/mkdir"), json!({}), "path"),
        (&of("/files/mkdir"), json!({ "path": "" }), "path"),
        (&of("/files/move"), json!({ "from": "a" }), "to"),
        (&of("/files/download-url"), json!({}), "path"),
    ];
    for (path, body, field) in rows {
        let shown = body.to_string();
        let error = acme.post(path, body).await.refused(400, "invalid_request");
        assert_eq!(
            error["details"]["field"],
            field,
            "{path} {}: {error}",
            &shown[..shown.len().min(80)]
        );
    }
    assert_eq!(acme.lists().await, std::slice::from_ref(&sandbox));
    assert_eq!(acme.sandbox(&sandbox).await["status"], "ready", "nothing has run");
    world.close().await;
}

async fn an_over_long_body_is_refused(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let body = json!({ "metadata": { "k": "x".repeat(3 << 20) } }).to_string();
    acme.post_text("/v1/sandboxes", body.clone()).await.refused(413, "payload_too_large");
    // Without a length announced, the limit is met while reading. What is not read any more may break
    // the connection before the answer is seen, or after it.
    let pieces: Vec<_> =
        body.as_bytes().chunks(1 << 16).map(|piece| std::io::Result::Ok(piece.to_vec())).collect();
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
    let request = acme.request(Method::POST, "/v1/sandboxes").body(body);
    if let Ok(answer) = request.header("content-type", "application/json").send().await {
        assert_eq!(answer.status(), 413);
    }
    assert_eq!(world.number("select count(*) from sandboxes").await, 0);
    world.close().await;
}

async fn another_content_type_is_refused(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let post = |content_type: &str| {
        let request = acme.request(Method::POST, "/v1/projects");
        request.header("content-type", content_type).body("{\"name\":\"x\"}")
    };
    for other in ["text/plain", "application/x-www-form-urlencoded", "application/xml", "json"] {
        acme.send(post(other)).await.refused(415, "unsupported_media_type");
    }
    for json in ["application/json", "application/json; charset=utf-8", "Application/JSON"] {
        acme.send(post(json)).await.is(201);
    }
    world.close().await;
}

/// Several clients send a POST without body and content type.
async fn empty_bodies_need_no_content_type(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    acme.post_nothing("/v1/sandboxes").await.is(201);
    let text_typed =
        acme.request(Method::POST, "/v1/sandboxes").header("content-type", "text/plain");
    acme.send(text_typed.body("")).await.is(201);
    let sandbox = acme.starts(json!({})).await;
    let command = acme.launches(&sandbox, "sleep infinity").await;
    acme.sees_command(&command, "running").await;
    acme.post_nothing(&format!("/v1/commands/{command}/logs/download-url")).await.is(200);
    acme.post_nothing(&format!("/v1/commands/{command}/cancel")).await.is(200);
    world.close().await;
}

async fn unknown_fields_are_ignored(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({ "vcpus": 64, "nested": { "a": [1, null] } })).await;
    let body = json!({ "command": "echo hi", "_private": true, "shell": "fish" });
    assert_eq!(acme.runs_with(&sandbox, body).await["stdout"], "hi\n");
    world.close().await;
}

async fn ids_that_are_none_are_not_found(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    for id in ["x", "sbx_", "sbx_1", "cmd_00000000000070008000000000000000", "%00", "..%2f", "ü"] {
        let refused = |answer: Answer| answer.refused(404, "not_found");
        refused(acme.get(&format!("/v1/sandboxes/{id}")).await);
        refused(acme.delete(&format!("/v1/sandboxes/{id}")).await);
        refused(acme.get(&format!("/v1/commands/{}", id.replace("cmd_", "sbx_"))).await);
        refused(acme.get(&format!("/v1/api-keys/{id}")).await);
    }
    world.close().await;
}

async fn huge_headers_break_nothing(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    // The server may refuse or cut the connection, but goes on serving.
    let huge = acme.request(Method::GET, "/v1/projects").header("x-huge", "x".repeat(1 << 20));
    if let Ok(response) = huge.send().await {
        assert!(matches!(response.status().as_u16(), 400 | 413 | 414 | 431), "{response:?}");
    }
    let long = format!("/v1/projects?cursor={}", "x".repeat(100_000));
    if let Ok(response) = acme.request(Method::GET, &long).send().await {
        assert!(matches!(response.status().as_u16(), 400 | 413 | 414 | 431), "{response:?}");
    }
    works(&acme).await;
    world.close().await;
}

async fn works(team: &Team) -> Value {
    team.get("/v1/projects").await.is(200)
}
