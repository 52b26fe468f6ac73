//! Operators' keys: made once, shown once, revoked at once, and written down.

use futures_util::future::join_all;
use store::audit::Chain;
use tests::{Database, World, json, stories, team::ids};

use super::{acts, trail};

stories![
    an_admin_key_is_listed_without_its_secret,
    a_revoked_admin_key_opens_nothing_at_once,
    an_admin_key_revoked_at_one_server_is_refused_at_the_other,
    a_retry_makes_no_second_admin_key,
    what_operators_do_and_are_refused_is_written_down,
    the_last_use_of_an_admin_key_is_written_down,
    too_many_requests_of_an_operator_are_refused,
];

const KEYS: &str = "/admin/v1/admin-keys";

async fn an_admin_key_is_listed_without_its_secret(database: Database) {
    let world = World::on(database).await;
    let owner = world.owner().await;
    world.moves("1s");
    let support = owner.operator("support").await;
    assert!(support.secret.starts_with("cn_admin_"));
    let list = owner.get(KEYS).await;
    for secret in [&owner.secret, &support.secret] {
        assert!(!list.text().contains(&secret[20..]), "a secret is shown once");
    }
    let list = list.is(200);
    assert_eq!(ids(&list["data"]), [support.id.clone(), owner.id.clone()], "newest first");
    let key = &list["data"][0];
    assert_eq!(key["prefix"], support.secret[..19]);
    assert_eq!(key["last4"], support.secret[support.secret.len() - 4..]);
    assert_eq!(key["role"], "support");
    assert_eq!(key["createdByAdminKeyId"], owner.id.as_str());
    assert_eq!(key["createdAt"], world.stamp("0s"));
    let first = &list["data"][1];
    for absent in ["createdByAdminKeyId", "revokedAt", "secret"] {
        assert!(first.get(absent).is_none(), "{absent} is left out");
    }
    let got = owner.get(&format!("{KEYS}/{}", support.id)).await.is(200);
    assert_eq!(&got["adminKey"], key);
    let page = owner.get(&format!("{KEYS}?limit=1")).await.is(200);
    let cursor = page["nextCursor"].as_str().unwrap();
    let page = owner.get(&format!("{KEYS}?limit=1&cursor={cursor}")).await.is(200);
    assert_eq!((ids(&page["data"]), &page["hasMore"]), (vec![owner.id.clone()], &json!(false)));
    for body in [json!({ "name": "x", "role": "root" }), json!({ "name": " ", "role": "owner" })] {
        owner.post(KEYS, body).await.refused(400, "invalid_request");
    }
    world.close().await;
}

async fn a_revoked_admin_key_opens_nothing_at_once(database: Database) {
    let world = World::on(database).await;
    let owner = world.owner().await;
    let leaver = owner.operator("owner").await;
    leaver.get(KEYS).await.is(200);
    let path = format!("{KEYS}/{}", leaver.id);
    let (revoked, then) = (owner.delete(&path).await.is(200), world.stamp("0s"));
    assert_eq!(revoked["adminKey"]["revokedAt"], then.as_str());
    leaver.get(KEYS).await.refused(401, "invalid_api_key");
    world.moves("1m");
    assert_eq!(owner.delete(&path).await.is(200)["adminKey"]["revokedAt"], then.as_str());
    // Itself, too: whoever can reach the installation makes another one.
    owner.delete(&format!("{KEYS}/{}", owner.id)).await.is(200);
    owner.get(KEYS).await.refused(401, "invalid_api_key");
    world.close().await;
}

async fn an_admin_key_revoked_at_one_server_is_refused_at_the_other(database: Database) {
    let mut world = World::on(database).await;
    if database == Database::Postgres {
        let there = world.replica().await;
        let owner = world.owner().await;
        let leaver = owner.operator("auditor").await;
        leaver.get(KEYS).await.is(200);
        there(&leaver).get(KEYS).await.is(200);
        owner.delete(&format!("{KEYS}/{}", leaver.id)).await.is(200);
        let refused = async || (there(&leaver).get(KEYS).await.status == 401).then_some(());
        world.until("the refusal at the other server", refused).await;
    }
    world.close().await;
}

