//! Links to logs, files and artifacts are one mechanism: each opens one thing of one organization for a
//! while, whatever becomes of the key that signed it.

use api::app::{
    App,
    audit::Actor,
    signing_keys::{self, Old},
};
use tests::{
    Database, Key, Team, Value, World, json,
    preview::{Played, Visitor, ok},
    stories,
    team::text,
};

use super::{at, copies};

stories![
    a_link_opens_one_artifact_for_a_while,
    a_changed_link_opens_nothing,
    a_key_is_rotated_under_its_links,
    a_key_is_rotated_under_its_cookies,
    a_key_that_somebody_knows_is_dropped,
    a_suspended_organization_s_links_open_nothing,
];

/// A link to each kind of thing, and what it opens.
async fn links(team: &Team) -> Vec<(String, &'static str)> {
    let sandbox = team.starts(json!({})).await;
    let run = team.runs(&sandbox, "echo log; echo file > f; echo artifact > a").await;
    let made = copies(team, &sandbox, "a").await;
    let log = format!("/v1/commands/{}/logs/download-url", text(&run["id"]));
    let file = format!("/v1/sandboxes/{sandbox}/files/download-url");
    let url = |link: Value| text(&link["url"]);
    vec![
        (url(team.post_nothing(&log).await.is(200)), "log\n"),
        (url(team.post(&file, json!({ "path": "f" })).await.is(200)), "file\n"),
        (
            url(team.post_nothing(&format!("{}/download-url", at(&made))).await.is(200)),
            "artifact\n",
        ),
    ]
}

async fn all_open(key: &Key, links: &[(String, &str)]) {
    for (url, wanted) in links {
        let opened = key.get(url).await;
        assert_eq!((opened.status, &*opened.text()), (200, *wanted), "{url}");
    }
}

async fn a_link_opens_one_artifact_for_a_while(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    acme.runs(&sandbox, "echo x > f; echo other > g").await;
    let made = copies(&acme, &sandbox, "f").await;
    let other = copies(&acme, &sandbox, "g").await;
    acme.kills(&sandbox).await;
    let link = acme.post_nothing(&format!("{}/download-url", at(&made))).await.is(200);
    assert_eq!((&link["method"], &link["authMode"]), (&json!("GET"), &json!("api_key")));
    assert_eq!(link["headers"], json!({ "x-content-type-options": "nosniff" }));
    assert_eq!(link["expiresAt"], world.stamp("15m"));
    let url = text(&link["url"]);
    let nobody = world.nobody();
    assert_eq!(nobody.get(&url).await.text(), "x\n");
    let (bare, token) = url.split_once("?token=").unwrap();
    assert_eq!(acme.get(bare).await.text(), "x\n");
    nobody.get(bare).await.refused(401, "unauthorized");
    let elsewhere = format!("{}/download?token={token}", at(&other));
    nobody.get(&elsewhere).await.refused(401, "unauthorized");
    nobody.get(&format!("{}?token={token}", at(&made))).await.refused(401, "unauthorized");
    nobody.delete(&format!("{}?token={token}", at(&made))).await.refused(401, "unauthorized");
    world.team("rival").await.get(bare).await.refused(404, "not_found");
    world.moves("899s");
    assert_eq!(nobody.get(&url).await.text(), "x\n");
    world.moves("1s");
    nobody.get(&url).await.refused(401, "unauthorized");
    assert_eq!(acme.get(&url).await.text(), "x\n", "a key opens it all the same");
    let link = acme.post_nothing(&format!("{}/download-url", at(&made))).await.is(200);
    acme.delete(&at(&made)).await.is(200);
    nobody.get(&text(&link["url"])).await.refused(404, "not_found");
    world.close().await;
}

async fn a_changed_link_opens_nothing(database: Database) {
    let world = World::on(database).await;
    let (acme, rival) = (world.team("acme").await, world.team("rival").await);
    let nobody = world.nobody();
    let theirs = links(&rival).await;
    for ((url, wanted), (other, _)) in links(&acme).await.iter().zip(&theirs) {
        assert_eq!(nobody.get(url).await.text(), *wanted);
        let (bare, token) = url.split_once("token=").unwrap();
        let parts: Vec<_> = token.split('.').collect();
        let [until, org, key, signature] = parts[..] else { panic!("{token}") };
        let later = (until.parse::<i64>().unwrap() + 1).to_string();
        let their_token = other.split_once("token=").unwrap().1;
        let their_org = their_token.split('.').nth(1).unwrap();
        let flipped = if signature.starts_with('A') { "B" } else { "A" };
        for changed in [
            [&*later, org, key, signature].join("."),
            [until, their_org, key, signature].join("."),
            [until, org, org, signature].join("."),
            [until, org, key, &format!("{flipped}{}", &signature[1..])].join("."),
            [until, org, key, &signature[..20]].join("."),
            [until, org, key, ""].join("."),
            [until, org, key, signature, ""].join("."),
            their_token.to_owned(),
            "x".to_owned(),
        ] {
            nobody.get(&format!("{bare}token={changed}")).await.refused(401, "unauthorized");
        }
    }
    world.close().await;
}

