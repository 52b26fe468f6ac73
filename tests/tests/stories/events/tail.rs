//! `crownest events tail`, as the program that it is: what it prints, what it leaves to others, and how
//! it ends.

use rustix::process::Signal;
use tests::{
    Database, Team, Value, World, json, message,
    program::{Running, crownest, done},
    stories,
};
use tokio::net::{TcpListener, TcpStream};

use super::mailbox;

stories![
    a_script_reads_the_outbox,
    it_follows_the_outbox_until_it_is_told_to_end,
    it_listens_at_the_broker_and_takes_nothing_from_others,
    it_connects_again,
    what_cannot_be_done_is_told,
];

/// Two teams' events.
async fn happens(world: &World) -> [Team; 2] {
    let (acme, rival) = (world.team("acme").await, world.team("rival").await);
    let sandbox = acme.starts(json!({})).await;
    acme.runs(&sandbox, "true").await;
    world.advance("2m").await;
    acme.kills(&sandbox).await;
    world.advance("2m").await;
    rival.starts(json!({})).await;
    [acme, rival]
}

fn parsed(line: &str) -> Value {
    line.parse().unwrap_or_else(|_| panic!("no JSON: {line}"))
}

async fn read(world: &World, arguments: &[&str]) -> Vec<String> {
    let settings = [("CROWNEST_DATABASE_URL", world.database_url())];
    let all = [&["events", "tail", "--no-follow"], arguments].concat();
    let (code, out, told) = done(crownest(&settings, &all)).await;
    assert_eq!(code, Some(0), "{told}");
    out.lines().map(str::to_owned).collect()
}

async fn a_script_reads_the_outbox(database: Database) {
    let world = World::on(database).await;
    let [acme, _rival] = happens(&world).await;
    let events = message::events(world.db()).await;
    let all = read(&world, &["--json"]).await;
    assert_eq!(all.len(), events.len());
    for (line, event) in all.iter().zip(&events) {
        let (org, at) = (org_of(event.org_id), event.occurred_at);
        let at = chrono::DateTime::from_timestamp_micros(at).unwrap();
        let wanted = json!({
            "specversion": "1.0",
            "id": message::id_of(event),
            "source": format!("urn:crownest:{org}"),
            "type": event.kind,
            "subject": event.subject,
            "time": at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true),
            "sequence": event.sequence.to_string(),
            "orgid": org,
            "position": event.position,
            "datacontenttype": "application/json",
            "data": parsed(&event.data),
        });
        assert_eq!(parsed(line), wanted);
    }

    let kinds = |lines: &[String]| -> Vec<String> {
        lines.iter().map(|line| parsed(line)["type"].as_str().unwrap().to_owned()).collect()
    };
    let ours =
        read(&world, &["--json", "--organization", "acme", "--type", "crownest.sandbox"]).await;
    let lifecycle = ["created", "ready", "ended"].map(|w| format!("crownest.sandbox.{w}.v1"));
    assert_eq!(kinds(&ours), lifecycle);
    assert!(ours.iter().all(|line| parsed(line)["orgid"] == *acme.org_id));
    let made = read(&world, &["--json", "--type", "crownest.*.created"]).await;
    assert_eq!(kinds(&made).len(), 4, "two keys, two sandboxes: {made:?}");
    let middle = events[events.len() / 2].position.to_string();
    let behind = read(&world, &["--json", "--after", &middle]).await;
    assert_eq!(behind, all[events.len() / 2 + 1..]);
    assert_eq!(read(&world, &["--json", "--limit", "3"]).await, all[..3]);
    assert_eq!(read(&world, &["--json", "--limit", "1", "--after", &middle]).await, behind[..1]);
    let late = read(&world, &["--json", "--since", "2031-03-10T12:04:00Z"]).await;
    assert!(!late.is_empty() && late.len() < all.len());
    assert_eq!(late, all[all.len() - late.len()..]);
    assert!(read(&world, &["--since", "2031-03-11"]).await.is_empty());

    let line = &read(&world, &["--limit", "1"]).await[0];
    let first = &events[0];
    let (data, position) = (parsed(&first.data).to_string(), first.position.to_string());
    for part in [&first.kind, &first.subject, &data, &position] {
        assert!(line.contains(part.as_str()), "{part} in {line}");
    }
    world.close().await;
}

