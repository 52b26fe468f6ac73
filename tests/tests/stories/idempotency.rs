//! Idempotency keys, row by row of the contract's table: the operation runs once, and a retry gets
//! the same answer byte for byte.

use futures_util::future::join_all;
use reqwest::Method;
use tests::{Answer, Database, World, json, stories};

stories![
    a_retried_create_is_answered_the_same,
    a_create_is_replayed_after_its_sandbox_has_ended,
    a_key_is_for_one_request,
    the_form_of_a_body_does_not_matter,
    a_key_counts_for_its_route_and_credential_alone,
    a_key_is_1_to_255_characters,
    a_key_is_new_again_after_a_day,
    a_run_in_flight_is_in_progress,
    many_at_once_do_it_once,
    many_at_two_servers_do_it_once,
    every_mutation_that_takes_a_key_replays,
    what_was_refused_can_be_tried_again,
    a_background_start_is_replayed_as_it_was,
    a_client_that_goes_away_finds_its_run_again,
];

/// Acceptance 31.
async fn a_retried_create_is_answered_the_same(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let once = acme.idempotent("k");
    let body = json!({ "template": "node", "metadata": { "a": "1" } });
    let first = once.post("/v1/sandboxes", body.clone()).await;
    world.advance("10m").await;
    let second = once.post("/v1/sandboxes", body).await;
    assert_eq!(first.status, 201);
    assert_eq!(second.status, 201);
    assert_eq!(second.body, first.body, "byte for byte, ten minutes later");
    assert_eq!(second.header("content-type"), first.header("content-type"));
    assert_ne!(second.header("x-request-id"), first.header("x-request-id"));
    assert_eq!(acme.lists().await.len(), 1);
    world.close().await;
}

async fn a_create_is_replayed_after_its_sandbox_has_ended(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let once = acme.idempotent("k");
    let first = once.post("/v1/sandboxes", json!({})).await;
    let id = first.json()["sandbox"]["id"].as_str().unwrap().to_owned();
    acme.kills(&id).await;
    let second = once.post("/v1/sandboxes", json!({})).await;
    assert_eq!(second.body, first.body);
    assert_eq!(acme.lists().await.len(), 0, "nothing was made anew");
    world.close().await;
}

/// Acceptance 32.
async fn a_key_is_for_one_request(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let once = acme.idempotent("k");
    once.post("/v1/sandboxes", json!({ "ttlMs": 60_000 })).await.is(201);
    for other in [json!({ "ttlMs": 60_001 }), json!({}), json!({ "ttlMs": 60_000, "x": 1 })] {
        once.post("/v1/sandboxes", other).await.refused(409, "idempotency_key_reused");
    }
    once.post("/v1/sandboxes", json!({ "ttlMs": 60_000 })).await.is(201);
    assert_eq!(acme.lists().await.len(), 1);
    world.close().await;
}

async fn the_form_of_a_body_does_not_matter(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let once = acme.idempotent("k");
    let forms = [
        r#"{"template":"node","metadata":{"a":"1","b":"2"}}"#,
        "{ \"metadata\": {\"b\":\"2\",\n \"a\":\"\\u0031\"}, \"template\":\"node\" }",
    ];
    let first = once.post_text("/v1/sandboxes", forms[0]).await;
    let second = once.post_text("/v1/sandboxes", forms[1]).await;
    assert_eq!(first.status, 201);
    assert_eq!(second.body, first.body);
    world.close().await;
}

/// Acceptance 34.
async fn a_key_counts_for_its_route_and_credential_alone(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let second = acme.key("all").await;
    let id = |answer: Answer| answer.is(201)["sandbox"]["id"].as_str().unwrap().to_owned();
    let one = id(acme.idempotent("k").post("/v1/sandboxes", json!({})).await);
    let two = id(second.idempotent("k").post("/v1/sandboxes", json!({})).await);
    assert_ne!(one, two, "another API key is another operation");
    let rival = world.team("rival").await;
    rival.idempotent("k").post("/v1/sandboxes", json!({})).await.is(201);

    acme.idempotent("k").post("/v1/projects", json!({ "name": "p" })).await.is(201);
    for sandbox in [&one, &two] {
        let path = format!("/v1/sandboxes/{sandbox}/ttl");
        let set = acme.idempotent("k").post(&path, json!({ "ttlMs": 60_000 })).await.is(200);
        assert_eq!(set["sandbox"]["id"], sandbox.as_str(), "the ids of the path are part of it");
    }
    world.close().await;
}