async fn rotates(world: &World, old: Old) {
    let rotate = |app: std::sync::Arc<App>| async move {
        signing_keys::rotate(&app, &Actor::operator(), old).await
    };
    world.server().within(rotate).await.unwrap();
}

async fn a_key_is_rotated_under_its_links(database: Database) {
    const KEYS: &str = "select count(*) from signing_keys";
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let nobody = world.nobody();
    let old = links(&acme).await;
    rotates(&world, Old::Retire).await;
    let new = links(&acme).await;
    let key = |links: &[(String, &str)]| {
        let token = links[0].0.split_once("token=").unwrap().1;
        token.split('.').nth(2).unwrap().to_owned()
    };
    assert_ne!(key(&old), key(&new), "the new key signs");
    all_open(&nobody, &old).await;
    all_open(&nobody, &new).await;
    world.moves("14m");
    world.keeps_house().await;
    all_open(&nobody, &old).await;
    assert_eq!(world.number(KEYS).await, 2, "a link of the old key may still be open");
    // A cookie of it may be for 12 hours, and another hour is for clocks that differ.
    world.moves("766m");
    world.keeps_house().await;
    assert_eq!(world.number(KEYS).await, 2);
    world.moves("1m");
    world.keeps_house().await;
    assert_eq!(world.number(KEYS).await, 1, "nothing that the old key signed is open");
    let told = "select count(*) from audit_entries where action = 'signing_key.rotate'";
    assert_eq!(world.number(told).await, 1);
    world.close().await;
}

async fn a_key_is_rotated_under_its_cookies(database: Database) {
    let long = |config: &mut api::config::Config| config.max_create_ttl_ms = Some(86_400_000);
    let world = World::on(database).with(long).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({ "ttlMs": 86_400_000 })).await;
    let wanted = json!({ "port": 8000, "authMode": "token" });
    let made = acme.post(&format!("/v1/sandboxes/{sandbox}/previews"), wanted).await.is(201);
    let visitor = Visitor::of(&made["preview"]);
    let listener = world.driver.listen(sandbox.parse().unwrap(), 8000).unwrap();
    let _app = Played::new(listener, |_| ok("hello"));
    let exchange = format!("/?crownest_preview_token={}", text(&made["previewToken"]));
    let set = visitor.get(&exchange, &[]).await.field("set-cookie").to_owned();
    let cookie = ("cookie", set.split(';').next().unwrap());
    rotates(&world, Old::Retire).await;
    world.moves("2h");
    world.keeps_house().await;
    assert_eq!(visitor.get("/", &[cookie]).await.text(), "hello");
    // A server remembers a key for some seconds after it is gone.
    assert_eq!(world.number("select count(*) from signing_keys").await, 2);
    world.moves("10h");
    visitor.get("/", &[cookie]).await.refused(401, "unauthorized");
    world.close().await;
}

async fn a_key_that_somebody_knows_is_dropped(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let nobody = world.nobody();
    let old = links(&acme).await;
    all_open(&nobody, &old).await;
    rotates(&world, Old::Drop).await;
    for (url, _) in &old {
        // A server remembers a key for some seconds.
        let refused = async || (nobody.get(url).await.status == 401).then_some(());
        world.until("the end of the old links", refused).await;
    }
    all_open(&nobody, &links(&acme).await).await;
    world.close().await;
}

async fn a_suspended_organization_s_links_open_nothing(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let links = links(&acme).await;
    let owner = world.owner().await;
    let path = format!("/admin/v1/organizations/{}/suspend", acme.org_id);
    owner.post(&path, json!({ "reason": "a story" })).await.is(200);
    for (url, _) in &links {
        world.nobody().get(url).await.refused(403, "org_suspended");
    }
    world.close().await;
}
