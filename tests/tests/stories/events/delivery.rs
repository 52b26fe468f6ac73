//! What arrives, where, and over which connection.

use std::collections::BTreeSet;

use tests::{Database, World, asyncapi::AsyncApi, json, message::Message, stories};

use super::{full, mailbox};

stories![
    every_event_of_a_full_story_arrives,
    events_say_whose_they_are,
    a_broker_behind_tls_is_trusted_by_its_authority,
    credentials_are_in_no_log_line,
];

async fn every_event_of_a_full_story_arrives(database: Database) {
    let mut mailbox = mailbox!();
    let world =
        World::on(database).at(full::BEGINNING).with(full::settings).with(mailbox.settings()).await;
    full::happens(&world).await;
    mailbox.has_everything(&world).await;
    let kinds: Vec<_> = mailbox.kinds().into_iter().collect();
    assert_eq!(kinds, full::KINDS);
    let wrong = AsyncApi::read().wrong(&mailbox.messages);
    assert!(wrong.is_empty(), "not as asyncapi.yaml has it: {wrong:#?}");

    let all = |kind: &'static str| mailbox.messages.iter().filter(move |m| m.kind() == kind);
    let metrics: BTreeSet<_> = all("crownest.usage.recorded.v1")
        .map(|m| m.data()["metric"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(metrics.len(), 7, "{metrics:?}");
    let ends: BTreeSet<_> = all("crownest.sandbox.ended.v1")
        .map(|m| m.data()["reason"].as_str().unwrap().to_owned())
        .collect();
    let ends: Vec<_> = ends.iter().map(String::as_str).collect();
    assert_eq!(ends, ["platform_cleanup", "ttl_expired", "user_killed"]);
    let bought = all("crownest.credit.granted.v1").find(|m| m.data()["kind"] == "purchased");
    assert_eq!(bought.unwrap().data()["credits"], "12.500000001", "every digit, as text");
    world.close().await;
    mailbox.close().await;
}

/// A consumer of one organization's events gets these and no others.
async fn events_say_whose_they_are(database: Database) {
    let mut mailbox = mailbox!();
    mailbox.declares().await;
    let world = World::on(database)
        .with(mailbox.settings())
        .with(|config| {
            config.amqp_declare_topology = false;
            config.amqp_keep_unroutable = false;
        })
        .await;
    let (acme, rival) = (world.team("acme").await, world.team("rival").await);
    mailbox.binds(&format!("crownest.sandbox.#.{}", acme.org_id)).await;
    let (ours, theirs) = (acme.starts(json!({})).await, rival.starts(json!({})).await);
    acme.kills(&ours).await;
    rival.kills(&theirs).await;
    let over = |all: &[Message]| all.iter().any(|m| m.kind().contains("ended")).then_some(());
    mailbox.until(&world, "the end of the sandbox", over).await;
    let nothing_waits = async || {
        let waiting = "select count(*) from outbox_events where published_at is null";
        (world.number(waiting).await == 0).then_some(())
    };
    world.until("an outbox that is published", nothing_waits).await;
    mailbox.takes().await;
    let orgs: BTreeSet<_> = mailbox.messages.iter().map(|m| m.header("orgid")).collect();
    assert_eq!(orgs, BTreeSet::from([acme.org_id.clone()]));
    let kinds: Vec<_> = mailbox.messages.iter().map(Message::kind).collect();
    let lifecycle = ["created", "ready", "ended"];
    assert_eq!(kinds, lifecycle.map(|what| format!("crownest.sandbox.{what}.v1")));
    world.close().await;
    mailbox.close().await;
}

async fn a_broker_behind_tls_is_trusted_by_its_authority(database: Database) {
    let mut mailbox = mailbox!();
    let (Ok(url), Some(authority)) =
        (std::env::var("TEST_AMQPS_URL"), std::env::var_os("TEST_AMQP_CA_FILE"))
    else {
        tests::run::skipped("amqps", "TEST_AMQPS_URL or TEST_AMQP_CA_FILE is not set");
        return;
    };
    let mut world = World::on(database)
        .with(mailbox.settings())
        .with(|config| config.amqp_url = Some(url))
        .await;
    // An authority that the system does not know.
    world.expects_warning("no connection to the broker");
    let refused = async || world.logged().contains("no connection to the broker").then_some(());
    world.until("the refusal", refused).await;
    let acme = world.team("acme").await;
    world.stops_server().await;
    world.changes(|config| config.amqp_ca_file = Some(authority.into()));
    world.starts_server().await;
    let sandbox = acme.starts(json!({})).await;
    acme.kills(&sandbox).await;
    mailbox.has_everything(&world).await;
    world.close().await;
    mailbox.close().await;
}

async fn credentials_are_in_no_log_line(database: Database) {
    let mailbox = mailbox!();
    const SECRET: &str = "hunter2hunter2";
    let (scheme, rest) = mailbox.url.split_once("://").unwrap();
    let (_, broker) = rest.split_once('@').unwrap();
    let hidden = [
        // Refused, unknown, not there, and no address at all.
        format!("{scheme}://crownest:{SECRET}@{broker}"),
        format!("{scheme}://crownest:{SECRET}@127.0.0.1:1/%2f"),
        format!("{scheme}://crownest:{SECRET}@127.0.0.1:no-port/%2f"),
        format!("{scheme}://crownest:{SECRET}@nowhere.invalid/%2f"),
        format!("amqps://crownest:{SECRET}@{broker}"),
    ];
    let mut world = World::on(database).await;
    world.expects_warning("no connection to the broker");
    for (n, url) in hidden.into_iter().enumerate() {
        world.stops_server().await;
        world.changes(|config| config.amqp_url = Some(url));
        world.starts_server().await;
        let told = async || {
            let told = world.logged().matches("no connection to the broker").count();
            (told == n + 1).then_some(())
        };
        world.until("the refusal", told).await;
        let logged = world.logged();
        assert!(!logged.contains(SECRET), "{logged}");
        assert!(!logged.contains("crownest:"), "{logged}");
    }
    world.close().await;
}
