//! Files: everything stays inside the workspace, and every refusal says what it was.

use reqwest::Method;
use tests::{Answer, Database, Key, Team, Value, World, json, stories, team::text};

stories![
    text_and_bytes_come_back_as_they_were_written,
    writing_refuses_what_is_in_the_way,
    paths_stay_inside_the_workspace,
    directories_are_listed_made_moved_and_deleted,
    every_refusal_of_a_path,
    content_has_an_encoding,
    direct_reads_and_writes_have_a_limit,
    a_download_has_any_size,
    a_link_opens_one_file_for_a_while,
    files_wait_for_a_sandbox_that_starts,
];

/// The files of one sandbox.
struct Files {
    key: Key,
    base: String,
}

impl Files {
    async fn of(team: &Team) -> Self {
        let sandbox = team.starts(json!({})).await;
        Self { key: (**team).clone(), base: format!("/v1/sandboxes/{sandbox}/files") }
    }

    async fn write(&self, body: Value) -> Answer {
        self.key.put(&self.base, body).await
    }

    async fn writes(&self, path: &str, content: &str) -> Value {
        self.write(json!({ "path": path, "content": content })).await.is(200)["file"].take()
    }

    /// A GET below the files' path, with one query parameter `path`.
    async fn get(&self, what: &str, path: &str) -> Answer {
        let request = self.key.request(Method::GET, &format!("{}{what}", self.base));
        self.key.send(request.query(&[("path", path)])).await
    }

    async fn reads(&self, path: &str) -> String {
        text(&self.get("/read", path).await.is(200)["content"])
    }

    async fn delete(&self, path: &str) -> Answer {
        let request = self.key.request(Method::DELETE, &self.base);
        self.key.send(request.query(&[("path", path)])).await
    }

    async fn post(&self, what: &str, body: Value) -> Answer {
        self.key.post(&format!("{}{what}", self.base), body).await
    }

    async fn names(&self, path: &str) -> Vec<String> {
        let list = self.get("", path).await.is(200);
        list["data"].as_array().unwrap().iter().map(|entry| text(&entry["name"])).collect()
    }
}

/// Acceptance 58.
async fn text_and_bytes_come_back_as_they_were_written(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let files = Files::of(&acme).await;
    let file = files.writes("notes ü.txt", "a\r\nb\u{2028}\u{0}c").await;
    let wanted = json!({
        "path": "/workspace/notes ü.txt",
        "type": "file",
        "sizeBytes": "a\r\nb\u{2028}\u{0}c".len(),
        "modifiedAt": world.stamp("0s"),
    });
    assert_eq!(file, wanted);
    assert_eq!(files.reads("/workspace/notes ü.txt").await, "a\r\nb\u{2028}\u{0}c");
    assert_eq!(files.get("/stat", "notes ü.txt").await.is(200)["file"], wanted);

    let bytes = json!({ "path": "b.bin", "content": "AP8K", "encoding": "base64" });
    assert_eq!(files.write(bytes).await.is(200)["file"]["sizeBytes"], 3);
    let read = format!("{}/read?path=b.bin&encoding=base64", files.base);
    let read = acme.get(&read).await.is(200);
    let wanted = json!({
        "content": "AP8K",
        "encoding": "base64",
        "path": "/workspace/b.bin",
        "sizeBytes": 3,
    });
    assert_eq!(read, wanted);
    files.writes("empty", "").await;
    assert_eq!(files.reads("empty").await, "");
    files.writes("notes ü.txt", "replaced").await;
    assert_eq!(files.reads("notes ü.txt").await, "replaced");
    world.close().await;
}

/// Acceptance 59.
async fn writing_refuses_what_is_in_the_way(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let files = Files::of(&acme).await;
    let nested = json!({ "path": "a/b/c.txt", "content": "c" });
    files.write(nested.clone()).await.refused(404, "parent_directory_not_found");
    let mut parents = nested;
    parents["createParents"] = json!(true);
    files.write(parents).await.is(200);
    let keep = json!({ "path": "a/b/c.txt", "content": "new", "overwrite": false });
    files.write(keep).await.refused(409, "file_already_exists");
    assert_eq!(files.reads("a/b/c.txt").await, "c");
    let directory = json!({ "path": "a/b", "content": "x" });
    files.write(directory).await.refused(400, "path_is_directory");
    let below = json!({ "path": "a/b/c.txt/d", "content": "x" });
    files.write(below.clone()).await.refused(400, "path_not_directory");
    let fresh = json!({ "path": "fresh", "content": "x", "overwrite": false });
    files.write(fresh).await.is(200);
    world.close().await;
}

