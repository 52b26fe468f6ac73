//! How it ends: what is open closes with its preview and with its sandbox, at every server; what does
//! not answer is a 502 and never a hang.

use tests::{
    Database, Team, World, json,
    preview::{Visitor, ok, patient, read_request, read_to_close, read_until},
    stories,
};
use tokio::{
    io::{AsyncWriteExt, DuplexStream},
    net::TcpStream,
};

use super::Place;

stories![
    a_revoked_preview_closes_at_once,
    a_revoked_preview_closes_at_every_server,
    a_preview_ends_with_its_sandbox,
    a_preview_ends_with_a_lost_sandbox,
    what_does_not_answer_is_a_502,
    a_preview_survives_its_server,
    a_sandbox_of_another_host_is_not_here,
];

/// A stream and a WebSocket that are open, and the app's ends of them.
pub struct Opened {
    pub clients: [TcpStream; 2],
    pub apps: [DuplexStream; 2],
}

impl Opened {
    pub async fn through(place: &Place, visitor: &Visitor, world: &World) -> Self {
        let mut listener = place.listens(world);
        let mut stream = visitor.connect().await;
        let request = visitor.head("GET", "/events", &[place.key()]) + "\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut events = patient(listener.accept()).await.unwrap();
        patient(read_request(&mut events)).await.unwrap();
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nbegun\r\n";
        events.write_all(head).await.unwrap();
        read_until(&mut stream, "begun").await;

        let mut socket = visitor.connect().await;
        let fields = [place.key(), ("connection", "upgrade"), ("upgrade", "websocket")];
        let request = visitor.head("GET", "/ws", &fields) + "\r\n";
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut far = patient(listener.accept()).await.unwrap();
        patient(read_request(&mut far)).await.unwrap();
        let head =
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        far.write_all(head).await.unwrap();
        read_until(&mut socket, "\r\n\r\n").await;
        socket.write_all(b"ping").await.unwrap();
        read_until(&mut far, "ping").await;
        Self { clients: [stream, socket], apps: [events, far] }
    }

    /// Both sides of both find the other gone, and nothing more has come.
    pub async fn close(mut self) {
        for client in &mut self.clients {
            let rest = read_to_close(client).await;
            assert!(rest.is_empty(), "a stream that broke off has no end: {rest:?}");
        }
        for app in &mut self.apps {
            read_to_close(app).await;
        }
    }
}

async fn revokes(team: &Team, place: &Place) {
    team.delete(&format!("/v1/previews/{}", place.id)).await.is(200);
}

async fn a_revoked_preview_closes_at_once(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let (place, other) = (Place::of(&acme).await, Place::of(&acme).await);
    let opened = Opened::through(&place, &place.visitor, &world).await;
    let mut untouched = Opened::through(&other, &other.visitor, &world).await;
    revokes(&acme, &place).await;
    opened.close().await;
    let _app = place.plays(&world, |_| ok("still there"));
    let key = format!("Bearer {}", acme.secret);
    for field in [place.key(), ("authorization", &key)] {
        place.visitor.get("/", &[field]).await.refused(404, "not_found");
    }
    // The sandbox and its other previews go on.
    assert_eq!(acme.sandbox(&place.sandbox).await["status"], "ready");
    untouched.apps[0].write_all(b"4\r\nmore\r\n").await.unwrap();
    read_until(&mut untouched.clients[0], "more").await;
    world.close().await;
}

async fn a_revoked_preview_closes_at_every_server(database: Database) {
    let mut world = World::on(database).await;
    let acme = world.team("acme").await;
    let place = Place::of(&acme).await;
    let at_replica = world.replica().await;
    let path = format!("/v1/previews/{}", place.id);
    let seen = at_replica(&acme).get(&path).await.is(200);
    let there = Visitor::of(&seen["preview"]);
    assert_ne!(there.address, place.visitor.address, "each server has a listener");
    let there = Visitor { host: place.visitor.host.clone(), ..there };
    let opened = Opened::through(&place, &there, &world).await;
    revokes(&acme, &place).await;
    opened.close().await;
    there.get("/", &[place.key()]).await.refused(404, "not_found");
    world.close().await;
}

