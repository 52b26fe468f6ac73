//! Credit, spend caps and the ledger through the admin API.

use billing::money::CREDIT;
use domain::{
    id::{GrantId, OrganizationId},
    limits::Plan,
};
use futures_util::future::join_all;
use tests::{Admin, Answer, Database, Team, Value, World, json, stories, team::text};

use super::{acts, trail};

stories![
    credit_is_granted_listed_and_booked,
    a_grant_is_made_once_however_often_it_is_asked_for,
    credit_is_taken_back_by_a_transaction_that_points_back,
    no_more_is_taken_back_than_is_left_when_all_usage_is_paid,
    a_spend_cap_is_set_shown_and_removed,
    the_ledger_is_read_page_by_page_and_as_a_journal,
    what_makes_no_sense_about_money_is_refused_by_name,
];

fn path(team: &Team, rest: &str) -> String {
    format!("/admin/v1/organizations/{}/{rest}", team.org_id)
}

fn order(key: &str, credits: &str) -> Value {
    json!({ "kind": "purchased", "credits": credits, "key": key, "reason": "an order" })
}

async fn grants(owner: &Admin, team: &Team, key: &str, credits: &str) -> Value {
    owner.post(&path(team, "credit-grants"), order(key, credits)).await.is(201)
}

async fn credit_is_granted_listed_and_booked(database: Database) {
    let world = World::on(database).await;
    let owner = world.owner().await;
    let acme = world.team_on("acme", Plan::Enterprise).await;
    let billing = owner.operator("billing").await;
    let expires_at = world.stamp("365d");
    let mut body = order("po-17", "12.500000001");
    body["expiresAt"] = json!(expires_at);
    body["priority"] = json!(50);
    let made = billing.post(&path(&acme, "credit-grants"), body).await.is(201);
    let grant = &made["grant"];
    assert_eq!((&grant["kind"], &grant["priority"]), (&json!("purchased"), &json!(50)));
    assert_eq!((&grant["granted"], &grant["left"]), (&json!("12.500000001"), &grant["granted"]));
    let transaction = &made["transaction"];
    assert_eq!((&transaction["kind"], &transaction["seq"]), (&json!("grant"), &json!(1)));
    assert_eq!(transaction["reason"], "an order");
    assert_eq!(
        transaction["postings"],
        json!([
            { "account": "issued", "credits": "-12.500000001" },
            { "account": "credit:purchased", "grantId": grant["id"], "credits": "12.500000001" },
        ])
    );
    assert_eq!(world.credit(&acme).await, 12 * CREDIT + 500_000_001);

    world.moves("1s");
    let second = grants(&owner, &acme, "po-18", "1").await;
    let list = owner.get(&path(&acme, "credit-grants?limit=1")).await.is(200);
    assert_eq!(list["data"], json!([second["grant"]]), "newest first");
    let cursor = list["nextCursor"].as_str().unwrap();
    let list = owner.get(&path(&acme, &format!("credit-grants?limit=1&cursor={cursor}"))).await;
    assert_eq!(list.is(200)["data"], json!([grant]));
    let balance = owner.get(&path(&acme, "balance")).await.is(200);
    assert_eq!((&balance["credits"], &balance["worth"]), (&json!("13.500000001"), &json!("0.45")));
    assert_eq!(balance["grants"][0]["id"], grant["id"], "the smaller number is burnt first");

    let trail = trail(&world, acme.org()).await;
    let told: Vec<_> = trail.iter().filter(|line| line["action"] == "credit.grant").collect();
    assert_eq!((told.len(), &told[0]["actor"]), (2, &json!(billing.id)));
    assert_eq!(told[0]["object"], grant["id"]);
    assert_eq!(
        told[0]["details"],
        json!({ "kind": "purchased", "credits": "12.500000001", "reason": "an order" })
    );
    assert_eq!(told[0]["origin"], "127.0.0.1");
    world.close().await;
}

/// By the key of the request, by the key of the grant, and with both at once from two servers.
async fn a_grant_is_made_once_however_often_it_is_asked_for(database: Database) {
    let mut world = World::on(database).await;
    let owner = world.owner().await;
    let acme = world.team_on("acme", Plan::Enterprise).await;
    let path = path(&acme, "credit-grants");
    let patient = owner.idempotent("once");
    let mut other = patient.clone();
    if database == Database::Postgres {
        other = world.replica().await(&patient);
    }
    let asked = (0..12).map(|n| {
        let key = match n % 4 {
            0 => patient.clone(),
            1 => other.clone(),
            _ => owner.anonymous().with("authorization", &format!("Bearer {}", owner.secret)),
        };
        let path = &path;
        async move { key.post(path, order("po-1", "5")).await }
    });
    let answers: Vec<Answer> = join_all(asked).await;
    for answer in answers {
        match answer.status {
            200 | 201 => assert_eq!(answer.json()["grant"]["granted"], "5"),
            _ => drop(answer.refused(409, "idempotency_request_in_progress")),
        }
    }
    assert_eq!(world.credit(&acme).await, 5 * CREDIT);
    // An hour later, with another request key: it is the same grant.
    world.moves("1h");
    let again = owner.idempotent("later").post(&path, order("po-1", "5.0")).await.is(200);
    assert_eq!((&again["transaction"]["seq"], &again["grant"]["left"]), (&json!(1), &json!("5")));
    let error = owner.post(&path, order("po-1", "6")).await.refused(409, "conflict");
    assert_eq!(error["details"]["field"], "key");
    assert_eq!(world.credit(&acme).await, 5 * CREDIT);
    let told = trail(&world, acme.org()).await;
    let n_told = acts(&told).iter().filter(|[action, ..]| *action == "credit.grant").count();
    assert_eq!(n_told, 1);
    world.close().await;
}

