//! Artifacts: what is copied out of a sandbox is there after its end, for whoever may, until it is
//! deleted or kept for long enough.

mod bytes;
mod collect;
mod cuts;
mod links;
mod shares;

use drivers::Verb;
use tests::{Answer, Database, Team, Value, World, json, span, stories, team::text};

stories![
    a_copy_outlives_its_sandbox,
    a_file_becomes_two_artifacts_if_it_is_copied_twice,
    what_is_no_file_is_no_artifact,
    a_name_leads_nowhere,
    a_dead_sandbox_has_nothing_to_copy,
    a_plan_says_how_long_artifacts_are_kept,
    bytes_are_counted_and_told,
    a_list_has_pages,
    it_takes_two_scopes,
    a_retry_makes_one_artifact,
];

/// Copies a file, and returns the artifact.
pub(super) async fn copies(team: &Team, sandbox: &str, path: &str) -> Value {
    copy(team, sandbox, json!({ "path": path })).await.is(201)["artifact"].take()
}

pub(super) async fn copy(team: &Team, sandbox: &str, body: Value) -> Answer {
    team.post(&format!("/v1/sandboxes/{sandbox}/artifacts"), body).await
}

/// The path of an artifact.
pub(super) fn at(artifact: &Value) -> String {
    format!("/v1/artifacts/{}", text(&artifact["id"]))
}

/// The names of a sandbox's artifacts, newest first.
pub(super) async fn names(team: &Team, sandbox: &str) -> Vec<String> {
    let list = team.get(&format!("/v1/sandboxes/{sandbox}/artifacts")).await.is(200);
    list["data"].as_array().unwrap().iter().map(|artifact| text(&artifact["name"])).collect()
}

/// Acceptance 63.
async fn a_copy_outlives_its_sandbox(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    acme.runs(&sandbox, "mkdir out; echo first > out/report.xml").await;
    let made = copies(&acme, &sandbox, "out/report.xml").await;
    let id = text(&made["id"]);
    let wanted = json!({
        "id": id,
        "orgId": acme.org_id,
        "projectId": acme.project_id,
        "sandboxId": sandbox,
        "name": "report.xml",
        "contentType": "text/xml",
        "sizeBytes": 6,
        "sourcePath": "/workspace/out/report.xml",
        "objectKey": format!("{}/{id}", acme.org_id),
        "createdAt": world.stamp("0s"),
        "retentionExpiresAt": world.stamp("720h"), // 30 days
    });
    assert_eq!(made, wanted);
    acme.runs(&sandbox, "echo second > out/report.xml").await;
    acme.kills(&sandbox).await;
    assert_eq!(acme.get(&at(&made)).await.is(200)["artifact"], wanted);
    assert_eq!(names(&acme, &sandbox).await, ["report.xml"]);
    let download = acme.get(&format!("{}/download", at(&made))).await;
    assert_eq!((download.status, download.text()), (200, "first\n".to_owned()), "it is a snapshot");
    assert_eq!(download.header("content-type"), "text/xml");
    assert_eq!(download.header("content-length"), "6");
    assert_eq!(download.header("x-content-type-options"), "nosniff");
    assert!(
        download.header("content-disposition").starts_with("attachment; filename=\"report.xml\"")
    );

    world.moves("1s");
    let tombstone = acme.delete(&at(&made)).await.is(200)["artifact"].take();
    assert_eq!(tombstone["deletedAt"], world.stamp("0s"));
    assert_eq!(tombstone["id"], made["id"]);
    for path in ["", "/download"] {
        acme.get(&format!("{}{path}", at(&made))).await.refused(404, "not_found");
    }
    acme.post_nothing(&format!("{}/download-url", at(&made))).await.refused(404, "not_found");
    acme.delete(&at(&made)).await.refused(404, "not_found");
    assert!(names(&acme, &sandbox).await.is_empty());
    assert!(world.blobs().is_empty(), "its bytes are gone");
    world.close().await;
}

async fn a_file_becomes_two_artifacts_if_it_is_copied_twice(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    acme.runs(&sandbox, "echo x > f").await;
    let first = copies(&acme, &sandbox, "f").await;
    // Those of one millisecond have no order.
    world.moves("1ms");
    let named = json!({ "path": "/workspace/f", "name": "Zweites Blatt.txt" });
    let second = copy(&acme, &sandbox, named).await.is(201)["artifact"].take();
    assert_ne!(first["id"], second["id"]);
    assert_eq!(second["contentType"], "text/plain");
    assert_eq!(first.get("contentType"), None, "nothing is known by that name");
    assert_eq!(names(&acme, &sandbox).await, ["Zweites Blatt.txt", "f"]);
    acme.delete(&at(&first)).await.is(200);
    let download = acme.get(&format!("{}/download", at(&second))).await;
    assert_eq!(download.text(), "x\n");
    world.close().await;
}

