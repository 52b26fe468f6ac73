//! Servers that die and servers that are stopped: the next one carries on, nothing is lost, nothing
//! is done twice, and nobody pays for the time between.

mod cuts;

use drivers::Verb;
use tests::{Database, World, events::Event, json, stories};

stories![
    a_stopped_server_leaves_its_sandboxes_to_the_next,
    a_boot_is_finished_by_the_next_server,
    a_boot_whose_answer_was_lost_is_finished_by_the_next_server,
    a_kill_is_finished_by_the_next_server,
    a_lifetime_ends_while_no_server_runs,
    a_sandbox_that_died_while_no_server_ran_has_failed,
    a_run_is_resumed_and_its_retry_replays,
    a_run_that_ended_while_no_server_ran_is_replayed,
    a_log_goes_on_without_gap_or_repetition,
    a_long_output_is_resumed_where_it_was_stored,
    a_command_that_was_never_started_is_not_started_later,
    a_stream_is_resumed_at_the_next_server,
    a_link_made_by_one_server_is_opened_by_the_next,
    a_second_server_takes_up_what_the_first_one_followed,
];

async fn a_stopped_server_leaves_its_sandboxes_to_the_next(database: Database) {
    let mut world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    acme.runs(&sandbox, "echo kept > f").await;
    world.stops_server().await;
    assert_eq!(world.driver.running(), [sandbox.parse().unwrap()]);
    world.moves("10s");
    world.starts_server().await;
    world.settle().await;
    assert_eq!(acme.runs(&sandbox, "cat f").await["stdout"], "kept\n");
    assert_eq!(acme.used().await, 10, "it ran on, and is billed for it");
    world.close().await;
}

/// The host had not begun to make it.
async fn a_boot_is_finished_by_the_next_server(database: Database) {
    let mut world = World::on(database).await;
    let acme = world.team("acme").await;
    let hang = world.driver.hang_next(Verb::Ensure);
    let sandbox = acme.creates(json!({})).await;
    acme.sees(&sandbox, "starting").await;
    world.kills_server().await;
    hang.release();
    world.moves("5s");
    world.starts_server().await;
    acme.sees(&sandbox, "ready").await;
    assert_eq!(world.driver.running().len(), 1);
    world.advance("7s").await;
    assert_eq!(acme.used().await, 7);
    world.close().await;
}

/// The host had made it; the server died before it could write that down.
async fn a_boot_whose_answer_was_lost_is_finished_by_the_next_server(database: Database) {
    let mut world = World::on(database).await;
    let acme = world.team("acme").await;
    let hang = world.driver.hang_next_after(Verb::Ensure);
    let sandbox = acme.creates(json!({})).await;
    world.until("the boot", async || (world.driver.running().len() == 1).then_some(())).await;
    world.kills_server().await;
    drop(hang);
    world.starts_server().await;
    acme.sees(&sandbox, "ready").await;
    assert_eq!(world.driver.running(), [sandbox.parse().unwrap()], "there are not two of it");
    world.close().await;
}

async fn a_kill_is_finished_by_the_next_server(database: Database) {
    let mut world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let command = acme.launches_and_sees(&sandbox, "sleep infinity").await;
    world.advance("30s").await;
    let hang = world.driver.hang_next(Verb::Remove);
    {
        let path = format!("/v1/sandboxes/{sandbox}");
        let killing = acme.request(reqwest::Method::DELETE, &path).send();
        let seen = acme.sees(&sandbox, "expiring");
        futures_util::pin_mut!(killing, seen);
        futures_util::future::select(killing, seen).await;
    }
    world.kills_server().await;
    hang.release();
    world.moves("1m");
    world.starts_server().await;
    let ended = acme.sees(&sandbox, "destroyed").await;
    assert_eq!(ended["destroyedReason"], "user_killed");
    assert_eq!(ended["destroyedAt"], "2031-03-10T12:00:30.000Z");
    assert_eq!(acme.used().await, 30);
    assert_eq!(acme.command(&command).await["status"], "killed");
    assert!(world.driver.running().is_empty());
    world.close().await;
}

