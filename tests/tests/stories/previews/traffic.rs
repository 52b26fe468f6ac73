//! What is carried: methods, bodies, streams both ways, WebSocket, and header fields on their way.

use tests::{
    Database, World, json,
    preview::{ok, patient, read_request, read_to_close, read_until, with},
    stories,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Place, opens};

stories![
    any_request_is_carried_and_its_origin_told,
    an_answer_says_nothing_of_the_platform,
    answers_come_as_they_are_written,
    bodies_go_both_ways_at_once,
    large_bodies_pass,
    a_websocket_is_carried,
    connections_are_kept_on_both_sides,
    a_connection_that_an_app_has_closed_is_no_failure,
    an_open_preview_is_activity,
];

async fn any_request_is_carried_and_its_origin_told(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let place = Place::of(&acme).await;
    let app = place.plays(&world, |request| {
        ok(&request.lines().next().unwrap_or_default().to_ascii_lowercase())
    });
    for (method, path, body) in [
        ("GET", "/", ""),
        ("POST", "/a?b=c%20d&e", "{}"),
        ("PUT", "/%2e%2e/x;y", "put"),
        ("PATCH", "//x//", "patch"),
        ("DELETE", "/d", ""),
        ("OPTIONS", "/o", ""),
        ("PROPFIND", "/dav", "x"),
    ] {
        let reply = place.visitor.send(method, path, &[place.key()], body.as_bytes()).await;
        let line = format!("{method} {path} HTTP/1.1").to_ascii_lowercase();
        assert_eq!((reply.status, reply.text()), (200, line), "{method}");
        assert!(app.last().ends_with(&format!("\r\n\r\n{body}")), "{}", app.last());
    }
    let head = place.visitor.send("HEAD", "/", &[place.key()], b"").await;
    assert_eq!((head.status, head.field("content-length"), &*head.text()), (200, "15", ""));

    let spoofed = [
        place.key(),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "gopher"),
        ("forwarded", "for=10.0.0.1"),
        ("x-crownest-org-id", "org_x"),
        ("x-own", "kept"),
    ];
    place.visitor.get("/", &spoofed).await;
    let seen = app.last();
    for wanted in [
        format!("host: {}\r\n", place.visitor.host),
        "x-forwarded-for: 127.0.0.1\r\n".to_owned(),
        format!("x-forwarded-host: {}\r\n", place.visitor.host),
        "x-forwarded-proto: http\r\n".to_owned(),
        "x-own: kept\r\n".to_owned(),
    ] {
        assert!(seen.contains(&wanted), "{wanted:?} is missing: {seen}");
    }
    for absent in ["10.0.0.1", "evil.example", "gopher", "crownest", "pvt_", "connection"] {
        assert!(!seen.to_lowercase().replace(".preview.", "").contains(absent), "{absent}: {seen}");
    }
    world.close().await;
}

async fn an_answer_says_nothing_of_the_platform(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let place = Place::of(&acme).await;
    let _app = place.plays(&world, |_| {
        let fields = [
            "Set-Cookie: a=1; Domain=preview.localhost; Path=/",
            "Set-Cookie: b=2; HttpOnly",
            "Set-Cookie: crownest-preview=forged; Path=/",
            "Set-Cookie: __Host-crownest-preview=forged",
            "Strict-Transport-Security: max-age=9",
            "Alt-Svc: h3=\":1\"",
            "X-Own: kept",
            "Keep-Alive: timeout=5",
            "Proxy-Authenticate: Basic",
        ];
        with(&fields, "hi")
    });
    let reply = place.visitor.get("/", &[place.key()]).await;
    let cookies: Vec<_> = reply.fields("set-cookie").collect();
    assert_eq!(cookies, ["a=1; Path=/", "b=2; HttpOnly"]);
    assert_eq!(reply.field("x-own"), "kept");
    for name in ["strict-transport-security", "alt-svc", "keep-alive", "proxy-authenticate"] {
        assert_eq!(reply.field(name), "", "{name}");
    }
    world.close().await;
}

/// Server-sent events: the client has each before the next is written.
async fn answers_come_as_they_are_written(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let place = Place::of(&acme).await;
    let mut listener = place.listens(&world);
    let mut client = place.visitor.connect().await;
    let request = place.visitor.head("GET", "/events", &[place.key()]) + "\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let mut app = patient(listener.accept()).await.unwrap();
    patient(read_request(&mut app)).await.unwrap();
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    app.write_all(head.as_bytes()).await.unwrap();
    for n in 1..=3 {
        let event = format!("data: {n}\n\n");
        app.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await.unwrap();
        let seen = read_until(&mut client, &event).await;
        assert!(n > 1 || seen.contains("content-type: text/event-stream"), "{seen}");
    }
    // One without a length ends with its connection.
    drop(app);
    read_to_close(&mut client).await;
    world.close().await;
}

/// The app answers the first half of a body before the client sends the second.
async fn bodies_go_both_ways_at_once(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let place = Place::of(&acme).await;
    let mut listener = place.listens(&world);
    let mut client = place.visitor.connect().await;
    let head = place.visitor.head("POST", "/", &[place.key(), ("transfer-encoding", "chunked")]);
    client.write_all((head + "\r\n").as_bytes()).await.unwrap();
    client.write_all(b"5\r\nfirst\r\n").await.unwrap();
    let mut app = patient(listener.accept()).await.unwrap();
    let seen = read_until(&mut app, "first").await;
    assert!(seen.contains("transfer-encoding: chunked"), "{seen}");
    let answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npong\r\n";
    app.write_all(answer).await.unwrap();
    read_until(&mut client, "pong").await;
    client.write_all(b"6\r\nsecond\r\n0\r\n\r\n").await.unwrap();
    read_until(&mut app, "second").await;
    app.write_all(b"4\r\ndone\r\n0\r\n\r\n").await.unwrap();
    read_until(&mut client, "done\r\n0\r\n\r\n").await;
    world.close().await;
}