async fn what_is_no_file_is_no_artifact(database: Database) {
    let settings = |config: &mut api::config::Config| config.max_artifact_bytes = 1000;
    let world = World::on(database).with(settings).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let setup = "mkdir d; ln -s /etc etc; echo x > f; yes 500 > most; yes 501 > large; : > empty";
    acme.runs(&sandbox, setup).await;
    for (path, status, code) in [
        ("missing", 404, "file_not_found"),
        ("d", 400, "path_is_directory"),
        ("/workspace", 400, "path_is_directory"),
        ("f/below", 400, "path_not_directory"),
        ("../../etc/passwd", 400, "path_outside_workspace"),
        ("/etc/passwd", 400, "path_outside_workspace"),
        ("etc/passwd", 400, "path_outside_workspace"),
        ("", 400, "invalid_request"),
        ("large", 413, "file_too_large"),
    ] {
        let answer = copy(&acme, &sandbox, json!({ "path": path })).await;
        assert_eq!(answer.status, status, "{path:?}: {answer}");
        assert_eq!(answer.refused(status, code)["details"]["field"], "path");
    }
    assert!(names(&acme, &sandbox).await.is_empty());
    assert_eq!(world.number("select count(*) from artifact_writes").await, 0);
    assert_eq!(copies(&acme, &sandbox, "most").await["sizeBytes"], 1000);
    let empty = copies(&acme, &sandbox, "empty").await;
    assert_eq!(acme.get(&format!("{}/download", at(&empty))).await.body.len(), 0);
    world.close().await;
}

async fn a_name_leads_nowhere(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    acme.runs(&sandbox, "echo x > f").await;
    let long = "n".repeat(256);
    let hostile = [
        "../../etc/passwd",
        "/etc/passwd",
        "..",
        ".",
        "a/b",
        "a\\b",
        "a\u{0}b",
        "a\r\nx-y: z",
        &long,
        "invoice\u{202e}fdp.exe",
        " ",
    ];
    for name in hostile {
        let answer = copy(&acme, &sandbox, json!({ "path": "f", "name": name })).await;
        let error = answer.refused(400, "invalid_request");
        assert_eq!(error["details"]["field"], "name", "{name:?}");
    }
    for name in ["naïve \u{263a}.txt", "-rf", "%2e%2e%2f", "a\"b", ".bashrc", "CON"] {
        let body = json!({ "path": "f", "name": name });
        let made = copy(&acme, &sandbox, body).await.is(201)["artifact"].take();
        assert_eq!(made["name"], name);
        let download = acme.get(&format!("{}/download", at(&made))).await;
        assert_eq!(download.text(), "x\n", "{name}");
        let shown = download.header("content-disposition");
        assert!(!shown.contains("a\"b"), "{shown}");
    }
    // Nothing of a name is in what bytes are found by.
    for file in world.blobs() {
        let shown = file.display().to_string();
        assert!(shown.ends_with("/bytes") && shown.contains("/art_"), "{shown}");
    }
    world.close().await;
}

async fn a_dead_sandbox_has_nothing_to_copy(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    acme.runs(&sandbox, "echo x > f").await;
    acme.kills(&sandbox).await;
    copy(&acme, &sandbox, json!({ "path": "f" })).await.refused(410, "sandbox_destroyed");
    let hang = world.driver.hang_next(Verb::Ensure);
    let early = acme.creates(json!({})).await;
    let copying = copy(&acme, &early, json!({ "path": "f" }));
    let release = async {
        acme.sees(&early, "starting").await;
        hang.release();
    };
    let (waited, ()) = tokio::join!(copying, release);
    waited.refused(404, "file_not_found");
    world.close().await;
}

async fn a_plan_says_how_long_artifacts_are_kept(database: Database) {
    let world = World::on(database).with(|config| config.log_retention_days = Some(1)).await;
    let free = world.team_on("free", domain::limits::Plan::Free).await;
    let sandbox = free.starts(json!({})).await;
    free.runs(&sandbox, "echo x > f").await;
    let made = copies(&free, &sandbox, "f").await;
    assert_eq!(made["retentionExpiresAt"], world.stamp("168h"), "7 days, whatever logs have");
    world.advance("167h").await;
    free.get(&at(&made)).await.is(200);
    world.advance("1h").await;
    free.get(&at(&made)).await.refused(404, "not_found");
    free.get(&format!("{}/download", at(&made))).await.refused(404, "not_found");
    assert!(names(&free, &sandbox).await.is_empty());
    world.keeps_house().await;
    assert!(world.blobs().is_empty(), "its bytes are gone");
    assert_eq!(world.number("select count(*) from artifacts where remove_at is null").await, 1);
    world.close().await;
}

