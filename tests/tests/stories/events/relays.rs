//! Relays that come, go and compete, and queues that are not there yet.

use domain::id::{EventId, SandboxId};
use futures_util::future::join_all;
use store::{Everyone, outbox::NewEvent};
use tests::{Database, Team, World, json, message, message::Message, stories};

use super::mailbox;

stories![
    without_a_broker_nothing_is_lost,
    a_server_without_a_broker_says_nothing,
    an_event_that_no_queue_takes_waits_for_one,
    many_that_no_queue_takes_do_not_hold_up_the_others,
    two_relays_keep_the_order_of_each_sandbox,
    the_outbox_is_trimmed_after_the_confirm,
];

const UNROUTABLE: &str = "no queue takes this event";

/// First the broker is not there, then it is.
async fn without_a_broker_nothing_is_lost(database: Database) {
    let mut mailbox = mailbox!();
    let mut world = World::on(database)
        .with(|config| config.amqp_url = Some("amqp://guest:guest@127.0.0.1:1/%2f".to_owned()))
        .await;
    world.expects_warning("no connection to the broker");
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    acme.runs(&sandbox, "true").await;
    world.advance("3m").await;
    let before = message::events(world.db()).await;
    assert!(before.len() >= 5 && before.iter().all(|event| event.published_at.is_none()));

    world.stops_server().await;
    world.changes(mailbox.settings());
    world.starts_server().await;
    acme.kills(&sandbox).await;
    mailbox.has_everything(&world).await;
    let told = world.logged().matches("no connection to the broker").count();
    assert_eq!(told, 1, "once, not with every try");
    world.close().await;
    mailbox.close().await;
}

async fn a_server_without_a_broker_says_nothing(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    acme.kills(&sandbox).await;
    world.advance("90d").await;
    world.keeps_house().await;
    let events = message::events(world.db()).await;
    assert!(events.len() > 4, "what was not published stays, however old");
    assert!(!world.logged().contains("broker"), "{}", world.logged());
    world.close().await;
}

/// Others of other subjects go on, and what waits comes in its order once there is a queue.
async fn an_event_that_no_queue_takes_waits_for_one(database: Database) {
    let mut mailbox = mailbox!();
    mailbox.declares().await;
    mailbox.binds("crownest.key.#").await;
    mailbox.binds("crownest.credit.#").await;
    let world = World::on(database)
        .with(mailbox.settings())
        .with(|config| config.amqp_declare_topology = false)
        .await;
    world.expects_warning(UNROUTABLE);
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    acme.runs(&sandbox, "true").await;
    acme.kills(&sandbox).await;
    let told = async || world.logged().contains(UNROUTABLE).then_some(());
    world.until("the word about it", told).await;
    let rival = world.team("rival").await;
    let theirs =
        |all: &[Message]| all.iter().any(|m| m.header("orgid") == rival.org_id).then_some(());
    mailbox.until(&world, "the rival's events", theirs).await;
    assert!(mailbox.kinds().iter().all(|kind| !kind.contains("sandbox")), "these wait");
    assert_eq!(world.logged().matches(UNROUTABLE).count(), 1, "told once");

    mailbox.binds("crownest.#").await;
    mailbox.has_everything(&world).await;
    world.close().await;
    mailbox.close().await;
}