async fn large_bodies_pass(database: Database) {
    const N: usize = 8 << 20;
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let place = Place::of(&acme).await;
    let mut listener = place.listens(&world);
    // An echo: what is read is written while more is read.
    let echo = tokio::spawn(async move {
        let mut app = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(app.read_u8().await.unwrap());
        }
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {N}\r\n\r\n");
        app.write_all(answer.as_bytes()).await.unwrap();
        let (read, mut write) = tokio::io::split(app);
        let mut read = read.take(N as u64);
        tokio::io::copy(&mut read, &mut write).await.unwrap()
    });
    let body: Vec<u8> = (0..N).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let reply = place.visitor.send("POST", "/", &[place.key()], &body).await;
    assert!(reply.status == 200 && reply.body == body, "{} of {N} bytes", reply.body.len());
    assert_eq!(echo.await.unwrap(), N as u64);
    world.close().await;
}

async fn a_websocket_is_carried(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let place = Place::of(&acme).await;
    let mut listener = place.listens(&world);
    let mut client = place.visitor.connect().await;
    let fields = [
        ("connection", "Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
    ];
    // A program that cannot set header fields may have the token in the URL.
    let path = format!("/ws?crownest_preview_token={}", place.token);
    let request = place.visitor.head("GET", &path, &fields) + "\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let mut app = patient(listener.accept()).await.unwrap();
    let seen = patient(read_request(&mut app)).await.unwrap();
    assert!(seen.starts_with("GET /ws HTTP/1.1\r\n"), "{seen}");
    for wanted in ["connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13"] {
        assert!(seen.contains(wanted), "{wanted}: {seen}");
    }
    let answer = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                  sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    app.write_all(answer.as_bytes()).await.unwrap();
    let head = read_until(&mut client, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    client.write_all(b"\x81\x04ping").await.unwrap();
    read_until(&mut app, "ping").await;
    app.write_all(b"\x81\x04pong").await.unwrap();
    read_until(&mut client, "pong").await;
    drop(client);
    assert!(read_to_close(&mut app).await.is_empty(), "one side closes, and so does the other");

    // Any other protocol is not offered to the app.
    let fields = [place.key(), ("connection", "upgrade, http2-settings"), ("upgrade", "h2c")];
    let mut client = place.visitor.connect().await;
    let request = place.visitor.head("GET", "/", &fields) + "\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let mut app = patient(listener.accept()).await.unwrap();
    let seen = patient(read_request(&mut app)).await.unwrap();
    assert!(!seen.contains("h2c") && !seen.contains("upgrade"), "{seen}");
    // And one that it takes all the same is none that was asked for.
    app.write_all(
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
    )
    .await
    .unwrap();
    let head = read_until(&mut client, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    world.close().await;
}

async fn connections_are_kept_on_both_sides(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let place = Place::of(&acme).await;
    let app = place.plays(&world, |_| ok("again"));
    let mut client = place.visitor.connect().await;
    for _ in 0..5 {
        let request = place.visitor.head("GET", "/", &[place.key()]) + "\r\n";
        client.write_all(request.as_bytes()).await.unwrap();
        read_until(&mut client, "again").await;
    }
    assert_eq!((app.seen().len(), app.n_connections()), (5, 1));
    world.close().await;
}

/// It closes between two requests, as apps do after some seconds.
async fn a_connection_that_an_app_has_closed_is_no_failure(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let place = Place::of(&acme).await;
    let mut listener = place.listens(&world);
    let app = tokio::spawn(async move {
        for _ in 0..6 {
            // One answer, without a word that it is the last.
            let mut stream = listener.accept().await.unwrap();
            read_request(&mut stream).await.unwrap();
            stream.write_all(&ok("once")).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    for n in 0..6 {
        let reply = place.visitor.get("/", &[place.key()]).await;
        assert_eq!((reply.status, reply.text()), (200, "once".to_owned()), "request {n}");
    }
    patient(app).await.unwrap();
    world.close().await;
}

async fn an_open_preview_is_activity(database: Database) {
    let world = World::on(database).with(|config| config.idle_timeout_ms = Some(60_000)).await;
    let acme = world.team("acme").await;
    let place = Place::of(&acme).await;
    let unused = acme.starts(json!({})).await;
    opens(&acme, &unused, json!({ "port": 1 })).await;
    let mut listener = place.listens(&world);
    let mut client = place.visitor.connect().await;
    let request = place.visitor.head("GET", "/", &[place.key()]) + "\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let mut app = patient(listener.accept()).await.unwrap();
    patient(read_request(&mut app)).await.unwrap();
    app.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello").await.unwrap();
    read_until(&mut client, "hello").await;
    world.advance("61s").await;
    assert_eq!(acme.sandbox(&unused).await["destroyedReason"], "idle_expired");
    assert_eq!(acme.sandbox(&place.sandbox).await["status"], "ready");
    app.write_all(b"world").await.unwrap();
    read_until(&mut client, "world").await;
    world.close().await;
}
