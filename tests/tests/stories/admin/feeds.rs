//! The audit trail and events through the admin API.

use domain::id::OrganizationId;
use tests::{Answer, Database, Value, World, json, stories, team::text};

use super::trail;

stories![
    a_trail_is_read_with_filters_and_by_cursor,
    the_installations_own_trail_is_for_owners_and_auditors,
    events_are_read_by_cursor_whether_or_not_there_is_a_broker,
];

fn words(answer: Answer, name: &str) -> Vec<String> {
    answer.is(200)["data"].as_array().unwrap().iter().map(|entry| text(&entry[name])).collect()
}

async fn a_trail_is_read_with_filters_and_by_cursor(database: Database) {
    let world = World::on(database).await;
    let owner = world.owner().await;
    let auditor = owner.operator("auditor").await;
    let acme = world.team("acme").await;
    let rival = world.team("rival").await;
    let sandbox = acme.starts(json!({})).await;
    rival.starts(json!({})).await;
    let from = world.stamp("60s");
    world.advance("1m").await;
    acme.kills(&sandbox).await;
    let path = format!("/admin/v1/organizations/{}/audit-entries", acme.org_id);
    let exported = trail(&world, acme.org()).await;
    let listed = auditor.get(&path).await.is(200)["data"].take();
    for (listed, exported) in listed.as_array().unwrap().iter().zip(&exported) {
        let names = ["orgId", "seq", "actor", "action", "object", "outcome", "details", "hash"];
        assert_eq!(names.map(|name| &listed[name]), names.map(|name| &exported[name]));
    }
    assert_eq!(listed.as_array().unwrap().len(), exported.len());
    let actions = async |query: &str| words(auditor.get(&format!("{path}{query}")).await, "action");
    for (query, wanted) in [
        (format!("?actor={}", acme.id), vec!["sandbox.create", "sandbox.kill"]),
        ("?action=sandbox.kill".to_owned(), vec!["sandbox.kill"]),
        (format!("?object={sandbox}"), vec!["sandbox.create", "sandbox.kill"]),
        (format!("?object={sandbox}&from={from}"), vec!["sandbox.kill"]),
        (format!("?object={sandbox}&until={from}"), vec!["sandbox.create"]),
        ("?actor=nobody".to_owned(), vec![]),
    ] {
        assert_eq!(actions(&query).await, wanted, "{query}");
    }
    let page = auditor.get(&format!("{path}?limit=1")).await.is(200);
    assert_eq!((&page["hasMore"], &page["nextCursor"]), (&json!(true), &json!("1")));
    let last = exported.len();
    let page = auditor.get(&format!("{path}?cursor={last}")).await.is(200);
    assert_eq!((&page["data"], &page["hasMore"]), (&json!([]), &json!(false)));
    assert_eq!(page["nextCursor"], last.to_string(), "where to go on later");
    for query in ["?actor=%00", "?from=yesterday", "?cursor=x", "?limit=501"] {
        auditor.get(&format!("{path}{query}")).await.refused(400, "invalid_request");
    }
    let nowhere = OrganizationId::generate(world.now());
    let nowhere = format!("/admin/v1/organizations/{nowhere}/audit-entries");
    auditor.get(&nowhere).await.refused(404, "not_found");
    world.close().await;
}

async fn the_installations_own_trail_is_for_owners_and_auditors(database: Database) {
    let world = World::on(database).await;
    let owner = world.owner().await;
    let support = owner.operator("support").await;
    let path = "/admin/v1/audit-entries";
    support.get(path).await.refused(403, "forbidden");
    let entries = owner.get(path).await;
    assert!(!entries.text().contains(&acme_part(&owner.secret)), "no secret is written down");
    let entries = entries.is(200);
    let told: Vec<_> = entries["data"].as_array().unwrap().iter().collect();
    assert_eq!(told.len(), 3);
    assert_eq!(
        (&told[2]["action"], &told[2]["outcome"]),
        (&json!("listInstallationAuditEntries"), &json!("forbidden"))
    );
    assert_eq!(told[2]["actor"], support.id.as_str());
    assert!(told[2].get("orgId").is_none());
    let refused = owner.get(&format!("{path}?actor={}", support.id)).await;
    assert_eq!(words(refused, "outcome"), ["forbidden"]);
    world.close().await;
}

fn acme_part(secret: &str) -> String {
    secret[20..].to_owned()
}

async fn events_are_read_by_cursor_whether_or_not_there_is_a_broker(database: Database) {
    let world = World::on(database).await;
    let owner = world.owner().await;
    let auditor = owner.operator("auditor").await;
    let acme = world.team("acme").await;
    let rival = world.team("rival").await;
    let sandbox = acme.starts(json!({})).await;
    rival.starts(json!({})).await;
    acme.kills(&sandbox).await;
    let path = "/admin/v1/events";
    let of_acme = format!("{path}?organizationId={}&type=crownest.sandbox", acme.org_id);
    let events = auditor.get(&of_acme).await.is(200);
    let types: Vec<_> =
        events["data"].as_array().unwrap().iter().map(|e| text(&e["type"])).collect();
    let kinds = ["created", "ready", "ended"].map(|kind| format!("crownest.sandbox.{kind}.v1"));
    assert_eq!(types, kinds);
    let ended = &events["data"][2];
    assert_eq!((&ended["subject"], &ended["orgid"]), (&json!(sandbox), &json!(acme.org_id)));
    assert_eq!(ended["data"]["reason"], "user_killed");
    assert_eq!((&ended["specversion"], &ended["sequence"]), (&json!("1.0"), &json!("3")));
    // Page by page it is all of them, once.
    let (mut cursor, mut seen): (String, Vec<Value>) = ("0".to_owned(), Vec::new());
    loop {
        let page = auditor.get(&format!("{path}?limit=2&cursor={cursor}")).await.is(200);
        seen.extend(page["data"].as_array().unwrap().iter().cloned());
        cursor = text(&page["nextCursor"]);
        if page["hasMore"] == false {
            break;
        }
    }
    assert_eq!(json!(seen), auditor.get(path).await.is(200)["data"]);
    assert_eq!(
        i64::try_from(seen.len()).unwrap(),
        world.number("select count(*) from outbox_events").await
    );
    // What comes later comes behind the cursor.
    let next = acme.creates(json!({})).await;
    let page = auditor.get(&format!("{path}?cursor={cursor}&type=crownest.*.created")).await;
    assert_eq!(words(page, "subject"), [next]);
    for query in ["?type=Sandbox", "?organizationId=org_1", "?since=x", "?cursor=-1"] {
        auditor.get(&format!("{path}{query}")).await.refused(400, "invalid_request");
    }
    world.close().await;
}