async fn credit_is_taken_back_by_a_transaction_that_points_back(database: Database) {
    let world = World::on(database).await;
    let owner = world.owner().await;
    let acme = world.team_on("acme", Plan::Enterprise).await;
    let made = grants(&owner, &acme, "typo", "1000").await;
    let path = path(&acme, "credit-adjustments");
    let body = json!({
        "credits": "-900", "grantId": made["grant"]["id"], "key": "t-1", "reason": "a zero too many",
    });
    let taken = owner.post(&path, body.clone()).await.is(201);
    assert_eq!(
        (&taken["grant"]["left"], &taken["grant"]["granted"]),
        (&json!("100"), &json!("1000"))
    );
    let transaction = &taken["transaction"];
    assert_eq!(transaction["kind"], "correction");
    assert_eq!(transaction["correctsTransactionId"], made["transaction"]["id"]);
    assert_eq!(
        transaction["postings"],
        json!([
            { "account": "credit:purchased", "grantId": made["grant"]["id"], "credits": "-900" },
            { "account": "issued", "credits": "900" },
        ])
    );
    assert_eq!(world.credit(&acme).await, 100 * CREDIT);
    // Again: nothing more is taken, and other content is refused.
    assert_eq!(owner.post(&path, body.clone()).await.is(200), taken);
    let mut other = body.clone();
    other["credits"] = json!("-1");
    owner.post(&path, other).await.refused(409, "conflict");
    assert_eq!(world.credit(&acme).await, 100 * CREDIT);
    // Given: a grant of its own.
    let body = json!({ "credits": "2.5", "key": "t-1", "reason": "for the trouble" });
    let given = owner.post(&path, body).await.is(201);
    assert_eq!(
        (&given["grant"]["kind"], &given["grant"]["left"]),
        (&json!("adjustment"), &json!("2.5"))
    );
    assert_eq!(world.credit(&acme).await, 102 * CREDIT + CREDIT / 2);
    let told = trail(&world, acme.org()).await;
    let told = told.iter().find(|line| line["action"] == "credit.take_back").unwrap();
    assert_eq!((&told["object"], &told["actor"]), (&made["grant"]["id"], &json!(owner.id)));
    world.close().await;
}

/// 10 credits at a thousandth of a credit a second: after 1000 s, 9 are left, booked or not.
async fn no_more_is_taken_back_than_is_left_when_all_usage_is_paid(database: Database) {
    let world = World::on(database).await;
    let owner = world.owner().await;
    let acme = world.team_on("acme", Plan::Enterprise).await;
    let made = grants(&owner, &acme, "po-1", "10").await;
    let sandbox = acme.starts(json!({})).await;
    world.advance("1000s").await;
    let path = path(&acme, "credit-adjustments");
    let take = |credits: &str, key: &str| {
        let grant = &made["grant"]["id"];
        json!({ "credits": credits, "grantId": grant, "key": key, "reason": "r" })
    };
    let error = owner.post(&path, take("-9.000000001", "a")).await.refused(409, "conflict");
    assert_eq!(error["details"]["field"], "credits");
    assert!(text(&error["message"]).starts_with("9 credits"), "{error}");
    let taken = owner.post(&path, take("-9", "b")).await.is(201);
    assert_eq!(taken["grant"]["granted"], "10");
    acme.kills(&sandbox).await;
    world.advance("2m").await;
    // What was measured up to then is paid by what was left for it.
    assert_eq!(world.credit(&acme).await, 0);
    assert_eq!(world.balance(&acme, "usage").await, CREDIT);
    assert_eq!(world.balance(&acme, "overage").await, 0);
    world.close().await;
}

async fn a_spend_cap_is_set_shown_and_removed(database: Database) {
    let world = World::on(database).await;
    let owner = world.owner().await;
    let acme = world.team("acme").await;
    let (path, changes) = (path(&acme, "spend-cap"), path(&acme, "terms-changes"));
    assert_eq!(owner.get(&path).await.is(200), json!({}));
    let body = json!({ "cap": "250.50", "reason": "they asked" });
    assert_eq!(owner.put(&path, body).await.is(200), json!({ "cap": "250.5" }));
    assert_eq!(owner.get(&path).await.is(200), json!({ "cap": "250.5" }));
    let removed = owner.delete(&format!("{path}?reason=they+asked+again")).await;
    assert_eq!(removed.is(200), json!({}));
    let changes = owner.get(&changes).await.is(200);
    let settings: Vec<_> =
        changes["data"].as_array().unwrap().iter().map(|c| &c["setting"]).collect();
    assert_eq!(settings, ["spend_cap", "spend_cap", "plan"], "the last first");
    assert_eq!(changes["data"][1]["value"], "250.5");
    assert_eq!(changes["data"][0]["reason"], "they asked again");
    let told = trail(&world, acme.org()).await;
    let n_told = acts(&told).iter().filter(|[action, ..]| *action == "spend_cap.set").count();
    assert_eq!(n_told, 2);
    world.close().await;
}

