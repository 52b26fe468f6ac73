//! Whoever means harm: clients who smuggle, split, spoof and flood, and apps that answer garbage.

use futures_util::{StreamExt, stream::FuturesUnordered};
use tests::{
    Database, World,
    preview::{ok, patient, read_request},
    stories,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Place;

stories![
    tricks_with_hosts_lead_nowhere,
    requests_cannot_be_smuggled,
    oversized_heads_are_refused,
    an_app_that_answers_garbage_is_a_502,
    an_app_cannot_split_an_answer,
    a_flood_of_one_tenant_has_a_bound,
];

async fn tricks_with_hosts_lead_nowhere(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let place = Place::of(&acme).await;
    let app = place.plays(&world, |_| ok("hello"));
    let (name, port) = place.visitor.host.rsplit_once(':').unwrap();
    let slug = name.split('.').next().unwrap();
    let token = format!("x-crownest-preview-token: {}", place.token);
    for (line, hosts, status, why) in [
        ("GET / HTTP/1.1", vec![name.to_owned()], "200", "without a port"),
        ("GET / HTTP/1.1", vec![name.to_uppercase()], "200", "in capitals"),
        ("GET / HTTP/1.1", vec![format!("{name}:443")], "200", "the port of a proxy in front"),
        ("GET / HTTP/1.1", vec![format!("{name}.")], "404", "the root's dot"),
        ("GET / HTTP/1.1", vec![format!("x.{name}")], "404", "a label too many"),
        ("GET / HTTP/1.1", vec![format!("{slug}.localhost")], "404", "a label too few"),
        ("GET / HTTP/1.1", vec![format!("{name}.evil.example")], "404", "a longer domain"),
        ("GET / HTTP/1.1", vec![format!("evil.example/{name}")], "4", "a path in the name"),
        ("GET / HTTP/1.1", vec![format!("{slug}/../x.preview.localhost")], "4", "a path in a slug"),
        ("GET / HTTP/1.1", vec![format!("..%2f{slug}.preview.localhost")], "4", "an escaped path"),
        ("GET / HTTP/1.1", vec![format!("{slug}%00.preview.localhost")], "4", "an escaped NUL"),
        ("GET / HTTP/1.1", vec!["preview.localhost".to_owned()], "404", "no slug"),
        ("GET / HTTP/1.1", vec!["p-.preview.localhost".to_owned()], "404", "half a slug"),
        ("GET / HTTP/1.1", vec![format!("127.0.0.1:{port}")], "404", "the address"),
        ("GET / HTTP/1.1", vec![format!("user@{name}")], "4", "a user"),
        ("GET / HTTP/1.1", vec![], "400", "none"),
        ("GET / HTTP/1.1", vec![name.to_owned(), "evil.example".to_owned()], "400", "two"),
        ("GET / HTTP/1.1", vec![name.to_owned(), name.to_owned()], "400", "the same twice"),
        ("GET http://NAME/ HTTP/1.1", vec![name.to_owned()], "200", "a whole URL"),
        ("GET http://NAME/ HTTP/1.1", vec!["evil.example".to_owned()], "400", "one of two hosts"),
        ("GET http://evil.example/ HTTP/1.1", vec![name.to_owned()], "400", "the other of two"),
        ("CONNECT NAME:80 HTTP/1.1", vec![format!("{name}:80")], "405", "a way to elsewhere"),
    ] {
        let line = line.replace("NAME", name);
        let hosts: String = hosts.iter().map(|host| format!("host: {host}\r\n")).collect();
        let request = format!("{line}\r\n{hosts}{token}\r\nconnection: close\r\n\r\n");
        let answer = place.visitor.raw(request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{why}: {request}{answer}");
    }
    // The name that the app is told is the one that was looked at.
    let names: Vec<_> = app.seen().iter().map(|seen| seen.to_lowercase()).collect();
    assert_eq!(names.len(), 4);
    assert!(names.iter().all(|seen| seen.contains(&format!("host: {name}"))), "{names:?}");
    world.close().await;
}

/// Whatever the framing, the app sees one request for one that is sent, and no other client's.
async fn requests_cannot_be_smuggled(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let place = Place::of(&acme).await;
    let app = place.plays(&world, |_| ok("hello"));
    let head = place.visitor.head("POST", "/", &[place.key()]);
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n";
    let n = smuggled.len();
    for (fields, body, why) in [
        (
            format!("content-length: {n}\r\ntransfer-encoding: chunked"),
            format!("0\r\n\r\n{smuggled}"),
            "both framings",
        ),
        (
            "transfer-encoding: chunked\r\ncontent-length: 4".to_owned(),
            format!("0\r\n\r\n{smuggled}"),
            "both, the other way",
        ),
        (
            "content-length: 3\r\ncontent-length: 50".to_owned(),
            format!("abc{smuggled}"),
            "two lengths",
        ),
        ("content-length: 3, 50".to_owned(), format!("abc{smuggled}"), "a list of lengths"),
        ("content-length: +3".to_owned(), format!("abc{smuggled}"), "a sign"),
        ("content-length: 0x3".to_owned(), format!("abc{smuggled}"), "a base"),
        ("transfer-encoding: xchunked".to_owned(), smuggled.to_owned(), "an unknown coding"),
        (
            "transfer-encoding: chunked, identity".to_owned(),
            smuggled.to_owned(),
            "not chunked last",
        ),
        ("transfer-encoding : chunked".to_owned(), smuggled.to_owned(), "a space before the colon"),
        (" transfer-encoding: chunked".to_owned(), smuggled.to_owned(), "a folded line"),
        ("x: a\rtransfer-encoding: chunked".to_owned(), smuggled.to_owned(), "a bare CR"),
        ("x: a\0b".to_owned(), smuggled.to_owned(), "a NUL"),
        (
            "connection: content-length\r\ncontent-length: 3".to_owned(),
            "abc".to_owned(),
            "a length as a hop",
        ),
        (
            "transfer-encoding: chunked".to_owned(),
            format!("zz\r\n{smuggled}"),
            "a chunk without a size",
        ),
        (
            "transfer-encoding: chunked".to_owned(),
            format!("ffffffffffffffff1\r\n{smuggled}"),
            "a size that overflows",
        ),
    ] {
        let request = format!("{head}{fields}\r\nconnection: close\r\n\r\n{body}");
        place.visitor.raw(request.as_bytes()).await;
        for seen in app.seen() {
            assert!(seen.starts_with("POST / HTTP/1.1\r\n"), "{why}: {seen}");
            let lower = seen.to_ascii_lowercase();
            let framings = lower.matches("\r\ncontent-length:").count()
                + lower.matches("\r\ntransfer-encoding:").count();
            assert!(framings <= 1 && !lower.contains("xchunked"), "{why}: {seen}");
            assert!(!seen.contains("x: a"), "{why}: {seen}");
        }
    }
    // A line break cannot get into what the app sees by way of the target or the cookie.
    for (path, why) in
        [("/a%0d%0aX:%20y", "escaped"), ("/a?x=%0d%0a%0d%0aGET%20/b", "in the query")]
    {
        place.visitor.get(path, &[place.key()]).await;
        assert!(
            app.last().starts_with(&format!("GET {path} HTTP/1.1\r\n")),
            "{why}: {}",
            app.last()
        );
    }
    assert!(app.seen().iter().all(|seen| !seen.contains("/smuggled HTTP")), "{:?}", app.seen());
    world.close().await;
}

async fn oversized_heads_are_refused(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let place = Place::of(&acme).await;
    let app = place.plays(&world, |_| ok("hello"));
    let long = "a".repeat(70_000);
    let many: String = (0..200).map(|n| format!("x-{n}: 1\r\n")).collect();
    let head = place.visitor.head("GET", "/", &[place.key()]);
    for (request, statuses, why) in [
        (format!("{head}x-long: {long}\r\n\r\n"), ["431", "431"], "a long field"),
        (format!("{head}{many}\r\n"), ["431", "431"], "many fields"),
        (
            head.replacen("GET / ", &format!("GET /{long} "), 1) + "\r\n",
            ["414", "431"],
            "a long target",
        ),
        (format!("GET {long}"), ["414", "431"], "a line without an end"),
    ] {
        let answer = place.visitor.raw(request.as_bytes()).await;
        let refused = statuses.iter().any(|s| answer.starts_with(&format!("HTTP/1.1 {s} ")));
        // One that hangs up while the client still writes may be seen as a reset.
        assert!(refused || answer.is_empty(), "{why}: {answer}");
    }
    assert!(app.seen().is_empty());
    let fine = "b".repeat(20_000);
    assert_eq!(place.visitor.get("/", &[place.key(), ("x-fine", &fine)]).await.status, 200);
    assert!(app.last().contains(&fine));
    world.close().await;
}

async fn an_app_that_answers_garbage_is_a_502(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let place = Place::of(&acme).await;
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "a".repeat(70_000));
    let many: String = (0..200).map(|n| format!("x-{n}: 1\r\n")).collect();
    for (answer, why) in [
        ("hello\r\n\r\n".to_owned(), "no HTTP"),
        ("HTTP/1.1 200 OK".to_owned(), "an end in the first line"),
        ("HTTP/1.1 20 OK\r\n\r\n".to_owned(), "a short status"),
        ("HTTP/1.1 999999 OK\r\n\r\n".to_owned(), "a long status"),
        ("HTTP/9.9 200 OK\r\n\r\n".to_owned(), "an unknown version"),
        ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n".to_owned(), "a field without a colon"),
        ("HTTP/1.1 200 OK\r\nx: a\0b\r\n\r\n".to_owned(), "a NUL"),
        ("HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n".to_owned(), "a length that is no number"),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab".to_owned(),
            "two lengths",
        ),
        ("SSH-2.0-OpenSSH_9.2\r\n".to_owned(), "another protocol"),
        ("\u{0}\u{1}\u{2}\u{3}".to_owned(), "bytes"),
        (String::new(), "nothing"),
        (long, "a head that is too long"),
        (format!("HTTP/1.1 200 OK\r\n{many}\r\n"), "too many fields"),
    ] {
        let mut listener = place.listens(&world);
        let app = tokio::spawn(async move {
            let mut stream = listener.accept().await.unwrap();
            read_request(&mut stream).await;
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        });
        let reply = patient(place.visitor.get("/", &[place.key()])).await;
        assert_eq!(reply.status, 502, "{why}: {reply:?}");
        reply.refused(502, "preview_unavailable");
        patient(app).await.unwrap();
    }
    world.close().await;
}