async fn a_key_is_1_to_255_characters(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    for key in ["k", &"k".repeat(255), "a b/c:\"d\"", "{}"] {
        acme.idempotent(key).post("/v1/projects", json!({ "name": "p" })).await.is(201);
    }
    for key in ["", &"k".repeat(256)] {
        let answer = acme.idempotent(key).post("/v1/projects", json!({ "name": "p" })).await;
        answer.refused(400, "invalid_request");
    }
    let projects = acme.get("/v1/projects").await.is(200);
    assert_eq!(projects["data"].as_array().unwrap().len(), 4 + 1);
    world.close().await;
}

async fn a_key_is_new_again_after_a_day(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let once = acme.idempotent("k");
    let first = once.post("/v1/sandboxes", json!({})).await;
    world.advance("23h59m59s").await;
    assert_eq!(once.post("/v1/sandboxes", json!({})).await.body, first.body);
    world.advance("1s").await;
    let again = once.post("/v1/sandboxes", json!({})).await;
    assert_eq!(again.status, 201);
    assert_ne!(again.body, first.body);
    // Also for another request, and also once the old record was cleaned up.
    world.advance("24h").await;
    world.keeps_house().await;
    once.post("/v1/sandboxes", json!({ "ttlMs": 5_000 })).await.is(201);
    world.close().await;
}

/// Acceptance 33.
async fn a_run_in_flight_is_in_progress(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let once = acme.idempotent("k");
    let path = format!("/v1/sandboxes/{sandbox}/commands/run");
    let body = json!({ "command": "echo x >> /workspace/n; sleep 3; echo done" });
    let first = once.post(&path, body.clone());
    let meanwhile = async {
        acme.sees_a_run(&sandbox).await;
        let retried = once.post(&path, body.clone()).await;
        assert_eq!(retried.header("retry-after"), "1", "{retried}");
        retried.refused(409, "idempotency_request_in_progress");
        let other = once.post(&path, json!({ "command": "true" })).await;
        other.refused(409, "idempotency_key_reused");
        world.moves("3s");
    };
    let (first, ()) = tokio::join!(first, meanwhile);
    let second = once.post(&path, body.clone()).await;
    assert_eq!(first.status, 200);
    assert_eq!(second.body, first.body);
    assert_eq!(first.json()["command"]["stdout"], "done\n");
    assert_eq!(acme.runs(&sandbox, "cat n").await["stdout"], "x\n", "it ran once");
    world.close().await;
}

async fn many_at_once_do_it_once(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let once = acme.idempotent("k");
    let asked = (0..16).map(|_| once.post("/v1/sandboxes", json!({})));
    let answers = join_all(asked).await;
    let made: Vec<_> = answers.into_iter().filter(|answer| answer.status == 201).collect();
    let first = once.post("/v1/sandboxes", json!({})).await;
    assert!(!made.is_empty());
    assert!(made.iter().all(|answer| answer.body == first.body));
    assert_eq!(acme.lists().await.len(), 1);
    world.close().await;
}

/// On SQLite there is one server to a database.
async fn many_at_two_servers_do_it_once(database: Database) {
    let mut world = World::on(database).await;
    if database == Database::Postgres {
        let there = world.replica().await;
        let acme = world.team("acme").await;
        let sandbox = acme.starts(json!({})).await;
        let path = format!("/v1/sandboxes/{sandbox}/commands");
        for n in 0..4 {
            let here = acme.idempotent(&format!("k{n}"));
            let keys = [there(&here), here];
            let body = json!({ "command": format!("echo x >> f{n}; cat f{n}") });
            let runs = (0..8).map(|n| keys[n % 2].post(&path, body.clone()));
            let creates = (0..8).map(|n| keys[n % 2].post("/v1/sandboxes", json!({})));
            let (runs, creates) = tokio::join!(join_all(runs), join_all(creates));
            for answers in [runs, creates] {
                let done: Vec<_> = answers.iter().filter(|answer| answer.status < 300).collect();
                assert!(!done.is_empty(), "one of them was first");
                assert!(done.iter().all(|answer| answer.body == done[0].body));
                let busy = |answer: &&Answer| answer.status == 409;
                assert_eq!(answers.iter().filter(busy).count() + done.len(), 8);
            }
            assert_eq!(acme.runs(&sandbox, &format!("cat f{n}")).await["stdout"], "x\n");
        }
        assert_eq!(world.number("select count(*) from sandboxes").await, 1 + 4);
    }
    world.close().await;
}

