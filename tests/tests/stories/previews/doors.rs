//! Who gets in, and what of a credential the app gets to see, which is nothing.

use tests::{
    Answer, Database, World, json,
    preview::{Visitor, ok},
    stories,
    team::text,
};

use super::{Place, opens};

stories![
    a_key_of_the_organization_opens_a_preview,
    a_token_opens_its_preview_alone,
    a_browser_exchanges_the_token_for_a_cookie,
    neighbors_do_not_ride_on_a_cookie,
    a_closed_preview_tells_people_what_to_do,
    nothing_of_a_suspended_organization_opens,
];

/// Acceptance 64.
async fn a_key_of_the_organization_opens_a_preview(database: Database) {
    let world = World::on(database).await;
    let (acme, rival) = (world.team("acme").await, world.team("rival").await);
    let sandbox = acme.starts(json!({})).await;
    let (preview, _) = opens(&acme, &sandbox, json!({ "port": 8000 })).await;
    let visitor = Visitor::of(&preview);
    let listener = world.driver.listen(sandbox.parse().unwrap(), 8000).unwrap();
    let app = tests::preview::Played::new(listener, |_| ok("hello"));

    let least = acme.key("usage:read").await;
    for (name, value) in [
        ("authorization", format!("Bearer {}", acme.secret)),
        ("authorization", format!("bearer {}", least.secret)),
        ("x-api-key", acme.secret.clone()),
    ] {
        let reply = visitor.get("/", &[(name, &value), ("accept", "*/*")]).await;
        assert_eq!((reply.status, reply.text()), (200, "hello".to_owned()), "{name}");
        let seen = app.last().to_lowercase();
        assert!(!seen.contains("authorization") && !seen.contains("cn_live_"), "{seen}");
        assert!(seen.contains("accept: */*"), "{seen}");
    }
    visitor.get("/", &[]).await.refused(401, "unauthorized");
    let wrong = [("authorization", "Bearer cn_live_wrong")];
    visitor.get("/", &wrong).await.refused(401, "invalid_api_key");
    let tokens = [("authorization", "Bearer pvt_whatever")];
    visitor.get("/", &tokens).await.refused(401, "unauthorized");
    // The app's own credentials open nothing of ours.
    visitor.get("/", &[("authorization", "Bearer eyJhbGciOi")]).await.refused(401, "unauthorized");
    visitor.get("/", &[("authorization", "Basic YTpi")]).await.refused(401, "unauthorized");

    let other = acme.project("other").await;
    let elsewhere = acme.restricted_key("all", &[&other]).await;
    for key in [&*rival, &elsewhere] {
        let bearer = format!("Bearer {}", key.secret);
        visitor.get("/", &[("authorization", &bearer)]).await.refused(404, "not_found");
    }
    acme.delete(&format!("/v1/api-keys/{}", least.id)).await.is(200);
    let bearer = format!("Bearer {}", least.secret);
    visitor.get("/", &[("authorization", &bearer)]).await.refused(401, "invalid_api_key");
    assert_eq!(app.seen().len(), 3, "nobody else reached the app");
    world.close().await;
}

async fn a_token_opens_its_preview_alone(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let (one, two) = (Place::of(&acme).await, Place::of(&acme).await);
    let (app, other) = (one.plays(&world, |_| ok("one")), two.plays(&world, |_| ok("two")));
    let bearer = format!("Bearer {}", one.token);
    let key = format!("Bearer {}", acme.secret);
    for field in [one.key(), ("authorization", &bearer), ("authorization", &key)] {
        assert_eq!(one.visitor.get("/", &[field]).await.text(), "one", "{field:?}");
        assert!(!app.last().contains("pvt_"), "{}", app.last());
    }
    two.visitor.get("/", &[one.key()]).await.refused(401, "unauthorized");
    two.visitor.get("/", &[("authorization", &bearer)]).await.refused(401, "unauthorized");
    assert!(other.seen().is_empty());
    // Not by halves, and not as an API key.
    let half = &one.token[..46];
    one.visitor.get("/", &[("x-crownest-preview-token", half)]).await.refused(401, "unauthorized");
    one.visitor.get("/", &[("x-api-key", "pvt_")]).await.refused(401, "unauthorized");
    acme.anonymous()
        .with("authorization", &bearer)
        .get("/v1/projects")
        .await
        .refused(401, "invalid_api_key");
    // The database knows no token.
    let sql =
        "select count(*) from previews where token_hash is not null and length(token_hash) = 32";
    assert_eq!(world.number(sql).await, 2);
    world.close().await;
}