/// What an app sends beyond its answer reaches nobody, neither this client nor the next.
async fn an_app_cannot_split_an_answer(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let place = Place::of(&acme).await;
    let forged =
        "HTTP/1.1 200 OK\r\nset-cookie: crownest-preview=x\r\ncontent-length: 6\r\n\r\nforged";
    let first = format!("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ntrue{forged}");
    let mut listener = place.listens(&world);
    let app = tokio::spawn(async move {
        let mut streams = Vec::new();
        while streams.len() < 2 {
            let mut stream = listener.accept().await.unwrap();
            read_request(&mut stream).await.unwrap();
            let answer = if streams.is_empty() { first.clone().into_bytes() } else { ok("next") };
            stream.write_all(&answer).await.unwrap();
            streams.push(stream);
        }
        streams
    });
    assert_eq!(place.visitor.get("/", &[place.key()]).await.text(), "true");
    assert_eq!(place.visitor.get("/", &[place.key()]).await.text(), "next", "on a new connection");
    drop(patient(app).await.unwrap());
    world.close().await;
}

/// 256 requests of an organization at a time; another one's are not in the way.
async fn a_flood_of_one_tenant_has_a_bound(database: Database) {
    const FLOOD: usize = 300;
    let world = World::on(database).await;
    world.expects_warning("requests through previews of the organization");
    let (acme, other) = (world.team("acme").await, world.team("other").await);
    let (place, quiet) = (Place::of(&acme).await, Place::of(&other).await);
    // It takes connections and says nothing.
    let silent = place.plays(&world, |_| Vec::new());
    let mut waiting = FuturesUnordered::new();
    for n in 0..FLOOD {
        let mut stream = place.visitor.connect().await;
        let head = place.visitor.head("GET", "/", &[place.key()]);
        stream.write_all((head + "connection: close\r\n\r\n").as_bytes()).await.unwrap();
        waiting.push(async move {
            let mut answer = String::new();
            // Whatever came before a reset is an answer as well.
            let _ = stream.read_to_string(&mut answer).await;
            answer
        });
        // The connections to one app are 64; further requests wait for one of them.
        if n < 64 {
            let look = async || (silent.seen().len() > n).then_some(());
            world.until("a request that the app has", look).await;
        }
    }
    // Who is beyond the bound is told so at once; the others wait for the app.
    for n in 256..FLOOD {
        let answer = patient(waiting.next()).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 "), "{n}: {answer}");
        assert!(answer.contains("retry-after: 1\r\n"), "{answer}");
    }
    let app = quiet.plays(&world, |_| ok("hello"));
    assert_eq!(quiet.visitor.get("/", &[quiet.key()]).await.text(), "hello");
    assert_eq!(app.seen().len(), 1);
    world.close().await;
}
