//! What commands leave as artifacts: whatever becomes of a file is told with the command, and never
//! fails the request.

use tests::{Database, Key, Team, Value, World, json, stories, team::text};

use super::names;

stories![
    files_are_collected_after_a_success,
    whatever_cannot_be_had_is_told,
    an_end_decides_whether_files_are_wanted,
    nobody_collects_from_what_nobody_waits_for,
    a_dead_sandbox_leaves_nothing,
    a_server_that_dies_leaves_it_to_the_next_one,
    a_last_event_tells_what_became_of_files,
];

async fn runs(team: &Team, sandbox: &str, line: &str, more: Value) -> Value {
    let mut body = more;
    body["command"] = json!(line);
    team.runs_with(sandbox, body).await
}

/// Acceptance 42.
async fn files_are_collected_after_a_success(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    acme.runs(&sandbox, "mkdir app; echo far > far.txt").await;
    let wanted = json!({ "cwd": "app", "collect": [
        { "path": "report.xml" },
        { "path": "far.txt", "name": "from the workspace.txt" },
        { "path": "/workspace/app/report.xml", "name": "again" },
    ]});
    let run = runs(&acme, &sandbox, "echo near > report.xml", wanted).await;
    assert_eq!((&run["exitCode"], &run["collectStatus"]), (&json!(0), &json!("succeeded")));
    assert_eq!(run.get("collectErrors"), None);
    assert_eq!(acme.command(&text(&run["id"])).await, run);
    acme.kills(&sandbox).await;
    let list = acme.get(&format!("/v1/sandboxes/{sandbox}/artifacts")).await.is(200);
    assert_eq!(list["data"].as_array().unwrap().len(), 3);
    for (name, path, bytes) in [
        ("report.xml", "/workspace/app/report.xml", "near\n"),
        ("from the workspace.txt", "/workspace/far.txt", "far\n"),
        ("again", "/workspace/app/report.xml", "near\n"),
    ] {
        let mut all = list["data"].as_array().unwrap().iter();
        let artifact = all.find(|artifact| artifact["name"] == name).unwrap();
        assert_eq!(artifact["sourcePath"], path);
        let download = acme.get(&format!("{}/download", super::at(artifact))).await;
        assert_eq!(download.text(), bytes);
    }
    world.close().await;
}

/// Acceptance 42, the other half.
async fn whatever_cannot_be_had_is_told(database: Database) {
    let world = World::on(database).with(|config| config.max_artifact_bytes = 100).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    acme.runs(&sandbox, "mkdir d; ln -s /etc etc; yes 100 > large; echo x > f").await;
    let bad = [
        ("missing.txt", "file_not_found"),
        ("f/below", "file_not_found"),
        ("../../etc/passwd", "path_outside_workspace"),
        ("etc/passwd", "path_outside_workspace"),
        ("d", "artifact_collect_failed"),
        ("large", "artifact_collect_failed"),
    ];
    let items =
        |paths: &[&str]| -> Value { paths.iter().map(|path| json!({ "path": path })).collect() };
    for (path, code) in bad {
        let run = runs(&acme, &sandbox, "true", json!({ "collect": items(&[path]) })).await;
        assert_eq!(run["collectStatus"], "failed", "{path}: {run}");
        let error = &run["collectErrors"][0];
        assert_eq!((&error["code"], &error["path"]), (&json!(code), &json!(path)));
        assert!(!text(&error["message"]).is_empty());
    }
    let run =
        runs(&acme, &sandbox, "true", json!({ "collect": items(&["missing.txt", "f"]) })).await;
    assert_eq!(run["collectStatus"], "partial");
    assert_eq!(run["collectErrors"].as_array().unwrap().len(), 1);
    assert_eq!(names(&acme, &sandbox).await, ["f"]);
    let run = runs(&acme, &sandbox, "true", json!({ "collect": [] })).await;
    assert_eq!(run["collectStatus"], "not_requested");
    for (collect, field) in [
        (json!([{ "path": "" }]), "collect[0].path"),
        (json!([{ "path": "f", "name": "../f" }]), "collect[0].name"),
        (json!([{ "path": "f" }, { "path": "f", "name": "a\nb" }]), "collect[1].name"),
        (items(&["f"; 101]), "collect"),
    ] {
        let path = format!("/v1/sandboxes/{sandbox}/commands");
        let refused = acme.post(&path, json!({ "command": "true", "collect": collect })).await;
        let error = refused.refused(400, "invalid_request");
        assert_eq!(error["details"]["field"], field, "{error}");
    }
    world.close().await;
}