async fn a_browser_exchanges_the_token_for_a_cookie(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let (one, two) = (Place::of(&acme).await, Place::of(&acme).await);
    let app = one.plays(&world, |_| ok("one"));
    let _other = two.plays(&world, |_| ok("two"));

    let with_token = format!("/a/b?x=1&crownest_preview_token={}&y=2", one.token);
    let sent_back = one.visitor.get(&with_token, &[]).await;
    assert_eq!(sent_back.status, 303);
    assert_eq!(sent_back.field("location"), format!("http://{}/a/b?x=1&y=2", one.visitor.host));
    assert_eq!(sent_back.field("referrer-policy"), "no-referrer");
    assert_eq!(sent_back.field("cache-control"), "no-store");
    let set = sent_back.field("set-cookie").to_owned();
    let attributes = "; Path=/; Max-Age=43200; HttpOnly; SameSite=Lax";
    let cookie = set.strip_suffix(attributes).unwrap_or_else(|| panic!("{set}"));
    assert!(!cookie.contains(&one.token) && !set.to_lowercase().contains("domain"), "{set}");
    assert!(app.seen().is_empty(), "the app is asked when the browser comes back");

    // It opens this preview, and the app sees the other cookies alone.
    let both = format!("theme=dark; {cookie}; lang=de");
    let reply = one.visitor.get("/a/b?x=1&y=2", &[("cookie", &both)]).await;
    assert_eq!(reply.text(), "one");
    assert!(app.last().contains("cookie: theme=dark; lang=de\r\n"), "{}", app.last());
    two.visitor.get("/", &[("cookie", cookie)]).await.refused(401, "unauthorized");
    // The first character: the last one of a signature has bits that say nothing.
    let (promise, signature) = cookie.rsplit_once('.').unwrap();
    let flipped = if signature.starts_with('A') { "B" } else { "A" };
    let forged = format!("{promise}.{flipped}{}", &signature[1..]);
    one.visitor.get("/", &[("cookie", &forged)]).await.refused(401, "unauthorized");
    // Beside one that a neighbor has put there.
    let crowded = format!("crownest-preview=theirs; {cookie}");
    assert_eq!(one.visitor.get("/", &[("cookie", &crowded)]).await.status, 200);

    // A path that looks like another host leads nowhere else.
    let tricky = format!("//evil.example/?crownest_preview_token={}", one.token);
    let sent_back = one.visitor.get(&tricky, &[]).await;
    assert_eq!(sent_back.field("location"), format!("http://{}//evil.example/", one.visitor.host));
    // A wrong token is no way in, nor is a key.
    one.visitor.get("/?crownest_preview_token=pvt_x", &[]).await.refused(401, "unauthorized");
    let key = format!("/?crownest_preview_token={}", acme.secret);
    one.visitor.get(&key, &[]).await.refused(401, "unauthorized");
    // What changes something is carried at once: a browser would not send it again.
    let post = format!("/form?crownest_preview_token={}", one.token);
    assert_eq!(one.visitor.send("POST", &post, &[], b"a=1").await.text(), "one");
    assert!(app.last().starts_with("POST /form HTTP/1.1\r\n"), "{}", app.last());

    world.moves("12h");
    one.visitor.get("/", &[("cookie", cookie)]).await.refused(401, "unauthorized");
    world.close().await;
}