/// Acceptance 60.
async fn paths_stay_inside_the_workspace(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let files = Files::of(&acme).await;
    let sandbox = files.base.split('/').nth(3).unwrap().to_owned();
    let links = "ln -s /etc etc; ln -s ../../etc/passwd passwd; ln -s loop loop; mkdir real; \
                 ln -s /workspace/real in; echo x > real/x";
    acme.runs(&sandbox, links).await;
    for path in [
        "../../etc/passwd",
        "/etc/passwd",
        "/workspace/../etc/passwd",
        "/workspace2",
        "etc/passwd",
        "passwd",
        "etc/new",
        "in/../../etc/passwd",
    ] {
        let outside = |answer: Answer| {
            assert_eq!(answer.status, 400, "{path}: {answer}");
            answer.refused(400, "path_outside_workspace");
        };
        outside(files.get("/read", path).await);
        outside(files.get("/stat", path).await);
        outside(files.get("/download", path).await);
        outside(files.write(json!({ "path": path, "content": "x" })).await);
        outside(
            files.post("/mkdir", json!({ "path": format!("{path}/d"), "parents": true })).await,
        );
        outside(files.post("/download-url", json!({ "path": path })).await);
    }
    files
        .post("/move", json!({ "from": "in/x", "to": "../x" }))
        .await
        .refused(400, "path_outside_workspace");
    files.get("", "etc").await.refused(400, "path_outside_workspace");
    files.delete("etc/passwd").await.refused(400, "path_outside_workspace");
    let endless = files.get("/read", "loop").await;
    assert!(matches!(endless.status, 400 | 404), "{endless}");
    let passwd = acme.runs(&sandbox, "cat /etc/passwd; test -e /etc/new").await;
    assert_eq!(
        (&passwd["stdout"], &passwd["exitCode"]),
        (&json!("user:x:1000:1000::/home/user:/bin/sh\n"), &json!(1))
    );
    // A link that stays inside may be followed; one that leads out may be deleted.
    assert_eq!(files.reads("in/x").await, "x\n");
    files.delete("etc").await.is(200);
    world.close().await;
}

/// Acceptance 61.
async fn directories_are_listed_made_moved_and_deleted(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let files = Files::of(&acme).await;
    assert_eq!(acme.get(&files.base).await.is(200), json!({ "data": [] }), "no hasMore");
    let made = files.post("/mkdir", json!({ "path": "d" })).await.is(200);
    let wanted = json!({
        "path": "/workspace/d",
        "type": "directory",
        "sizeBytes": 0,
        "modifiedAt": world.stamp("0s"),
    });
    assert_eq!(made["file"], wanted);
    files.writes("d/2.txt", "two").await;
    files.writes("d/10.txt", "ten").await;
    files.post("/mkdir", json!({ "path": "d/a/b", "parents": true })).await.is(200);
    files.post("/mkdir", json!({ "path": "d/a/b", "parents": true })).await.is(200);
    assert_eq!(files.names("d").await, ["10.txt", "2.txt", "a"], "sorted, not recursive");
    let list = files.get("", "/workspace/d").await.is(200);
    assert_eq!(list["data"][1]["path"], "/workspace/d/2.txt");
    assert_eq!(
        (&list["data"][1]["type"], &list["data"][1]["sizeBytes"]),
        (&json!("file"), &json!(3))
    );

    let moved = files.post("/move", json!({ "from": "d/2.txt", "to": "3.txt" })).await.is(200);
    assert_eq!(moved["file"]["path"], "/workspace/3.txt");
    assert_eq!(files.reads("3.txt").await, "two");
    let onto = json!({ "from": "3.txt", "to": "d/10.txt" });
    files.post("/move", onto.clone()).await.refused(409, "file_already_exists");
    let mut replace = onto;
    replace["overwrite"] = json!(true);
    files.post("/move", replace).await.is(200);
    assert_eq!(files.reads("d/10.txt").await, "two");
    files.post("/move", json!({ "from": "d", "to": "e" })).await.is(200);
    assert_eq!(files.names("/workspace").await, ["e"]);

    files.delete("e").await.refused(409, "directory_not_empty");
    for path in ["e/10.txt", "e/a/b", "e/a", "e"] {
        assert_eq!(files.delete(path).await.is(200), json!({ "deleted": true }), "{path}");
    }
    files.delete("e").await.refused(404, "file_not_found");
    assert_eq!(files.names("/workspace").await.len(), 0);
    world.close().await;
}