async fn a_preview_ends_with_its_sandbox(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let place = Place::of(&acme).await;
    let opened = Opened::through(&place, &place.visitor, &world).await;
    acme.kills(&place.sandbox).await;
    opened.close().await;
    place.visitor.get("/", &[place.key()]).await.refused(502, "preview_unavailable");
    place.visitor.get("/", &[]).await.refused(401, "unauthorized");
    revokes(&acme, &place).await;
    place.visitor.get("/", &[place.key()]).await.refused(404, "not_found");
    world.close().await;
}

async fn a_preview_ends_with_a_lost_sandbox(database: Database) {
    let world = World::on(database).await;
    world.expects_warning("a sandbox stopped by itself");
    let acme = world.team("acme").await;
    let place = Place::of(&acme).await;
    let opened = Opened::through(&place, &place.visitor, &world).await;
    world.moves("10s");
    world.driver.crash(place.sandbox.parse().unwrap());
    opened.close().await;
    place.visitor.get("/", &[place.key()]).await.refused(502, "preview_unavailable");
    acme.sees(&place.sandbox, "failed").await;
    world.close().await;
}

/// Acceptance 65, and worse apps.
async fn what_does_not_answer_is_a_502(database: Database) {
    let world = World::on(database).with(|config| config.preview_timeout_seconds = 1).await;
    let acme = world.team("acme").await;
    let place = Place::of(&acme).await;
    let key = [place.key()];
    let visit = || place.visitor.get("/", &key);
    visit().await.refused(502, "preview_unavailable");

    let mut listener = place.listens(&world);
    // It takes the connection, and the request, and says nothing.
    let silent = tokio::spawn(async move {
        let stream = listener.accept().await.unwrap();
        (listener, stream)
    });
    visit().await.refused(502, "preview_unavailable");
    let (mut listener, _stream) = patient(silent).await.unwrap();
    // It hangs up instead of an answer.
    let rude = tokio::spawn(async move {
        let mut stream = listener.accept().await.unwrap();
        read_request(&mut stream).await.unwrap();
        drop(stream);
        listener
    });
    visit().await.refused(502, "preview_unavailable");
    let mut listener = patient(rude).await.unwrap();
    // It hangs up in the middle of an answer: the client sees that it is not whole.
    let half = tokio::spawn(async move {
        let mut stream = listener.accept().await.unwrap();
        read_request(&mut stream).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await.unwrap();
        drop(stream);
    });
    let reply = visit().await;
    patient(half).await.unwrap();
    assert_eq!((reply.status, reply.field("content-length"), &*reply.text()), (200, "100", "half"));
    world.close().await;
}

async fn a_preview_survives_its_server(database: Database) {
    let mut world = World::on(database).await;
    let acme = world.team("acme").await;
    let place = Place::of(&acme).await;
    let app = place.plays(&world, |_| ok("hello"));
    assert_eq!(place.visitor.get("/", &[place.key()]).await.text(), "hello");
    world.kills_server().await;
    world.starts_server().await;
    let seen = acme.get(&format!("/v1/previews/{}", place.id)).await.is(200);
    let visitor = Visitor::of(&seen["preview"]);
    assert_eq!(visitor.get("/", &[place.key()]).await.text(), "hello");
    assert_eq!(app.seen().len(), 2);
    world.close().await;
}

async fn a_sandbox_of_another_host_is_not_here(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let place = Place::of(&acme).await;
    let app = place.plays(&world, |_| ok("hello"));
    let moved = "update sandboxes set host = 'elsewhere'";
    world.executes(moved).await;
    let reply = place.visitor.get("/", &[place.key()]).await;
    reply.refused(502, "preview_unavailable");
    assert!(reply.text().contains("another host"), "{}", reply.text());
    assert!(app.seen().is_empty());
    let host = &world.server().app().config.host;
    world.executes(&format!("update sandboxes set host = '{host}'")).await;
    assert_eq!(place.visitor.get("/", &[place.key()]).await.text(), "hello");
    let made = json!({ "port": 1 });
    acme.post(&format!("/v1/sandboxes/{}/previews", place.sandbox), made).await.is(201);
    world.close().await;
}
