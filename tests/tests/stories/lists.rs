//! Lists: newest first, by pages, and by filters.

use tests::{Database, Team, Value, World, json, stories, team::ids};

stories![
    pages_follow_each_other,
    a_page_is_not_moved_by_what_is_new,
    bad_pages_are_refused,
    a_metadata_filter_wants_all_of_it,
    ended_sandboxes_are_history,
    a_status_filter_means_what_is_shown,
    a_project_filter_wants_a_project_of_ones_own,
    projects_are_listed_newest_first,
];

/// Three sandboxes, each a second younger than the one before.
async fn three(world: &World, acme: &Team) -> [String; 3] {
    let mut made = Vec::new();
    for n in ["1", "2", "3"] {
        made.push(acme.starts(json!({ "metadata": { "n": n } })).await);
        world.moves("1s");
    }
    made.try_into().unwrap()
}

/// Acceptance 23.
async fn pages_follow_each_other(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let [first, second, third] = three(&world, &acme).await;
    let page = acme.get("/v1/sandboxes?limit=2").await.is(200);
    assert_eq!(ids(&page["data"]), [third, second]);
    assert_eq!(page["hasMore"], true);
    let cursor = page["nextCursor"].as_str().unwrap();
    let page = acme.get(&format!("/v1/sandboxes?limit=2&cursor={cursor}")).await.is(200);
    assert_eq!(ids(&page["data"]), [first]);
    assert_eq!(page["hasMore"], false);
    assert!(page.get("nextCursor").is_none(), "the last page has none");

    let exact = acme.get("/v1/sandboxes?limit=3").await.is(200);
    assert_eq!((exact["hasMore"].as_bool(), exact.get("nextCursor")), (Some(false), None));
    world.close().await;
}

async fn a_page_is_not_moved_by_what_is_new(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let [first, second, third] = three(&world, &acme).await;
    let page = acme.get("/v1/sandboxes?limit=1").await.is(200);
    assert_eq!(ids(&page["data"]), std::slice::from_ref(&third));
    acme.starts(json!({})).await;
    acme.kills(&third).await;
    let cursor = page["nextCursor"].as_str().unwrap();
    let page = acme.get(&format!("/v1/sandboxes?cursor={cursor}")).await.is(200);
    assert_eq!(ids(&page["data"]), [second, first]);
    world.close().await;
}

/// Acceptance 24.
async fn bad_pages_are_refused(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    for list in ["/v1/sandboxes", "/v1/projects", "/v1/api-keys"] {
        for (query, field) in [
            ("limit=0", "limit"),
            ("limit=501", "limit"),
            ("limit=-1", "limit"),
            ("limit=x", "limit"),
            ("limit=1&limit=2", "limit"),
            ("cursor=garbage", "cursor"),
            ("cursor=", "cursor"),
        ] {
            let error = acme.get(&format!("{list}?{query}")).await.refused(400, "invalid_request");
            assert_eq!(error["details"]["field"], field, "{list}?{query}");
        }
        acme.get(&format!("{list}?limit=500")).await.is(200);
    }
    for query in ["status=flying", "metadata.a%20b=x", "projectId=prj_1"] {
        let answer = acme.get(&format!("/v1/sandboxes?{query}")).await;
        assert_eq!(answer.status, 400, "{query}: {answer}");
    }
    world.close().await;
}

/// Acceptance 22.
async fn a_metadata_filter_wants_all_of_it(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let one = json!({ "agent.id": "codex/1", "run": "a b", "percent": "100%" });
    let two = json!({ "agent.id": "codex/2", "run": "a b" });
    let one = acme.starts(json!({ "metadata": one })).await;
    world.moves("1s");
    let two = acme.starts(json!({ "metadata": two })).await;
    for (query, wanted) in [
        ("metadata.agent.id=codex%2F1", vec![&one]),
        ("metadata.run=a+b", vec![&two, &one]),
        ("metadata.run=a%20b", vec![&two, &one]),
        ("metadata.run=a+b&metadata.agent.id=codex%2F2", vec![&two]),
        ("metadata.percent=100%25", vec![&one]),
        ("metadata.run=a", vec![]),
        ("metadata.run=", vec![]),
        ("metadata.other=a", vec![]),
        ("metadata.run=%25", vec![]),
        ("metadata.run=a_b", vec![]),
    ] {
        let list = acme.get(&format!("/v1/sandboxes?{query}")).await.is(200);
        assert_eq!(ids(&list["data"]).iter().collect::<Vec<_>>(), wanted, "{query}");
    }
    world.close().await;
}

/// Acceptance 26.
async fn ended_sandboxes_are_history(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let [first, second, third] = three(&world, &acme).await;
    acme.kills(&second).await;
    assert_eq!(acme.lists().await, [third.clone(), first.clone()]);
    let all = acme.get("/v1/sandboxes?include=historical").await.is(200);
    assert_eq!(ids(&all["data"]), [third, second.clone(), first]);
    assert_eq!(acme.sandbox(&second).await["status"], "destroyed");
    // By status, an ended one is listed without being asked for as history.
    let destroyed = acme.get("/v1/sandboxes?status=destroyed").await.is(200);
    assert_eq!(ids(&destroyed["data"]), [second]);
    world.close().await;
}

/// Past its expiry a sandbox is `expiring`, in lists as anywhere, although nobody wrote that down.
async fn a_status_filter_means_what_is_shown(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({ "ttlMs": 60_000 })).await;
    let hang = world.driver.hang_next(drivers::Verb::Remove);
    world.moves("2m");
    for (status, wanted) in [("expiring", 1), ("ready", 0), ("destroyed", 0)] {
        let list = acme.get(&format!("/v1/sandboxes?status={status}")).await.is(200);
        assert_eq!(list["data"].as_array().unwrap().len(), wanted, "{status}");
        let shown = |item: &Value| item["status"] == status;
        assert!(list["data"].as_array().unwrap().iter().all(shown));
    }
    hang.release();
    acme.sees(&sandbox, "destroyed").await;
    world.close().await;
}

async fn a_project_filter_wants_a_project_of_ones_own(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let other = acme.project("other").await;
    let there = acme.starts(json!({ "projectId": other })).await;
    let here = acme.starts(json!({})).await;
    let of = async |project: &str| {
        let list = acme.get(&format!("/v1/sandboxes?projectId={project}")).await.is(200);
        ids(&list["data"])
    };
    assert_eq!(of(&other).await, [there]);
    assert_eq!(of(&acme.project_id).await, [here]);
    world.close().await;
}

/// Acceptance 11 and 12.
async fn projects_are_listed_newest_first(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    world.moves("1s");
    let made = acme.post("/v1/projects", json!({ "name": " mine " })).await.is(201);
    let project = &made["project"];
    assert!(project["id"].as_str().unwrap().starts_with("prj_"));
    assert_eq!(project["name"], "mine");
    assert_eq!(project["orgId"], acme.org_id.as_str());
    assert_eq!(project["createdAt"], world.stamp("0s"));
    let list = acme.get("/v1/projects").await.is(200);
    let wanted = [project["id"].as_str().unwrap(), &acme.project_id];
    assert_eq!(ids(&list["data"]), wanted);
    assert_eq!(&list["data"][0], project);
    world.close().await;
}