async fn bytes_are_counted_and_told(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    acme.runs(&sandbox, "yes 600 > f").await; // 1200 bytes
    let made = copies(&acme, &sandbox, "f").await;
    let usage = acme.get("/v1/usage").await.is(200);
    let of_bytes = |event: &&Value| event["metric"] == "artifact_bytes_stored";
    let told = usage["events"].as_array().unwrap().iter().find(of_bytes).unwrap().clone();
    assert_eq!((&told["amount"], &told["resourceId"]), (&json!(1200), &made["id"]));
    acme.delete(&at(&made)).await.is(200);
    world.advance("2m").await;
    // Billed as any other count, and told as usage.
    let settled = "select quantity from usage_windows where metric = 'artifact_bytes_stored'";
    assert_eq!(world.number(settled).await, 1_200_000);
    let published = "select count(*) from outbox_events
        where type = 'crownest.usage.recorded.v1' and data like '%artifact_bytes_stored%'";
    assert_eq!(world.number(published).await, 1);
    let trail = "select count(*) from audit_entries where object like 'art_%'
        and action in ('artifact.create', 'artifact.delete') and actor like 'key_%'";
    assert_eq!(world.number(trail).await, 2);
    world.close().await;
}

/// Acceptance 23, for artifacts.
async fn a_list_has_pages(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    acme.runs(&sandbox, "echo x > f").await;
    for name in ["1", "2", "3"] {
        world.moves("1s");
        copy(&acme, &sandbox, json!({ "path": "f", "name": name })).await.is(201);
    }
    let path = format!("/v1/sandboxes/{sandbox}/artifacts?limit=2");
    let first = acme.get(&path).await.is(200);
    assert_eq!((&first["data"][0]["name"], &first["data"][1]["name"]), (&json!("3"), &json!("2")));
    assert_eq!(first["hasMore"], true);
    let rest = format!("{path}&cursor={}", text(&first["nextCursor"]));
    let rest = acme.get(&rest).await.is(200);
    assert_eq!((&rest["data"][0]["name"], &rest["hasMore"]), (&json!("1"), &json!(false)));
    assert_eq!(rest.get("nextCursor"), None);
    for query in ["limit=0", "limit=501", "cursor=garbage"] {
        let path = format!("/v1/sandboxes/{sandbox}/artifacts?{query}");
        acme.get(&path).await.refused(400, "invalid_request");
    }
    let other = acme.starts(json!({})).await;
    assert!(names(&acme, &other).await.is_empty());
    world.close().await;
}

async fn it_takes_two_scopes(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    acme.runs(&sandbox, "echo x > f").await;
    let path = format!("/v1/sandboxes/{sandbox}/artifacts");
    for (scopes, missing) in [("artifact:create", "file:read"), ("file:read", "artifact:create")] {
        let key = acme.key(scopes).await;
        let error = key.post(&path, json!({ "path": "f" })).await.refused(403, "forbidden");
        assert_eq!(error["details"]["requiredScope"], missing);
    }
    acme.key("artifact:create,file:read").await.post(&path, json!({ "path": "f" })).await.is(201);
    world.close().await;
}

/// Acceptance 31 and 32, for artifacts.
async fn a_retry_makes_one_artifact(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    acme.runs(&sandbox, "echo x > f").await;
    let (key, path) = (acme.idempotent("once"), format!("/v1/sandboxes/{sandbox}/artifacts"));
    // A refusal is not kept: the same request may succeed later.
    key.post(&path, json!({ "path": "g" })).await.refused(404, "file_not_found");
    acme.runs(&sandbox, "echo y > g").await;
    let first = key.post(&path, json!({ "path": "g" })).await.is(201);
    acme.runs(&sandbox, "rm g").await;
    assert_eq!(key.post(&path, json!({ "path": "g" })).await.is(201), first);
    acme.kills(&sandbox).await;
    assert_eq!(key.post(&path, json!({ "path": "g" })).await.is(201), first);
    key.post(&path, json!({ "path": "f" })).await.refused(409, "idempotency_key_reused");
    assert_eq!(names(&acme, &sandbox).await, ["g"]);
    world.moves_to(&tests::time::printed(world.now() + span("25h")));
    key.post(&path, json!({ "path": "g" })).await.refused(410, "sandbox_destroyed");
    world.close().await;
}