async fn every_mutation_that_takes_a_key_replays(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let of = |end: &str| format!("/v1/sandboxes/{sandbox}{end}");
    let echo = json!({ "command": "echo x >> n" });
    let background = json!({ "command": "echo x >> n", "background": true });
    for (method, path, body, status) in [
        (Method::POST, "/v1/projects".to_owned(), json!({ "name": "p" }), 201),
        (Method::POST, of("/ttl"), json!({ "ttlMs": 900_000 }), 200),
        (Method::POST, of("/extend"), json!({ "ttlMs": 900_000 }), 200),
        (Method::POST, of("/commands"), echo.clone(), 200),
        (Method::POST, of("/commands"), background, 409),
        (Method::POST, of("/commands/run"), echo.clone(), 200),
        (Method::POST, of("/commands/start"), echo, 202),
        (Method::DELETE, of(""), json!({}), 200),
    ] {
        let send = async || {
            let request = acme.idempotent("k").request(method.clone(), &path);
            let request = if body == json!({}) { request } else { request.json(&body) };
            acme.send(request).await
        };
        let first = send().await;
        assert_eq!(first.status, status, "{first}");
        world.advance("1s").await;
        let second = send().await;
        if status < 300 {
            assert_eq!(second.body, first.body, "{path}");
        }
        assert_eq!(second.status, status);
    }
    let projects = acme.get("/v1/projects").await.is(200);
    assert_eq!(projects["data"].as_array().unwrap().len(), 2);
    world.close().await;
}

async fn what_was_refused_can_be_tried_again(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let once = acme.idempotent("k");
    let bad = json!({ "ttlMs": 999_999_999 });
    once.post("/v1/sandboxes", bad).await.refused(400, "sandbox_ttl_exceeded");
    once.post("/v1/sandboxes", json!({ "template": "ruby" })).await.refused(404, "not_found");
    let sandbox = once.post("/v1/sandboxes", json!({})).await.is(201)["sandbox"]["id"].take();
    let path = format!("/v1/sandboxes/{}/commands", sandbox.as_str().unwrap());
    let missing = json!({ "command": "true", "cwd": "missing" });
    acme.sees(sandbox.as_str().unwrap(), "ready").await;
    once.post(&path, missing.clone()).await.refused(404, "file_not_found");
    acme.runs(sandbox.as_str().unwrap(), "mkdir missing").await;
    once.post(&path, missing).await.is(200);
    world.close().await;
}

async fn a_background_start_is_replayed_as_it_was(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let once = acme.idempotent("k");
    let path = format!("/v1/sandboxes/{sandbox}/commands/start");
    let body = json!({ "command": "echo x >> n" });
    let first = once.post(&path, body.clone()).await;
    let command = first.json()["command"]["id"].as_str().unwrap().to_owned();
    acme.sees_command(&command, "exited").await;
    let second = once.post(&path, body).await;
    assert_eq!((first.status, second.status), (202, 202));
    assert_eq!(second.body, first.body, "with its status of then");
    assert_eq!(acme.runs(&sandbox, "cat n").await["stdout"], "x\n");
    world.close().await;
}

async fn a_client_that_goes_away_finds_its_run_again(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let once = acme.idempotent("k");
    let path = format!("/v1/sandboxes/{sandbox}/commands/run");
    let body = json!({ "command": "echo x >> n; sleep 5; cat n" });
    {
        let gone = once.post(&path, body.clone());
        let seen = acme.sees_a_run(&sandbox);
        futures_util::pin_mut!(gone, seen);
        // The request is dropped, and with it its connection, once the command runs.
        futures_util::future::select(gone, seen).await;
    }
    world.moves("5s");
    let found = world
        .until("the answer of the run", async || {
            let answer = once.post(&path, body.clone()).await;
            (answer.status == 200).then_some(answer)
        })
        .await;
    assert_eq!(found.json()["command"]["stdout"], "x\n", "it ran once");
    world.close().await;
}