fn org_of(org: uuid::Uuid) -> String {
    domain::id::OrganizationId::from_uuid(org).to_string()
}

async fn it_follows_the_outbox_until_it_is_told_to_end(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let settings = [("CROWNEST_DATABASE_URL", world.database_url())];
    let follow = ["events", "tail", "--json", "--type", "crownest.sandbox"];
    let start = || Running::start(crownest(&settings, &follow));
    let (mut first, mut second, mut third) = (start(), start(), start());
    for one in [&mut first, &mut second, &mut third] {
        one.tells("following the outbox from position").await;
    }
    let mut from_the_beginning =
        Running::start(crownest(&settings, &["events", "tail", "--json", "--after", "0"]));
    let key = from_the_beginning.line().await.unwrap();
    assert!(
        ["crownest.key.created.v1", "crownest.credit.granted.v1"]
            .contains(&parsed(&key)["type"].as_str().unwrap())
    );

    let sandbox = acme.starts(json!({})).await;
    acme.kills(&sandbox).await;
    for one in [&mut first, &mut second, &mut third] {
        let lines = one.lines(3).await;
        assert!(lines.iter().all(|line| parsed(line)["subject"] == *sandbox), "{lines:?}");
    }
    for (running, signal) in [(first, Signal::TERM), (second, Signal::INT)] {
        running.gets(signal);
        let (status, rest) = running.ends().await;
        assert_eq!((status.code(), rest.len()), (Some(0), 0), "{signal:?}");
    }
    // Without a further event: nothing is written to the pipe that nobody reads.
    third.is_left_alone();
    assert_eq!(third.ends().await.0.code(), Some(0));
    from_the_beginning.gets(Signal::TERM);
    assert_eq!(from_the_beginning.ends().await.0.code(), Some(0));
    world.close().await;
}

async fn it_listens_at_the_broker_and_takes_nothing_from_others(database: Database) {
    let mut mailbox = mailbox!();
    let world = World::on(database).with(mailbox.settings()).await;
    let before = world.team("before").await;
    mailbox.has_everything(&world).await;
    // No database: an id is enough.
    let settings =
        [("CROWNEST_AMQP_URL", &*mailbox.url), ("CROWNEST_AMQP_EXCHANGE", &*mailbox.exchange)];
    let settings = [&settings[..], &[("CROWNEST_STATE_DIR", "/nowhere")]].concat();
    let listen = |more: &[&str]| {
        Running::start(crownest(&settings, &[&["events", "tail", "--json"], more].concat()))
    };
    let mut all = listen(&[]);
    let mut bounded = listen(&["--limit", "2", "--type", "crownest.sandbox.*.v1"]);
    let theirs = ["--organization", &*before.org_id];
    let mut one = listen(&theirs);
    for running in [&mut all, &mut bounded, &mut one] {
        running.tells("listening for crownest").await;
    }
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    acme.kills(&sandbox).await;
    before.starts(json!({})).await;
    mailbox.has_everything(&world).await;
    let came = mailbox.messages.iter().filter(|m| m.header("orgid") == acme.org_id).count();
    let lines = all.lines(came + 2).await;
    for line in &lines {
        let event = parsed(line);
        let message = mailbox.messages.iter().find(|m| event["id"] == *m.id()).unwrap();
        assert_eq!(event["data"], message.data());
        for (name, value) in message.headers().as_object().unwrap() {
            assert_eq!(event[name.strip_prefix("cloudEvents:").unwrap()], *value, "{name}");
        }
        assert!(event.get("position").is_none());
    }
    let (status, lines) = bounded.ends().await;
    assert_eq!((status.code(), lines.len()), (Some(0), 2), "{lines:?}");
    for line in one.lines(2).await {
        assert_eq!(parsed(&line)["orgid"], *before.org_id);
    }
    for running in [all, one] {
        running.gets(Signal::TERM);
        assert_eq!(running.ends().await.0.code(), Some(0));
    }
    world.close().await;
    mailbox.close().await;
}