/// Acceptance 61, the other half.
async fn every_refusal_of_a_path(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let files = Files::of(&acme).await;
    files.writes("f", "x").await;
    files.post("/mkdir", json!({ "path": "d" })).await.is(200);
    for (what, path, status, code) in [
        ("", "missing", 404, "file_not_found"),
        ("", "f", 400, "path_not_directory"),
        ("/stat", "missing", 404, "file_not_found"),
        ("/stat", "f/x", 400, "path_not_directory"),
        ("/read", "missing", 404, "file_not_found"),
        ("/read", "missing/x", 404, "file_not_found"),
        ("/read", "d", 400, "path_is_directory"),
        ("/download", "missing", 404, "file_not_found"),
        ("/download", "d", 400, "path_is_directory"),
        ("/read", "", 400, "invalid_request"),
        ("/read", "a\u{0}b", 400, "invalid_request"),
    ] {
        let answer = files.get(what, path).await;
        assert_eq!(answer.status, status, "{what} {path}: {answer}");
        let error = answer.refused(status, code);
        assert_eq!(error["details"]["field"], "path", "{what} {path}: {error}");
    }
    for what in ["/stat", "/read", "/download"] {
        let without = acme.get(&format!("{}{what}", files.base)).await;
        assert_eq!(without.refused(400, "invalid_request")["details"]["field"], "path");
    }
    for (what, body, status, code) in [
        ("/mkdir", json!({ "path": "d" }), 409, "file_already_exists"),
        ("/mkdir", json!({ "path": "f" }), 409, "file_already_exists"),
        ("/mkdir", json!({ "path": "f", "parents": true }), 409, "file_already_exists"),
        ("/mkdir", json!({ "path": "x/y" }), 404, "parent_directory_not_found"),
        ("/move", json!({ "from": "missing", "to": "y" }), 404, "file_not_found"),
        ("/move", json!({ "from": "f", "to": "x/y" }), 404, "parent_directory_not_found"),
        ("/move", json!({ "from": "f", "to": "d" }), 409, "file_already_exists"),
        ("/download-url", json!({ "path": "missing" }), 404, "file_not_found"),
        ("/download-url", json!({ "path": "d" }), 400, "path_is_directory"),
    ] {
        let answer = files.post(what, body.clone()).await;
        assert_eq!(answer.status, status, "{what} {body}: {answer}");
        answer.refused(status, code);
    }
    files.delete("missing").await.refused(404, "file_not_found");
    for workspace in ["/workspace", ".", "d/.."] {
        files.delete(workspace).await.refused(400, "invalid_request");
    }
    assert_eq!(files.names("/workspace").await, ["d", "f"]);
    world.close().await;
}

async fn content_has_an_encoding(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let files = Files::of(&acme).await;
    for (content, encoding) in [
        ("not base64!", "base64"),
        ("AP8", "base64"),
        ("AP8K=", "base64"),
        ("AP_-", "base64"),
        ("x", "latin1"),
    ] {
        let body = json!({ "path": "f", "content": content, "encoding": encoding });
        files.write(body).await.refused(400, "invalid_file_encoding");
    }
    let bytes = json!({ "path": "b", "content": "/w==", "encoding": "base64" });
    files.write(bytes).await.is(200);
    files.get("/read", "b").await.refused(400, "invalid_file_encoding");
    let other = format!("{}/read?path=b&encoding=utf16", files.base);
    acme.get(&other).await.refused(400, "invalid_file_encoding");
    assert_eq!(files.names("/workspace").await, ["b"]);
    world.close().await;
}

