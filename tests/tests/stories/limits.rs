//! How much at a time: live sandboxes of an organization, and requests of a key.

use domain::limits::Plan;
use futures_util::future::join_all;
use tests::{Answer, Database, Value, World, json, stories};

stories![
    a_full_quota_is_refused_until_something_ends,
    a_quota_is_of_the_organization,
    a_quota_counts_what_is_being_made,
    many_creates_at_once_admit_exactly_the_limit,
    many_creates_at_two_servers_admit_exactly_the_limit,
    many_creates_and_kills_at_once_never_exceed_the_limit,
    a_refused_create_leaves_its_idempotency_key_free,
    requests_beyond_the_rate_are_told_when_to_come_back,
    a_rate_is_of_one_key,
    a_rate_of_zero_is_none,
];

/// Acceptance 30.
async fn a_full_quota_is_refused_until_something_ends(database: Database) {
    let world = World::on(database).await;
    let acme = world.team_on("acme", Plan::Free).await;
    let (one, _) = (acme.starts(json!({})).await, acme.starts(json!({ "ttlMs": 60_000 })).await);
    let error = acme.post("/v1/sandboxes", json!({})).await.refused(429, "quota_exceeded");
    assert_eq!(error["details"]["limit"], 2);
    let quota = acme.get("/v1/usage").await.is(200)["quotas"]["active_sandboxes"].take();
    let full = json!({ "current": 2, "limit": 2, "remaining": 0, "resetAt": null });
    assert_eq!(quota, full);

    acme.kills(&one).await;
    acme.starts(json!({})).await;
    acme.post("/v1/sandboxes", json!({})).await.refused(429, "quota_exceeded");
    world.advance("1m").await;
    acme.starts(json!({})).await; // The second one has expired.
    world.close().await;
}

/// Not of a key or project: a key that sees one project only cannot get past it.
async fn a_quota_is_of_the_organization(database: Database) {
    let world = World::on(database).with(|config| config.max_concurrent_sandboxes = Some(2)).await;
    let (acme, other) = (world.team("acme").await, world.team("other").await);
    let project = acme.project("theirs").await;
    let restricted = acme.restricted_key("all", &[&project]).await;
    acme.starts(json!({})).await;
    acme.starts(json!({})).await;
    restricted.post("/v1/sandboxes", json!({})).await.refused(429, "quota_exceeded");
    other.starts(json!({})).await;
    world.close().await;
}

async fn a_quota_counts_what_is_being_made(database: Database) {
    let world = World::on(database).with(|config| config.max_concurrent_sandboxes = Some(1)).await;
    let acme = world.team("acme").await;
    let hang = world.driver.hang_next(drivers::Verb::Ensure);
    let sandbox = acme.creates(json!({})).await;
    acme.post("/v1/sandboxes", json!({})).await.refused(429, "quota_exceeded");
    hang.release();
    acme.sees(&sandbox, "ready").await;
    world.close().await;
}

fn count(answers: &[Answer], status: u16) -> usize {
    answers.iter().filter(|answer| answer.status == status).count()
}

async fn many_creates_at_once_admit_exactly_the_limit(database: Database) {
    let world = World::on(database).with(|config| config.max_concurrent_sandboxes = Some(10)).await;
    let acme = world.team("acme").await;
    let answers = join_all((0..64).map(|_| acme.post("/v1/sandboxes", json!({})))).await;
    let live = world.number("select count(*) from sandboxes").await;
    assert_eq!((count(&answers, 201), count(&answers, 429), live), (10, 54, 10));
    world.close().await;
}

/// On SQLite there is one server to a database.
async fn many_creates_at_two_servers_admit_exactly_the_limit(database: Database) {
    let mut world =
        World::on(database).with(|config| config.max_concurrent_sandboxes = Some(10)).await;
    if database == Database::Postgres {
        let there = world.replica().await;
        let acme = world.team("acme").await;
        let keys = [there(&acme), (*acme).clone()];
        let asked = (0..64).map(|n| keys[n % 2].post("/v1/sandboxes", json!({})));
        let answers = join_all(asked).await;
        let live = world.number("select count(*) from sandboxes").await;
        assert_eq!((count(&answers, 201), count(&answers, 429), live), (10, 54, 10));
    }
    world.close().await;
}

