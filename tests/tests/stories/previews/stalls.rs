//! Who stops in the middle: clients and apps that neither read nor write hold nothing for ever.

use std::time::Duration;

use tests::{
    Database, World,
    preview::{ok, patient, read_request, read_to_close, read_until},
    stories,
};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    time::sleep,
};

use super::{Place, closing::Opened};

stories![
    what_is_silent_closes,
    an_app_that_reads_nothing_is_let_go,
    an_upload_takes_as_long_as_it_takes,
    who_reads_nothing_is_cut_off_at_the_end,
    who_is_refused_holds_no_connection,
];

/// Between looks and pieces.
const PACE: Duration = Duration::from_millis(100);

/// Writes now and then until the other side is found gone.
async fn until_gone(stream: &mut (impl AsyncWrite + Unpin)) {
    let writing = async {
        while stream.write_all(b"x").await.is_ok() {
            sleep(PACE).await
        }
    };
    patient(writing).await;
}

/// A stream, a WebSocket and an upload whose rest never comes, while another stream goes on.
async fn what_is_silent_closes(database: Database) {
    let world = World::on(database)
        .with(|config| (config.preview_timeout_seconds, config.preview_idle_seconds) = (1, 3))
        .await;
    let acme = world.team("acme").await;
    let (place, other) = (Place::of(&acme).await, Place::of(&acme).await);
    let silent = Opened::through(&place, &place.visitor, &world).await;
    let mut listener = place.listens(&world);
    let mut upload = place.visitor.connect().await;
    let head = place.visitor.head("POST", "/", &[place.key(), ("content-length", "9")]);
    upload.write_all((head + "\r\nhalf").as_bytes()).await.unwrap();
    let mut app = patient(listener.accept()).await.unwrap();
    read_until(&mut app, "half").await;
    app.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nbegun\r\n")
        .await
        .unwrap();
    read_until(&mut upload, "begun").await;

    let mut talking = Opened::through(&other, &other.visitor, &world).await;
    let [(client, app), (socket, far)] = {
        let Opened { clients: [client, socket], apps: [app, far] } = &mut talking;
        [(client, app), (socket, far)]
    };
    let goes_on = async {
        loop {
            app.write_all(b"4\r\nmore\r\n").await.unwrap();
            read_until(client, "more").await;
            // Either way counts.
            socket.write_all(b"ping").await.unwrap();
            read_until(far, "ping").await;
            sleep(PACE).await;
        }
    };
    let ceases = async {
        silent.close().await;
        assert_eq!(read_to_close(&mut upload).await, b"");
    };
    tokio::select! {
        never = goes_on => never,
        () = ceases => {}
    }
    app.write_all(b"4\r\nlast\r\n").await.unwrap();
    read_until(client, "last").await;
    world.close().await;
}

/// It takes a connection and reads nothing: nothing is kept for it once its time is up, nor what the client
/// has sent so far.
async fn an_app_that_reads_nothing_is_let_go(database: Database) {
    let world = World::on(database).with(|config| config.preview_timeout_seconds = 1).await;
    let acme = world.team("acme").await;
    let place = Place::of(&acme).await;
    let mut listener = place.listens(&world);
    let head = place.visitor.head("POST", "/", &[place.key(), ("content-length", "4194304")]);
    let request = [head.as_bytes(), b"\r\n", &vec![b'x'; 4 << 20]].concat();
    let (reply, app) = tokio::join!(place.visitor.raw(&request), patient(listener.accept()));
    // A reset may come before the answer does.
    assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 502 "), "{reply}");
    // The server keeps nothing; what is in the sandbox learns of it later.
    let none = async || (world.server().app().proxy.n_connections() == 0).then_some(());
    world.until("the end of all connections", none).await;
    let mut app = app.unwrap();
    app.write_all(b"x").await.unwrap();
    until_gone(&mut app).await;
    world.close().await;
}

/// Piece by piece for longer than an app may be silent; the app answers when it has all.
async fn an_upload_takes_as_long_as_it_takes(database: Database) {
    const N: usize = 30;
    let world = World::on(database).with(|config| config.preview_timeout_seconds = 2).await;
    let acme = world.team("acme").await;
    let place = Place::of(&acme).await;
    let app = place.plays(&world, |_| ok("all of it"));
    let mut client = place.visitor.connect().await;
    let length = N.to_string();
    let fields = [place.key(), ("content-length", &*length), ("connection", "close")];
    let head = place.visitor.head("POST", "/", &fields) + "\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..N {
        sleep(PACE).await;
        client.write_all(b"x").await.unwrap();
    }
    let reply = String::from_utf8(read_to_close(&mut client).await).unwrap();
    assert!(reply.starts_with("HTTP/1.1 200") && reply.ends_with("all of it"), "{reply}");
    assert!(app.last().ends_with(&"x".repeat(N)), "{}", app.last());
    world.close().await;
}

/// The end of a preview reaches a client that leaves everything unread, and it is no use of the sandbox.
async fn who_reads_nothing_is_cut_off_at_the_end(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let place = Place::of(&acme).await;
    let mut listener = place.listens(&world);
    let mut client = place.visitor.connect().await;
    let head = place.visitor.head("GET", "/", &[place.key()]) + "\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    let mut app = patient(listener.accept()).await.unwrap();
    patient(read_request(&mut app)).await.unwrap();
    app.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
    // As much as fits between the two.
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    while tokio::time::timeout(5 * PACE, app.write_all(chunk.as_bytes())).await.is_ok() {}
    acme.delete(&format!("/v1/previews/{}", place.id)).await.is(200);
    until_gone(&mut client).await;
    world.close().await;
}

/// It may ask again, on another connection.
async fn who_is_refused_holds_no_connection(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let place = Place::of(&acme).await;
    let _app = place.plays(&world, |_| ok("hello"));
    let nowhere = place.visitor.head("GET", "/", &[]).replace("host: p-", "host: q-");
    for (head, status) in [(place.visitor.head("GET", "/", &[]), 401), (nowhere, 404)] {
        let mut client = place.visitor.connect().await;
        client.write_all((head + "\r\n").as_bytes()).await.unwrap();
        let reply = String::from_utf8(read_to_close(&mut client).await).unwrap();
        assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{reply}");
        assert!(reply.contains("\r\nconnection: close\r\n"), "{reply}");
    }
    // Who gets in may go on.
    let mut client = place.visitor.connect().await;
    for _ in 0..2 {
        let head = place.visitor.head("GET", "/", &[place.key()]) + "\r\n";
        client.write_all(head.as_bytes()).await.unwrap();
        read_until(&mut client, "hello").await;
    }
    world.close().await;
}