async fn the_ledger_is_read_page_by_page_and_as_a_journal(database: Database) {
    let world = World::on(database).await;
    let owner = world.owner().await;
    let acme = world.team_on("acme", Plan::Enterprise).await;
    for n in 1..=5 {
        grants(&owner, &acme, &format!("po-{n}"), "1").await;
    }
    let (mut cursor, mut seen) = (String::new(), Vec::new());
    loop {
        let page = owner.get(&path(&acme, &format!("transactions?limit=2{cursor}"))).await.is(200);
        seen.extend(page["data"].as_array().unwrap().iter().map(|t| t["seq"].as_i64().unwrap()));
        cursor = format!("&cursor={}", text(&page["nextCursor"]));
        if page["hasMore"] == false {
            break;
        }
    }
    assert_eq!(seen, [1, 2, 3, 4, 5]);
    // The cursor of the last page is where to go on later.
    let page = owner.get(&path(&acme, &format!("transactions?limit=2{cursor}"))).await.is(200);
    assert_eq!((&page["data"], &page["nextCursor"]), (&json!([]), &json!("5")));
    grants(&owner, &acme, "po-6", "1").await;
    let page = owner.get(&path(&acme, &format!("transactions?limit=2{cursor}"))).await.is(200);
    assert_eq!(page["data"][0]["seq"], 6);
    let journal = owner.get(&path(&acme, "journal")).await;
    assert_eq!(journal.header("content-type"), "text/plain; charset=utf-8");
    let printed = format!("journal --organization {}", acme.org_id);
    assert_eq!(journal.text(), tests::operator::says(&world, &printed).await.is_done());
    world.close().await;
}

async fn what_makes_no_sense_about_money_is_refused_by_name(database: Database) {
    let world = World::on(database).await;
    let owner = world.owner().await;
    let acme = world.team("acme").await;
    let with = |name: &str, value: Value| {
        let mut body = order("k", "1");
        body[name] = value;
        body
    };
    for (body, field) in [
        (with("credits", json!(1)), "credits"),
        (with("credits", json!("0")), "credits"),
        (with("credits", json!("-1")), "credits"),
        (with("credits", json!("0.0000000001")), "credits"),
        (with("credits", json!("1e3")), "credits"),
        (with("kind", json!("plan")), "kind"),
        (with("kind", json!("gift")), "kind"),
        (with("key", json!("")), "key"),
        (with("key", json!("a\u{0}b")), "key"),
        (with("reason", json!(" ")), "reason"),
        (with("reason", json!("a\u{0}b")), "reason"),
        (with("expiresAt", json!("2031-03-10T12:00:00.000Z")), "expiresAt"),
    ] {
        let answer = owner.post(&path(&acme, "credit-grants"), body.clone()).await;
        let error = answer.refused(400, "invalid_request");
        assert_eq!(error["details"]["field"], field, "{body}");
    }
    let unknown = GrantId::generate(world.now());
    for (body, field) in [
        (json!({ "credits": "-1", "key": "k", "reason": "r" }), "grantId"),
        (json!({ "credits": "-1", "key": "k", "reason": "r", "grantId": unknown }), "grantId"),
        (json!({ "credits": "1", "key": "k", "reason": "r", "grantId": unknown }), "grantId"),
        (json!({ "credits": "0", "key": "k", "reason": "r" }), "credits"),
    ] {
        let answer = owner.post(&path(&acme, "credit-adjustments"), body.clone()).await;
        let error = answer.refused(400, "invalid_request");
        assert_eq!(error["details"]["field"], field, "{body}");
    }
    let rival = world.team("rival").await;
    let others = grants(&owner, &rival, "po", "5").await;
    let grant = &others["grant"]["id"];
    let body = json!({ "credits": "-1", "key": "k", "reason": "r", "grantId": grant });
    owner.post(&path(&acme, "credit-adjustments"), body).await.refused(400, "invalid_request");
    assert_eq!(
        owner.get(&path(&rival, "balance")).await.is(200)["grants"].as_array().map(|grants| {
            grants.iter().any(|left| left["id"] == *grant && left["left"] == "5")
        }),
        Some(true)
    );
    let nowhere = OrganizationId::generate(world.now());
    let nowhere = format!("/admin/v1/organizations/{nowhere}");
    owner
        .post(&format!("{nowhere}/credit-grants"), order("k", "1"))
        .await
        .refused(404, "not_found");
    for list in
        ["credit-grants", "transactions", "journal", "balance", "spend-cap", "terms-changes"]
    {
        owner.get(&format!("{nowhere}/{list}")).await.refused(404, "not_found");
    }
    world.close().await;
}