async fn a_lifetime_ends_while_no_server_runs(database: Database) {
    let mut world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({ "ttlMs": 60_000 })).await;
    let command = acme.launches_and_sees(&sandbox, "sleep infinity").await;
    world.kills_server().await;
    world.moves("1h");
    world.starts_server().await;
    world.settle().await;
    let ended = acme.sandbox(&sandbox).await;
    assert_eq!(ended["destroyedReason"], "ttl_expired");
    assert_eq!(ended["destroyedAt"], "2031-03-10T12:01:00.000Z");
    assert_eq!(acme.command(&command).await["finishedAt"], "2031-03-10T12:01:00.000Z");
    assert_eq!(acme.used().await, 60);
    world.close().await;
}

/// Known alive at 20 s; what was after that, nobody can say.
async fn a_sandbox_that_died_while_no_server_ran_has_failed(database: Database) {
    let mut world = World::on(database).await;
    let acme = world.team("acme").await;
    world.expects_warning("a sandbox stopped by itself");
    let sandbox = acme.starts(json!({})).await;
    world.advance("20s").await;
    world.kills_server().await;
    world.moves("1s");
    assert!(world.driver.crash(sandbox.parse().unwrap()));
    world.moves("10m");
    world.starts_server().await;
    acme.sees(&sandbox, "failed").await;
    assert_eq!(acme.used().await, 20);
    world.close().await;
}

/// Acceptance 33, with the server killed in the middle.
async fn a_run_is_resumed_and_its_retry_replays(database: Database) {
    let mut world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let once = acme.idempotent("k");
    let path = format!("/v1/sandboxes/{sandbox}/commands");
    let body = json!({ "command": "echo x >> n; echo a; sleep 5; echo b" });
    let cut_off = once.request(reqwest::Method::POST, &path).json(&body).send();
    let cut_off = tokio::spawn(cut_off);
    let id = acme.sees_a_run(&sandbox).await;
    acme.sees_printed(&id, "a\n").await;
    world.kills_server().await;
    assert!(cut_off.await.unwrap().is_err(), "the client sees its connection break");
    world.starts_server().await;
    let retried = once.post(&path, body.clone()).await;
    retried.refused(409, "idempotency_request_in_progress");
    world.moves("5s");
    acme.sees_command(&id, "exited").await;
    let replayed = once.post(&path, body.clone()).await;
    assert_eq!(replayed.json()["command"]["id"], id.as_str());
    assert_eq!(replayed.json()["command"]["stdout"], "a\nb\n");
    assert_eq!(once.post(&path, body).await.body, replayed.body);
    assert_eq!(acme.runs(&sandbox, "cat n").await["stdout"], "x\n", "it ran once");
    world.close().await;
}

async fn a_run_that_ended_while_no_server_ran_is_replayed(database: Database) {
    let mut world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let once = acme.idempotent("k");
    let path = format!("/v1/sandboxes/{sandbox}/commands");
    let body = json!({ "command": "sleep 2; echo done; exit 3" });
    let cut_off = tokio::spawn(once.request(reqwest::Method::POST, &path).json(&body).send());
    let id = acme.sees_a_run(&sandbox).await;
    world.kills_server().await;
    assert!(cut_off.await.unwrap().is_err());
    world.moves("1m");
    world.starts_server().await;
    let ended = acme.sees_command(&id, "exited").await;
    assert_eq!((&ended["exitCode"], &ended["durationMs"]), (&json!(3), &json!(2000)));
    assert_eq!(once.post(&path, body).await.is(200)["command"], ended);
    world.close().await;
}

