//! Sandboxes: what a new one looks like, its metadata and template, and the end by its owner.

use std::collections::BTreeMap;

use tests::{Database, World, json, stories};

stories![
    a_new_sandbox_has_what_was_asked_for,
    a_sandbox_takes_work_at_once,
    the_default_template_is_python_node,
    a_template_version_can_be_pinned,
    metadata_has_bounds,
    backups_are_not_enabled,
    a_killed_sandbox_stays_as_it_ended,
    a_status_tells_what_commands_do,
    the_environment_names_the_sandbox,
    sandboxes_do_not_see_each_other,
];

/// Acceptance 17.
async fn a_new_sandbox_has_what_was_asked_for(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let asked = json!({ "template": "python", "ttlMs": 600_000, "metadata": { "run": "x" } });
    let made = acme.post("/v1/sandboxes", asked).await.is(201)["sandbox"].take();
    let id = made["id"].as_str().unwrap();
    assert!(id.starts_with("sbx_"));
    assert_eq!(made["orgId"], acme.org_id.as_str());
    assert_eq!(made["projectId"], acme.project_id.as_str());
    assert_eq!(made["templateSlug"], "python");
    assert_eq!(made["templateVersion"], "1.0.0");
    assert!(made["templateId"].as_str().unwrap().starts_with("tpl_"));
    assert!(made["templateVersionId"].as_str().unwrap().starts_with("tplv_"));
    assert_eq!(made["ttlMs"], 600_000);
    assert_eq!(made["metadata"], json!({ "run": "x" }));
    assert_eq!(made["createdAt"], "2031-03-10T12:00:00.000Z");
    assert_eq!(made["expiresAt"], "2031-03-10T12:10:00.000Z");
    assert!(matches!(made["status"].as_str(), Some("creating" | "starting" | "ready")));
    for absent in ["destroyedAt", "destroyedReason"] {
        assert!(made.get(absent).is_none(), "{absent} is left out");
    }
    let ready = acme.sees(id, "ready").await;
    let but_status = |mut sandbox: tests::Value| {
        sandbox["status"].take();
        sandbox
    };
    assert_eq!(but_status(ready), but_status(made));
    world.close().await;
}

/// Acceptance 18: clients do not poll between create and use.
async fn a_sandbox_takes_work_at_once(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.creates(json!({})).await;
    assert_eq!(acme.runs(&sandbox, "echo hi").await["stdout"], "hi\n");
    let file = json!({ "path": "a.txt", "content": "a" });
    let fresh = acme.creates(json!({})).await;
    acme.put(&format!("/v1/sandboxes/{fresh}/files"), file).await.is(200);
    let fresh = acme.creates(json!({})).await;
    let command = acme.launches(&fresh, "echo there").await;
    assert_eq!(acme.sees_command(&command, "exited").await["stdout"], "there\n");
    world.close().await;
}

async fn the_default_template_is_python_node(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let seen = acme.sandbox(&sandbox).await;
    assert_eq!(seen["templateSlug"], "python-node");
    assert_eq!((seen["ttlMs"].as_i64(), &seen["metadata"]), (Some(3_600_000), &json!({})));
    world.close().await;
}

/// Acceptance 21.
async fn a_template_version_can_be_pinned(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let mut versions = BTreeMap::new();
    for slug in ["base", "python", "node", "python-node"] {
        let sandbox = acme.starts(json!({ "template": slug })).await;
        let seen = acme.sandbox(&sandbox).await;
        versions.insert(slug, seen["templateVersionId"].clone());
        acme.kills(&sandbox).await;
    }
    let pinned = json!({ "templateVersionId": versions["node"] });
    let made = acme.post("/v1/sandboxes", pinned).await.is(201);
    assert_eq!(made["sandbox"]["templateSlug"], "node");
    let agreeing = json!({ "template": "node", "templateVersionId": versions["node"] });
    acme.post("/v1/sandboxes", agreeing).await.is(201);

    let contradicting = json!({ "template": "base", "templateVersionId": versions["node"] });
    let error = acme.post("/v1/sandboxes", contradicting).await.refused(400, "invalid_request");
    assert_eq!(error["details"]["field"], "templateVersionId");
    for unknown in [
        json!({ "template": "ruby" }),
        json!({ "template": "" }),
        json!({ "template": "no\u{0}de" }),
        json!({ "templateVersionId": "tplv_00000000000070008000000000000000" }),
    ] {
        acme.post("/v1/sandboxes", unknown).await.refused(404, "not_found");
    }
    assert_eq!(acme.lists().await.len(), 2);
    world.close().await;
}

