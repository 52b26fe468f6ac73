//! Events belong to the trace of the request that caused them, whether or not this server exports spans.
//! What it exports is told in `spans.rs`, of the program itself.

use std::collections::BTreeMap;

use tests::{Database, Mailbox, World, json, message, stories};

stories![
    events_are_in_the_trace_of_their_request,
    a_header_that_is_none_is_not_carried,
    consumers_get_the_trace,
];

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const OTHER: &str = "00-11f7651916cd43dd8448eb211c80319c-b7ad6b7169203332-00";

/// The traces of a sandbox's events, by their kinds.
async fn traces(world: &World, sandbox: &str) -> BTreeMap<String, Option<String>> {
    let events = message::events(world.db()).await.into_iter();
    events.filter(|e| e.subject == sandbox).map(|e| (e.kind, e.trace_parent)).collect()
}

/// Also of what happens later, in another task, on behalf of it.
async fn events_are_in_the_trace_of_their_request(database: Database) {
    let mut world = World::on(database).await;
    let acme = world.team("acme").await;
    let traced = acme.with("traceparent", TRACE);
    let sandbox = traced.post("/v1/sandboxes", json!({})).await.is(201);
    let sandbox = sandbox["sandbox"]["id"].as_str().unwrap();
    acme.sees(sandbox, "ready").await;
    let path = format!("/v1/sandboxes/{sandbox}/commands");
    let body = json!({ "command": "sleep 5", "background": true });
    let other = acme.with("traceparent", OTHER);
    let command = other.post(&path, body).await.is(202);
    let command = command["command"]["id"].as_str().unwrap();
    acme.sees_command(command, "running").await;
    world.advance("10s").await;
    acme.sees_command(command, "exited").await;
    acme.kills(sandbox).await;
    let traced = Some(TRACE.to_owned());
    let mut found = traces(&world, sandbox).await;
    found.retain(|kind, _| !kind.starts_with("crownest.usage."));
    let wanted = [
        ("crownest.command.finished.v1", Some(OTHER.to_owned())),
        ("crownest.sandbox.created.v1", traced.clone()),
        ("crownest.sandbox.ended.v1", None),
        ("crownest.sandbox.ready.v1", traced),
    ];
    assert_eq!(found, wanted.map(|(kind, trace)| (kind.to_owned(), trace)).into());

    // A server that finds a sandbox to boot knows its trace as well.
    let hang = world.driver.hang_next(drivers::Verb::Ensure);
    let second = acme.with("traceparent", OTHER).post("/v1/sandboxes", json!({})).await.is(201);
    let second = second["sandbox"]["id"].as_str().unwrap().to_owned();
    acme.sees(&second, "starting").await;
    world.kills_server().await;
    drop(hang);
    world.starts_server().await;
    acme.sees(&second, "ready").await;
    let found = traces(&world, &second).await;
    assert_eq!(found["crownest.sandbox.ready.v1"].as_deref(), Some(OTHER));
    world.close().await;
}

async fn a_header_that_is_none_is_not_carried(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let two = acme.with("traceparent", TRACE).with("traceparent", OTHER);
    let junk = acme.with("traceparent", "00-0af7-b7ad-01'; drop table outbox_events; --");
    for key in [&*acme, &two, &junk] {
        let sandbox = key.post("/v1/sandboxes", json!({})).await.is(201);
        let sandbox = sandbox["sandbox"]["id"].as_str().unwrap();
        acme.sees(sandbox, "ready").await;
        let found = traces(&world, sandbox).await;
        assert!(found.len() >= 2 && found.values().all(Option::is_none), "{found:?}");
    }
    world.close().await;
}

async fn consumers_get_the_trace(database: Database) {
    let Some(mut mailbox) = Mailbox::open().await else { return };
    let world = World::on(database).with(mailbox.settings()).await;
    let acme = world.team("acme").await;
    let traced = acme.with("traceparent", TRACE);
    let sandbox = traced.post("/v1/sandboxes", json!({})).await.is(201);
    acme.sees(sandbox["sandbox"]["id"].as_str().unwrap(), "ready").await;
    mailbox.has_everything(&world).await;
    let header = |kind: &str| {
        let message = mailbox.messages.iter().find(|message| message.kind() == kind).unwrap();
        message.headers().get("cloudEvents:traceparent").cloned()
    };
    assert_eq!(header("crownest.sandbox.created.v1"), Some(TRACE.into()));
    assert_eq!(header("crownest.sandbox.ready.v1"), Some(TRACE.into()));
    assert_eq!(header("crownest.key.created.v1"), None);
    world.close().await;
    mailbox.close().await;
}
