//! Organizations through the admin API.

use domain::id::OrganizationId;
use futures_util::future::join_all;
use tests::{Database, World, json, stories, team::ids};

use super::{acts, trail};

stories![
    an_organization_is_made_listed_and_got,
    of_many_requests_with_one_key_one_makes_an_organization,
    what_makes_no_sense_is_refused_by_name,
];

const ORGANIZATIONS: &str = "/admin/v1/organizations";

async fn an_organization_is_made_listed_and_got(database: Database) {
    let world = World::on(database).await;
    let owner = world.owner().await;
    let support = owner.operator("support").await;
    let body = json!({ "name": " acme ", "plan": "free" });
    let made = support.post(ORGANIZATIONS, body).await.is(201);
    let acme = &made["organization"];
    assert_eq!((&acme["name"], &acme["plan"]), (&json!("acme"), &json!("free")));
    assert_eq!(acme["createdAt"], world.stamp("0s"));
    assert_eq!(acme["limitOverrides"], json!({}));
    world.moves("1s");
    let second = owner.post(ORGANIZATIONS, json!({ "name": "second" })).await.is(201);
    assert_eq!(second["organization"]["plan"], "builder", "the installation's default");

    let list = support.get(&format!("{ORGANIZATIONS}?limit=1")).await.is(200);
    assert_eq!(list["data"][0], second["organization"], "newest first");
    let cursor = list["nextCursor"].as_str().unwrap();
    let list = support.get(&format!("{ORGANIZATIONS}?limit=1&cursor={cursor}")).await.is(200);
    assert_eq!((&list["data"], &list["hasMore"]), (&json!([acme]), &json!(false)));
    let id = acme["id"].as_str().unwrap();
    assert_eq!(owner.get(&format!("{ORGANIZATIONS}/{id}")).await.is(200), made);
    let unknown = OrganizationId::generate(world.now());
    owner.get(&format!("{ORGANIZATIONS}/{unknown}")).await.refused(404, "not_found");
    // It works as one that was made on the command line: the same name finds it.
    let team = world.team("acme").await;
    assert_eq!(team.org_id, id);
    let projects = team.get("/v1/projects").await.is(200);
    assert_eq!(ids(&projects["data"]), std::slice::from_ref(&team.project_id));

    let trail = trail(&world, id.parse::<OrganizationId>().unwrap()).await;
    assert_eq!(acts(&trail)[0], ["organization.create", &support.id, "ok"]);
    assert_eq!(trail[0]["object"], id);
    world.close().await;
}

async fn of_many_requests_with_one_key_one_makes_an_organization(database: Database) {
    let mut world = World::on(database).await;
    let owner = world.owner().await;
    let mut keys = [owner.idempotent("once"), owner.idempotent("once")];
    if database == Database::Postgres {
        keys[1] = world.replica().await(&keys[0]);
    }
    let body = json!({ "name": "acme" });
    let asked = (0..12).map(|n| keys[n % 2].post(ORGANIZATIONS, body.clone()));
    for answer in join_all(asked).await {
        match answer.status {
            201 => {}
            _ => drop(answer.refused(409, "idempotency_request_in_progress")),
        }
    }
    let first = keys[0].post(ORGANIZATIONS, body.clone()).await;
    let again = keys[1].post(ORGANIZATIONS, body.clone()).await;
    assert_eq!((first.status, first.body), (201, again.body), "byte for byte");
    assert_eq!(world.number("select count(*) from organizations").await, 1);
    owner.post(ORGANIZATIONS, body).await.refused(409, "conflict");
    world.close().await;
}

async fn what_makes_no_sense_is_refused_by_name(database: Database) {
    let world = World::on(database).await;
    let owner = world.owner().await;
    for (body, field) in [
        (json!({}), "name"),
        (json!({ "name": "" }), "name"),
        (json!({ "name": "a\u{0}b" }), "name"),
        (json!({ "name": "x".repeat(129) }), "name"),
        (json!({ "name": "a", "plan": "gold" }), "plan"),
        (json!({ "name": "a", "plan": "developer" }), "plan"),
        (json!({ "name": "a", "Plan": "free" }), "Plan"),
    ] {
        let error = owner.post(ORGANIZATIONS, body.clone()).await.refused(400, "invalid_request");
        assert_eq!(error["details"]["field"], field, "{body}");
    }
    // Nothing of a refused request is kept: with the same key it may come again, and rightly.
    let patient = owner.idempotent("k");
    patient.post(ORGANIZATIONS, json!({ "name": "" })).await.refused(400, "invalid_request");
    patient.post(ORGANIZATIONS, json!({ "name": "acme" })).await.is(201);
    world.close().await;
}