/// Previews are neighbors: browsers take them for one site.
async fn neighbors_do_not_ride_on_a_cookie(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let place = Place::of(&acme).await;
    let app = place.plays(&world, |_| ok("hello"));
    let exchange = format!("/?crownest_preview_token={}", place.token);
    let set = place.visitor.get(&exchange, &[]).await.field("set-cookie").to_owned();
    let cookie = ("cookie", set.split(';').next().unwrap());
    let own = format!("http://{}", place.visitor.host);
    let upgrade = [("connection", "upgrade"), ("upgrade", "websocket")];
    let evil = ("origin", "http://p-evil.preview.localhost:8788");
    let refused = place.visitor.send("POST", "/", &[cookie, evil], b"x").await;
    refused.refused(403, "forbidden");
    let websocket = place.visitor.get("/", &[cookie, evil, upgrade[0], upgrade[1]]).await;
    websocket.refused(403, "forbidden");
    let image = [cookie, ("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors")];
    place.visitor.get("/", &image).await.refused(403, "forbidden");
    assert!(app.seen().is_empty());
    let reply = place.visitor.send("POST", "/", &[cookie, ("origin", &own)], b"x").await;
    assert_eq!(reply.status, 200);
    // A program that has the token itself is nobody's browser.
    assert_eq!(place.visitor.get("/", &[place.key(), evil]).await.status, 200);
    world.close().await;
}

async fn a_closed_preview_tells_people_what_to_do(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let place = Place::of(&acme).await;
    let browser = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
    let page = place.visitor.get("/", &[browser]).await;
    assert_eq!((page.status, page.field("content-type")), (401, "text/html; charset=utf-8"));
    let text_ = page.text();
    assert!(text_.contains("name=\"crownest_preview_token\""), "{text_}");
    assert!(text_.contains("?crownest_preview_token=pvt_..."), "{text_}");
    assert!(!text_.contains(&place.token) && !text_.contains(&acme.org_id), "{text_}");
    assert!(page.field("content-security-policy").contains("default-src 'none'"));
    // Of one that a token does not open, it says so and asks for none.
    let (preview, _) = opens(&acme, &place.sandbox, json!({ "port": 9 })).await;
    let text_ = Visitor::of(&preview).get("/", &[browser]).await.text();
    assert!(text_.contains("cn_live_") && !text_.contains("<form"), "{text_}");
    // Nothing listens: a page as well.
    let page = place.visitor.get("/", &[browser, place.key()]).await;
    assert_eq!((page.status, page.field("content-type")), (502, "text/html; charset=utf-8"));
    world.close().await;
}

async fn nothing_of_a_suspended_organization_opens(database: Database) {
    let world = World::on(database).await;
    let (owner, acme) = (world.owner().await, world.team("acme").await);
    let place = Place::of(&acme).await;
    let _app = place.plays(&world, |_| ok("hello"));
    let exchange = format!("/?crownest_preview_token={}", place.token);
    let set = place.visitor.get(&exchange, &[]).await.field("set-cookie").to_owned();
    let path = format!("/admin/v1/organizations/{}/suspend", acme.org_id);
    let suspended: Answer = owner.post(&path, json!({ "reason": "unpaid" })).await;
    suspended.is(200);
    let bearer = format!("Bearer {}", acme.secret);
    let cookie = set.split(';').next().unwrap();
    for field in [place.key(), ("authorization", &bearer), ("cookie", cookie)] {
        place.visitor.get("/", &[field]).await.refused(403, "org_suspended");
    }
    let path = format!("/admin/v1/organizations/{}/resume", acme.org_id);
    owner.post_nothing(&path).await.is(200);
    assert_eq!(place.visitor.get("/", &[place.key()]).await.text(), "hello");
    let seen = acme.get(&format!("/v1/previews/{}", place.id)).await.is(200);
    assert_eq!(text(&seen["preview"]["id"]), place.id);
    world.close().await;
}