/// Acceptance 62.
async fn direct_reads_and_writes_have_a_limit(database: Database) {
    const LIMIT: usize = 262_144;
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let files = Files::of(&acme).await;
    files.writes("most", &"x".repeat(LIMIT)).await;
    assert_eq!(files.reads("most").await.len(), LIMIT);
    // Six bytes each in JSON: the limit is of the content, not of the body.
    let escaped = format!(r#"{{"path":"esc","content":"{}"}}"#, r"\u0001".repeat(LIMIT));
    let request = acme.request(Method::PUT, &files.base).header("content-type", "application/json");
    acme.send(request.body(escaped)).await.is(200);
    let beyond = json!({ "path": "beyond", "content": "x".repeat(LIMIT + 1) });
    files.write(beyond).await.refused(413, "file_too_large");
    files.get("/stat", "beyond").await.refused(404, "file_not_found");
    let sandbox = files.base.split('/').nth(3).unwrap().to_owned();
    acme.runs(&sandbox, &format!("yes {LIMIT} > large")).await;
    files.get("/read", "large").await.refused(413, "file_too_large");
    world.close().await;
}

/// Acceptance 62, the other half.
async fn a_download_has_any_size(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let files = Files::of(&acme).await;
    let sandbox = files.base.split('/').nth(3).unwrap().to_owned();
    acme.runs(&sandbox, "yes 4194304 > 'large file.bin'").await; // 8 MiB
    let download = files.get("/download", "large file.bin").await;
    assert_eq!(download.status, 200);
    assert_eq!(download.header("content-type"), "application/octet-stream");
    assert_eq!(download.body.len(), 8 << 20);
    assert!(download.body.chunks(2).all(|line| line == b"y\n"));
    world.close().await;
}

async fn a_link_opens_one_file_for_a_while(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let files = Files::of(&acme).await;
    files.writes("a b&c=ü.txt", "content").await;
    files.writes("other", "other").await;
    let link = files.post("/download-url", json!({ "path": "a b&c=ü.txt" })).await.is(200);
    assert_eq!((&link["method"], &link["authMode"]), (&json!("GET"), &json!("api_key")));
    assert_eq!(link["expiresAt"], world.stamp("15m"));
    let url = link["url"].as_str().unwrap();
    let nobody = world.nobody();
    assert_eq!(nobody.get(url).await.text(), "content");
    assert_eq!(acme.get(url).await.text(), "content");
    let without_token = url.split_once("&token=").unwrap().0;
    assert_eq!(acme.get(without_token).await.text(), "content");
    nobody.get(without_token).await.refused(401, "unauthorized");
    let token = url.split_once("&token=").unwrap().1;
    let other = format!("{}/download?path=other&token={token}", files.base);
    nobody.get(&other).await.refused(401, "unauthorized");
    let list = format!("{}?token={token}", files.base);
    nobody.get(&list).await.refused(401, "unauthorized");
    let rival = world.team("rival").await;
    rival.get(without_token).await.refused(404, "not_found");

    world.advance("15m").await;
    nobody.get(url).await.refused(401, "unauthorized");
    assert_eq!(acme.get(url).await.text(), "content", "a key opens it all the same");
    world.close().await;
}

async fn files_wait_for_a_sandbox_that_starts(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let hang = world.driver.hang_next(drivers::Verb::Ensure);
    let sandbox = acme.creates(json!({})).await;
    let path = format!("/v1/sandboxes/{sandbox}/files");
    let body = json!({ "path": "early", "content": "x" });
    let writing = acme.put(&path, body);
    let release = async {
        acme.sees(&sandbox, "starting").await;
        hang.release();
    };
    let (written, ()) = tokio::join!(writing, release);
    assert_eq!(written.is(200)["file"]["path"], "/workspace/early");
    world.close().await;
}