/// A way to the broker that can be cut. Returns its address; each message cuts all connections.
async fn detour(url: &str) -> (String, tokio::sync::broadcast::Sender<()>) {
    let (scheme, rest) = url.split_once("://").unwrap();
    let (credentials, place) = rest.rsplit_once('@').unwrap();
    let (broker, vhost) = place.split_once('/').unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = format!("{scheme}://{credentials}@{}/{vhost}", listener.local_addr().unwrap());
    let (cut, _) = tokio::sync::broadcast::channel(1);
    let (broker, cuts) = (broker.to_owned(), cut.clone());
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (mut server, mut cut) =
                (TcpStream::connect(&broker).await.unwrap(), cuts.subscribe());
            tokio::spawn(async move {
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                    _ = cut.recv() => {}
                }
            });
        }
    });
    (here, cut)
}

async fn it_connects_again(database: Database) {
    let mut mailbox = mailbox!();
    let world = World::on(database).with(mailbox.settings()).await;
    let acme = world.team("acme").await;
    mailbox.has_everything(&world).await;
    let (url, cut) = detour(&mailbox.url).await;
    let settings = [("CROWNEST_AMQP_URL", &*url), ("CROWNEST_AMQP_EXCHANGE", &*mailbox.exchange)];
    let mut tail =
        Running::start(crownest(&settings, &["events", "tail", "--type", "crownest.sandbox"]));
    for _ in 0..3 {
        tail.tells("listening for crownest.sandbox.# at").await;
        let sandbox = acme.starts(json!({})).await;
        assert!(tail.lines(2).await.iter().all(|line| line.contains(&sandbox)));
        acme.kills(&sandbox).await;
        assert!(tail.line().await.unwrap().contains("crownest.sandbox.ended.v1"));
        cut.send(()).unwrap();
        tail.tells("connecting again").await;
    }
    tail.gets(Signal::INT);
    assert_eq!(tail.ends().await.0.code(), Some(0));
    world.close().await;
    mailbox.close().await;
}

async fn what_cannot_be_done_is_told(database: Database) {
    let world = World::on(database).await;
    let (database, nowhere) = (world.database_url(), "amqp://guest:hunter2@127.0.0.1:1/%2f");
    let here = [("CROWNEST_DATABASE_URL", database)];
    let broken = [("CROWNEST_DATABASE_URL", database), ("CROWNEST_AMQP_URL", nowhere)];
    for (settings, arguments, code, words) in [
        (&broken[..], &[][..], 3, "crownest: the broker: "),
        (&broken[..], &["--organization", "nobody"][..], 2, "there is none called nobody"),
        (&here[..], &["--organization", "nobody"][..], 2, "there is none called nobody"),
        (&here[..], &["--type", "crownest.k*"][..], 2, "the first words of a type"),
        (&here[..], &["--limit", "0"][..], 2, "--limit"),
        (&here[..], &["--after", "-1"][..], 2, "-1"),
        (&here[..], &["--since", "yesterday"][..], 2, "expected an instant"),
        (&broken[..], &["--outbox", "--no-follow"][..], 0, ""),
    ] {
        let all = [&["events", "tail"], arguments].concat();
        let (ended, out, told) = done(crownest(settings, &all)).await;
        assert_eq!((ended, &*out), (Some(code), ""), "{arguments:?}: {told}");
        assert!(told.contains(words) && !told.contains("hunter2"), "{arguments:?}: {told}");
    }
    world.close().await;
}