/// The secret is in the first answer alone: it is stored nowhere, so no replay can have it.
async fn a_retry_makes_no_second_admin_key(database: Database) {
    let world = World::on(database).await;
    let owner = world.owner().await;
    let body = json!({ "name": "ann", "role": "owner" });
    let patient = owner.idempotent("k1");
    let asked = (0..6).map(|_| patient.post(KEYS, body.clone()));
    let answers: Vec<_> = join_all(asked).await.into_iter().collect();
    let mut made: Vec<_> = answers.into_iter().filter(|answer| answer.status == 201).collect();
    assert!(!made.is_empty());
    made.push(patient.post(KEYS, body.clone()).await);
    let made: Vec<_> = made.into_iter().map(|answer| answer.is(201)).collect();
    assert!(made.iter().all(|answer| answer["adminKey"] == made[0]["adminKey"]), "{made:?}");
    let shown = made.iter().filter(|answer| answer.get("secret").is_some()).count();
    assert_eq!(shown, 1, "{made:?}");
    let secret = made.iter().find_map(|answer| answer["secret"].as_str()).unwrap();
    assert_eq!(world.number("select count(*) from admin_keys").await, 2);
    let stored = format!(
        "select count(*) from idempotency_records where cast(body as text) like '%{}%'",
        &secret[20..40]
    );
    if database == Database::Sqlite {
        assert_eq!(world.number(&stored).await, 0, "a secret is stored nowhere");
    }
    let other = json!({ "name": "bob", "role": "owner" });
    patient.post(KEYS, other.clone()).await.refused(409, "idempotency_key_reused");
    // Another operator's request is another one, whatever its key is called.
    let second = owner.operator("owner").await.idempotent("k1");
    second.post(KEYS, other).await.is(201);
    // A tenant's records are apart as well.
    let acme = world.team("acme").await.idempotent("k1");
    acme.post("/v1/projects", json!({ "name": "p" })).await.is(201);
    world.close().await;
}

async fn what_operators_do_and_are_refused_is_written_down(database: Database) {
    let world = World::on(database).await;
    let owner = world.owner().await;
    let auditor = owner.operator("auditor").await;
    auditor.post(KEYS, json!({ "name": "x", "role": "owner" })).await.refused(403, "forbidden");
    auditor.get("/admin/v1/organizations").await.is(200);
    owner.delete(&format!("{KEYS}/{}", auditor.id)).await.is(200);
    owner.delete(&format!("{KEYS}/{}", auditor.id)).await.is(200);
    let trail = trail(&world, Chain::Installation).await;
    let (owner, auditor) = (&*owner.id, &*auditor.id);
    assert_eq!(
        acts(&trail),
        [
            ["admin_key.create", "operator", "ok"],
            ["admin_key.create", owner, "ok"],
            ["createAdminKey", auditor, "forbidden"],
            ["admin_key.revoke", owner, "ok"],
        ]
    );
    assert_eq!(trail[1]["object"], auditor);
    assert_eq!(trail[1]["details"]["role"], "auditor");
    assert_eq!(trail[1]["origin"], "127.0.0.1");
    assert_eq!((&trail[2]["object"], &trail[2]["orgId"]), (&json!(KEYS), &json!(null)));
    assert!(trail[2]["requestId"].as_str().unwrap().starts_with("req_"));
    world.close().await;
}

async fn the_last_use_of_an_admin_key_is_written_down(database: Database) {
    let world = World::on(database).await;
    let owner = world.owner().await;
    let busy = owner.operator("support").await;
    world.moves("5m");
    busy.get("/admin/v1/organizations").await.is(200);
    world.keeps_house().await;
    let key = owner.get(&format!("{KEYS}/{}", busy.id)).await.is(200);
    assert_eq!(key["adminKey"]["lastUsedAt"], world.stamp("0s"));
    world.close().await;
}

async fn too_many_requests_of_an_operator_are_refused(database: Database) {
    let world = World::on(database).with(|config| config.rate_limit_per_minute = 2).await;
    let owner = world.owner().await;
    for left in [1, 0] {
        let answer = owner.get(KEYS).await;
        assert_eq!(answer.header("x-ratelimit-remaining"), left.to_string());
        answer.is(200);
    }
    owner.get(KEYS).await.refused(429, "rate_limited");
    world.close().await;
}