/// Acceptance 42, once more.
async fn an_end_decides_whether_files_are_wanted(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    for (line, on, status) in [
        ("echo x > f; exit 3", None, "skipped"),
        ("echo x > f; exit 3", Some("success"), "skipped"),
        ("echo x > f; exit 3", Some("always"), "succeeded"),
        ("echo x > f", Some("always"), "succeeded"),
    ] {
        let mut body = json!({ "collect": [{ "path": "f", "name": format!("{status} {line}") }] });
        body["collect"][0]["name"] = json!(status);
        if let Some(on) = on {
            body["collectOn"] = json!(on);
        }
        let run = runs(&acme, &sandbox, line, body).await;
        assert_eq!(run["collectStatus"], status, "{line} {on:?}");
    }
    assert_eq!(names(&acme, &sandbox).await, ["succeeded", "succeeded"]);
    let timed = json!({
        "command": "echo x > g; sleep 60", "timeoutMs": 1000,
        "collect": [{ "path": "g" }], "collectOn": "always",
    });
    let run = acme.runs_with(&sandbox, timed);
    let time = async {
        let id = acme.sees_a_run(&sandbox).await;
        assert_eq!(acme.command(&id).await["collectStatus"], "pending");
        world.moves("10s");
    };
    let (run, ()) = tokio::join!(run, time);
    assert_eq!((&run["status"], &run["collectStatus"]), (&json!("timed_out"), &json!("succeeded")));
    world.close().await;
}

/// Acceptance 43.
async fn nobody_collects_from_what_nobody_waits_for(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let base = format!("/v1/sandboxes/{sandbox}/commands");
    let start = format!("{base}/start");
    for (path, body) in [
        (&base, json!({ "command": "true", "background": true, "collect": [{ "path": "f" }] })),
        (&base, json!({ "command": "true", "background": true, "collectOn": "always" })),
        (&start, json!({ "command": "true", "collect": [{ "path": "f" }] })),
        (&start, json!({ "command": "true", "collectOn": "success" })),
    ] {
        let error = acme.post(path, body).await.refused(400, "invalid_request");
        assert_eq!(error["details"]["field"], "collect");
    }
    let key = acme.key("command:run").await;
    let body = json!({ "command": "true", "collect": [{ "path": "f" }] });
    let error = key.post(&base, body).await.refused(403, "forbidden");
    assert_eq!(error["details"]["requiredScope"], "artifact:create");
    key.post(&base, json!({ "command": "true", "collect": [] })).await.is(200);
    let wrong = json!({ "command": "true", "collect": [{ "path": "f" }], "collectOn": "never" });
    acme.post(&base, wrong).await.refused(400, "invalid_request");
    world.close().await;
}

async fn a_dead_sandbox_leaves_nothing(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    for (on, status) in [("success", "skipped"), ("always", "failed")] {
        let sandbox = acme.starts(json!({})).await;
        let body = json!({
            "command": "echo x > f; sleep infinity",
            "collect": [{ "path": "f" }, { "path": "g" }], "collectOn": on,
        });
        let run = acme.runs_with(&sandbox, body);
        let kill = async {
            acme.sees_a_run(&sandbox).await;
            acme.kills(&sandbox).await;
        };
        let (run, ()) = tokio::join!(run, kill);
        assert_eq!((&run["status"], &run["collectStatus"]), (&json!("killed"), &json!(status)));
        let n_errors = run["collectErrors"].as_array().map_or(0, Vec::len);
        assert_eq!(n_errors, if status == "failed" { 2 } else { 0 });
        assert!(names(&acme, &sandbox).await.is_empty());
    }
    world.close().await;
}

async fn a_server_that_dies_leaves_it_to_the_next_one(database: Database) {
    let mut world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let path = format!("/v1/sandboxes/{sandbox}/commands");
    let body = json!({
        "command": "sleep 5; echo x > f",
        "collect": [{ "path": "f" }, { "path": "missing" }],
    });
    let key: Key = acme.idempotent("once");
    let (asked, wanted) = (key.clone(), body.clone());
    let first = tokio::spawn(async move {
        let request = asked.request(reqwest::Method::POST, &path).json(&wanted);
        drop(request.send().await);
    });
    let id = acme.sees_a_run(&sandbox).await;
    world.kills_server().await;
    first.await.unwrap();
    world.starts_server().await;
    world.moves("10s");
    let settled = async || {
        let seen = acme.command(&id).await;
        (seen["collectStatus"] != "pending").then_some(seen)
    };
    let run = world.until("the end of what is collected", settled).await;
    assert_eq!((&run["status"], &run["collectStatus"]), (&json!("exited"), &json!("partial")));
    assert_eq!(names(&acme, &sandbox).await, ["f"]);
    let path = format!("/v1/sandboxes/{sandbox}/commands");
    assert_eq!(key.post(&path, body).await.is(200)["command"], run, "the retry is answered");
    world.close().await;
}

async fn a_last_event_tells_what_became_of_files(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let body = json!({ "command": "sleep 5; echo x > f", "collect": [{ "path": "f" }] });
    let run = acme.runs_with(&sandbox, body);
    let watch = async {
        let id = acme.sees_a_run(&sandbox).await;
        let mut stream = acme.stream(&format!("/v1/commands/{id}/stream")).await;
        world.moves("5s");
        stream.rest().await.pop().unwrap()
    };
    let (run, last) = tokio::join!(run, watch);
    assert_eq!(last.kind(), "terminal");
    assert_eq!(last.data["command"]["collectStatus"], "succeeded");
    assert_eq!(run["collectStatus"], "succeeded");
    world.close().await;
}