/// More in one partition than a relay reads at a time, and some in every other.
async fn many_that_no_queue_takes_do_not_hold_up_the_others(database: Database) {
    let mut mailbox = mailbox!();
    mailbox.declares().await;
    mailbox.binds("crownest.key.#").await;
    mailbox.binds("crownest.credit.#").await;
    let mut world = World::on(database).await;
    let acme = world.team("acme").await;
    for _ in 0..11 {
        writes(&world, &acme, "crownest.sandbox.ready.v1", &[0; 100]).await;
    }
    let all: Vec<u8> = (0..64).collect();
    writes(&world, &acme, "crownest.sandbox.ready.v1", &all).await;
    writes(&world, &acme, "crownest.key.created.v1", &[0, 1, 15, 16, 63]).await;

    world.expects_warning(UNROUTABLE);
    world.stops_server().await;
    world.changes(mailbox.settings());
    world.changes(|config| config.amqp_declare_topology = false);
    world.starts_server().await;
    let keys = |all: &[Message]| {
        let keys = all.iter().filter(|m| m.subject().starts_with("sbx_"));
        (keys.count() == 5).then_some(())
    };
    mailbox.until(&world, "what can be routed", keys).await;
    mailbox.binds("crownest.#").await;
    mailbox.has_everything(&world).await;
    world.close().await;
    mailbox.close().await;
}

/// An event about a sandbox that there never was, for each of these partitions.
async fn writes(world: &World, team: &Team, kind: &'static str, partitions: &[u8]) {
    let now = world.now();
    let events: Vec<_> = partitions
        .iter()
        .map(|partition| NewEvent {
            id: EventId::generate(now),
            org: team.org_id.parse().unwrap(),
            subject: SandboxId::generate(now).to_string(),
            spread: *partition,
            kind,
            data: "{}".to_owned(),
            trace_parent: None,
            occurred_at: now,
        })
        .collect();
    let tx = world.db().begin().await.unwrap();
    store::outbox(Everyone::for_worker("story")).append(&tx, &events, now).await.unwrap();
    tx.commit().await.unwrap();
}

/// One of them dies in the middle; what it had leased is free after a while.
async fn two_relays_keep_the_order_of_each_sandbox(database: Database) {
    let mut mailbox = mailbox!();
    let mut world = World::on(database).with(mailbox.settings()).await;
    let acme = world.team("acme").await;
    let at_other = world.replica().await;
    let other = at_other(&acme);
    let mut sandboxes = Vec::new();
    for _ in 0..6 {
        sandboxes.push(acme.starts(json!({})).await);
    }
    let runs = sandboxes.iter().enumerate().flat_map(|(n, sandbox)| {
        let path = format!("/v1/sandboxes/{sandbox}/commands");
        let key = if n % 2 == 0 { &other } else { &*acme };
        (0..8).map(move |_| {
            let path = path.clone();
            async move { key.post(&path, json!({ "command": "true" })).await.is(200) }
        })
    });
    join_all(runs).await;
    world.kills_server().await;
    world.moves("41s");
    for sandbox in &sandboxes {
        other.delete(&format!("/v1/sandboxes/{sandbox}")).await.is(200);
    }
    mailbox.has_everything(&world).await;
    let ended = |m: &&Message| m.kind() == "crownest.command.finished.v1";
    assert!(mailbox.messages.iter().filter(ended).count() >= 48);
    world.close().await;
    mailbox.close().await;
}

/// Never before: what waits is as old, and stays.
async fn the_outbox_is_trimmed_after_the_confirm(database: Database) {
    let mut mailbox = mailbox!();
    mailbox.declares().await;
    mailbox.binds("crownest.key.#").await;
    mailbox.binds("crownest.credit.#").await;
    let world = World::on(database)
        .with(mailbox.settings())
        .with(|config| config.amqp_declare_topology = false)
        .await;
    world.expects_warning(UNROUTABLE);
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    acme.kills(&sandbox).await;
    let published = "select count(*) from outbox_events where published_at is not null";
    let two = async || (world.number(published).await == 2).then_some(());
    world.until("key and credit", two).await;
    let waiting = "select count(*) from outbox_events where published_at is null
                   and type like 'crownest.sandbox.%'";
    world.moves("6d");
    world.keeps_house().await;
    assert_eq!(world.number(published).await, 2, "readable for seven days");
    world.moves("25h");
    world.keeps_house().await;
    assert_eq!(world.number(published).await, 0);
    assert_eq!(world.number(waiting).await, 3);
    world.close().await;
    mailbox.close().await;
}