async fn many_creates_and_kills_at_once_never_exceed_the_limit(database: Database) {
    let world = World::on(database).with(|config| config.max_concurrent_sandboxes = Some(4)).await;
    let acme = world.team("acme").await;
    let workers = (0..8).map(|_| async {
        let mut n_made = 0;
        for _ in 0..6 {
            let made = acme.post("/v1/sandboxes", json!({})).await;
            // One that is killed is listed while it is removed, and counts no more.
            let list = acme.get("/v1/sandboxes").await.is(200);
            let live = |item: &&Value| item["status"] != "expiring";
            assert!(list["data"].as_array().unwrap().iter().filter(live).count() <= 4);
            if made.status == 201 {
                n_made += 1;
                acme.kills(made.json()["sandbox"]["id"].as_str().unwrap()).await;
            } else {
                made.refused(429, "quota_exceeded");
            }
        }
        n_made
    });
    let n_made: usize = join_all(workers).await.into_iter().sum();
    assert!(n_made >= 4, "some were admitted: {n_made}");
    assert_eq!(acme.lists().await.len(), 0);
    let all = acme.get("/v1/sandboxes?include=historical&limit=500").await.is(200);
    assert_eq!(all["data"].as_array().unwrap().len(), n_made);
    world.close().await;
}

/// A refusal is not stored, so the retry really retries (contract, section 5).
async fn a_refused_create_leaves_its_idempotency_key_free(database: Database) {
    let world = World::on(database).with(|config| config.max_concurrent_sandboxes = Some(1)).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let again = acme.idempotent("again");
    again.post("/v1/sandboxes", json!({})).await.refused(429, "quota_exceeded");
    acme.kills(&sandbox).await;
    let made = again.post("/v1/sandboxes", json!({})).await.is(201);
    assert_eq!(again.post("/v1/sandboxes", json!({})).await.is(201), made);
    assert_eq!(acme.lists().await.len(), 1);
    world.close().await;
}

/// Acceptance 10.
async fn requests_beyond_the_rate_are_told_when_to_come_back(database: Database) {
    let world = World::on(database).with(|config| config.rate_limit_per_minute = 3).await;
    let acme = world.team("acme").await;
    for remaining in ["2", "1", "0"] {
        let answer = acme.get("/v1/projects").await;
        assert_eq!(answer.header("x-ratelimit-limit"), "3");
        assert_eq!(answer.header("x-ratelimit-remaining"), remaining, "{answer}");
        answer.is(200);
    }
    let refused = acme.get("/v1/projects").await;
    // One request each 20 s, of which some have passed.
    let after: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=20).contains(&after), "{refused}");
    let error = refused.refused(429, "rate_limited");
    let ms = error["details"]["retryAfterMs"].as_u64().unwrap();
    assert!(ms <= after * 1000 && ms > (after - 1) * 1000, "{error}");
    // The limit goes before the look at the resource and the scope, and counts replays as well.
    acme.get("/v1/sandboxes/x").await.refused(429, "rate_limited");
    world.close().await;
}

async fn a_rate_is_of_one_key(database: Database) {
    let world = World::on(database).with(|config| config.rate_limit_per_minute = 1).await;
    let acme = world.team("acme").await;
    let second = acme.key("all").await;
    acme.get("/v1/projects").await.is(200);
    acme.get("/v1/projects").await.refused(429, "rate_limited");
    second.get("/v1/projects").await.is(200);
    // Who is not let in at all uses up nobody's requests.
    let nobody = world.nobody().with("authorization", "Bearer cn_live_junk");
    for _ in 0..5 {
        nobody.get("/v1/projects").await.refused(401, "invalid_api_key");
    }
    world.close().await;
}

async fn a_rate_of_zero_is_none(database: Database) {
    let world = World::on(database).with(|config| config.rate_limit_per_minute = 0).await;
    let acme = world.team("acme").await;
    let answers = join_all((0..200).map(|_| acme.get("/v1/projects"))).await;
    assert_eq!(count(&answers, 200), 200);
    assert_eq!(answers[0].header("x-ratelimit-limit"), "");
    world.close().await;
}