/// Acceptance 20.
async fn metadata_has_bounds(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let many = |n: usize, value: &str| -> BTreeMap<String, String> {
        (0..n).map(|i| (format!("k{i}"), value.to_owned())).collect()
    };
    for (metadata, code) in [
        (json!(many(17, "v")), "metadata_too_many_keys"),
        (json!({ "": "v" }), "invalid_metadata_key"),
        (json!({ "k".repeat(65): "v" }), "invalid_metadata_key"),
        (json!({ "a b": "v" }), "invalid_metadata_key"),
        (json!({ "a/b": "v" }), "invalid_metadata_key"),
        (json!({ "é": "v" }), "invalid_metadata_key"),
        (json!({ "k": "v".repeat(513) }), "invalid_metadata_value"),
        (json!({ "k": "a\u{0}b" }), "invalid_metadata_value"),
        (json!(many(9, &"v".repeat(500))), "metadata_too_large"),
    ] {
        let body = json!({ "metadata": metadata });
        acme.post("/v1/sandboxes", body).await.refused(400, code);
    }
    for not_text in [json!({ "k": 1 }), json!({ "k": null }), json!({ "k": ["v"] })] {
        let answer = acme.post("/v1/sandboxes", json!({ "metadata": not_text })).await;
        assert_eq!(answer.status, 400, "{answer}");
    }
    assert_eq!(acme.lists().await.len(), 0);

    let most =
        json!({ "agent.id:x_y-Z": "codex/1 \u{fc} \"quoted\"", "k".repeat(64): "v".repeat(512) });
    let sandbox = acme.starts(json!({ "metadata": most })).await;
    assert_eq!(acme.sandbox(&sandbox).await["metadata"], most);
    world.close().await;
}

async fn backups_are_not_enabled(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let restore = json!({ "restoreFrom": "bkp_1" });
    acme.post("/v1/sandboxes", restore).await.refused(403, "feature_not_enabled");
    assert_eq!(acme.lists().await.len(), 0);
    world.close().await;
}

/// Acceptance 25 and 29.
async fn a_killed_sandbox_stays_as_it_ended(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    world.advance("10s").await;
    let killed = acme.kills(&sandbox).await;
    assert_eq!(killed["status"], "destroyed");
    assert_eq!(killed["destroyedReason"], "user_killed");
    assert_eq!(killed["destroyedAt"], "2031-03-10T12:00:10.000Z");
    assert_eq!(acme.sandbox(&sandbox).await, killed, "get shows it at once");
    assert!(world.driver.running().is_empty(), "it is gone when kill answers");

    world.advance("2h").await;
    assert_eq!(acme.kills(&sandbox).await, killed, "killed twice, it keeps its end");
    let of = |end: &str| format!("/v1/sandboxes/{sandbox}{end}");
    for body in [json!({ "command": "true" }), json!({ "command": "true", "background": true })] {
        acme.post(&of("/commands"), body).await.refused(410, "sandbox_destroyed");
    }
    acme.post(&of("/ttl"), json!({ "ttlMs": 1000 })).await.refused(410, "sandbox_destroyed");
    acme.get(&of("/files")).await.refused(410, "sandbox_destroyed");
    let file = json!({ "path": "a", "content": "" });
    acme.put(&of("/files"), file).await.refused(410, "sandbox_destroyed");
    world.close().await;
}

async fn a_status_tells_what_commands_do(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    assert_eq!(acme.sandbox(&sandbox).await["status"], "ready", "nothing ran yet");
    let first = acme.launches(&sandbox, "sleep 10").await;
    let second = acme.launches(&sandbox, "sleep 20").await;
    acme.sees_command(&second, "running").await;
    assert_eq!(acme.sandbox(&sandbox).await["status"], "running");
    world.advance("15s").await;
    acme.sees_command(&first, "exited").await;
    assert_eq!(acme.sandbox(&sandbox).await["status"], "running", "one is still active");
    world.advance("15s").await;
    acme.sees_command(&second, "exited").await;
    assert_eq!(acme.sandbox(&sandbox).await["status"], "idle");
    for (status, wanted) in [("idle", 1), ("running", 0), ("ready", 0)] {
        let list = acme.get(&format!("/v1/sandboxes?status={status}")).await.is(200);
        assert_eq!(list["data"].as_array().unwrap().len(), wanted, "{status}");
    }
    world.close().await;
}

/// Acceptance 38.
async fn the_environment_names_the_sandbox(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({ "template": "python" })).await;
    let seen = acme.sandbox(&sandbox).await;
    let printed = acme.runs(&sandbox, "env").await["stdout"].take();
    let printed: BTreeMap<_, _> =
        printed.as_str().unwrap().lines().filter_map(|line| line.split_once('=')).collect();
    for (name, wanted) in [
        ("CROWNEST", &json!("1")),
        ("CROWNEST_SANDBOX_ID", &seen["id"]),
        ("CROWNEST_PROJECT_ID", &seen["projectId"]),
        ("CROWNEST_ORG_ID", &seen["orgId"]),
        ("CROWNEST_TEMPLATE_ID", &seen["templateId"]),
        ("CROWNEST_TEMPLATE_VERSION_ID", &seen["templateVersionId"]),
        ("CROWNEST_WORKSPACE", &json!("/workspace")),
    ] {
        assert_eq!(printed.get(name), wanted.as_str().as_ref(), "{name}");
    }
    let secret = printed.values().find(|value| value.contains("cn_live_"));
    assert_eq!(secret, None, "no credential is put into a sandbox");
    world.close().await;
}

async fn sandboxes_do_not_see_each_other(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let (one, two) = (acme.starts(json!({})).await, acme.starts(json!({})).await);
    acme.runs(&one, "echo secret > /workspace/a.txt").await;
    let list = acme.get(&format!("/v1/sandboxes/{two}/files")).await.is(200);
    assert_eq!(list["data"], json!([]), "a workspace starts empty and is its sandbox's own");
    assert_eq!(acme.runs(&two, "cat /workspace/a.txt").await["exitCode"], 1);
    world.close().await;
}