async fn a_log_goes_on_without_gap_or_repetition(database: Database) {
    let mut world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let line = "echo 1; echo 2; sleep 1; echo 3; sleep 1; echo 4; echo 5; sleep 1; echo 6";
    let id = acme.launches_and_sees(&sandbox, line).await;
    acme.sees_printed(&id, "2\n").await;
    for printed_meanwhile in ["3\n", "5\n", "6\n"] {
        world.kills_server().await;
        world.moves("1s");
        world.starts_server().await;
        acme.sees_printed(&id, printed_meanwhile).await;
    }
    let ended = acme.sees_command(&id, "exited").await;
    assert_eq!(ended["stdout"], "1\n2\n3\n4\n5\n6\n");
    let logs = acme.get(&format!("/v1/commands/{id}/logs")).await.is(200);
    let seqs: Vec<_> =
        logs["data"].as_array().unwrap().iter().map(|c| c["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5, 6]);
    world.close().await;
}

/// More than the agent holds back: it waits with its output for the next server.
async fn a_long_output_is_resumed_where_it_was_stored(database: Database) {
    let mut world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let id = acme.launches_and_sees(&sandbox, "yes 4194304; echo end").await; // 8 MiB
    for _ in 0..3 {
        world.kills_server().await;
        world.starts_server().await;
    }
    acme.sees_command(&id, "exited").await;
    let link = acme.post_nothing(&format!("/v1/commands/{id}/logs/download-url")).await.is(200);
    let log = world.nobody().get(link["url"].as_str().unwrap()).await.body;
    assert_eq!(log.len(), (8 << 20) + "end\n".len());
    assert!(log[..8 << 20].chunks(2).all(|line| line == b"y\n"));
    world.close().await;
}

/// Its variables were in the memory of the server that accepted it, and only there.
async fn a_command_that_was_never_started_is_not_started_later(database: Database) {
    let mut world = World::on(database).await;
    let acme = world.team("acme").await;
    let hang = world.driver.hang_next(Verb::Ensure);
    let sandbox = acme.creates(json!({})).await;
    let command = acme.launches(&sandbox, "touch never").await;
    world.kills_server().await;
    hang.release();
    world.starts_server().await;
    acme.sees(&sandbox, "running").await;
    let over = async || {
        world.moves("5s");
        (acme.command(&command).await["status"] == "failed").then_some(())
    };
    world.until("the end of what cannot be started", over).await;
    assert_eq!(acme.runs(&sandbox, "test -e never").await["exitCode"], 1);
    world.close().await;
}

async fn a_stream_is_resumed_at_the_next_server(database: Database) {
    let mut world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let id = acme.launches_and_sees(&sandbox, "echo 1; sleep 1; echo 2; sleep 1; echo 3").await;
    let path = format!("/v1/commands/{id}/stream");
    let mut stream = acme.stream(&path).await;
    assert_eq!(stream.next_of_note().await.unwrap().seq(), 1);
    // In good order: the stream ends without a terminal event, so the client comes again.
    world.stops_server().await;
    assert_eq!(stream.rest().await, []);
    world.starts_server().await;
    let mut stream = acme.stream(&format!("{path}?afterSeq=1")).await;
    world.moves("1s");
    assert_eq!(stream.next_of_note().await.unwrap().seq(), 2);
    world.moves("1s");
    let rest = stream.rest().await;
    assert_eq!(rest.iter().map(Event::kind).collect::<Vec<_>>(), ["log", "terminal"]);
    world.close().await;
}

async fn a_link_made_by_one_server_is_opened_by_the_next(database: Database) {
    let mut world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let run = acme.runs(&sandbox, "echo kept").await;
    let path = format!("/v1/commands/{}/logs", run["id"].as_str().unwrap());
    let link = acme.post_nothing(&format!("{path}/download-url")).await.is(200);
    let base = acme.base();
    let url = link["url"].as_str().unwrap().strip_prefix(&base).unwrap().to_owned();
    world.kills_server().await;
    world.starts_server().await;
    assert_eq!(world.nobody().get(&url).await.text(), "kept\n");
    world.close().await;
}

/// Two servers on one host, of which one dies: the other one takes over once the lease has run out.
async fn a_second_server_takes_up_what_the_first_one_followed(database: Database) {
    let mut world = World::on(database).await;
    if database == Database::Postgres {
        let acme = world.team("acme").await;
        let sandbox = acme.starts(json!({})).await;
        let there = world.replica().await;
        let id = acme.launches_and_sees(&sandbox, "echo a; sleep 60; echo b").await;
        acme.sees_printed(&id, "a\n").await;
        world.kills_server().await;
        world.moves("2m");
        let path = format!("/v1/commands/{id}");
        let ended = async || {
            let seen = there(&acme).get(&path).await.is(200)["command"].take();
            (seen["status"] == "exited").then_some(seen)
        };
        assert_eq!(world.until("the end", ended).await["stdout"], "a\nb\n");
        world.starts_server().await;
    }
    world.close().await;
}
