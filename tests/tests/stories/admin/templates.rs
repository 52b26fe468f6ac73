//! Templates and their versions through the admin API.

use domain::id::{TemplateId, TemplateVersionId};
use store::audit::Chain;
use tests::{Admin, Database, Value, World, json, stories, team::text};

use super::trail;

stories![
    a_published_version_is_what_new_sandboxes_are_made_from,
    a_deprecated_version_is_chosen_for_nothing_new,
    what_makes_no_sense_about_templates_is_refused_by_name,
];

/// The path of a template's versions.
async fn versions_of(owner: &Admin, slug: &str) -> String {
    let list = owner.get("/admin/v1/templates").await.is(200);
    let mut templates = list["data"].as_array().unwrap().iter();
    let found = templates.find(|template| template["slug"] == slug).unwrap();
    format!("/admin/v1/templates/{}/versions", text(&found["id"]))
}

fn version(made: &Value) -> String {
    text(&made["templateVersion"]["id"])
}

async fn a_published_version_is_what_new_sandboxes_are_made_from(database: Database) {
    let world = World::on(database).await;
    let owner = world.owner().await;
    let acme = world.team("acme").await;
    let old = acme.starts(json!({ "template": "python" })).await;
    let path = versions_of(&owner, "python").await;
    let patient = owner.idempotent("once");
    let made = patient.post(&path, json!({ "version": "1.1.0" })).await;
    let again = patient.post(&path, json!({ "version": "1.1.0" })).await;
    assert_eq!(made.body, again.body, "byte for byte");
    let made = made.is(201);
    assert_eq!(made["templateVersion"]["templateSlug"], "python");
    owner.post(&path, json!({ "version": "1.1.0" })).await.refused(409, "conflict");
    let list = owner.get(&path).await.is(200);
    let names: Vec<_> =
        list["data"].as_array().unwrap().iter().map(|v| text(&v["version"])).collect();
    assert_eq!(names, ["1.1.0", "1.0.0"], "newest first");
    let page = owner.get(&format!("{path}?limit=1")).await.is(200);
    assert_eq!((&page["data"][0], &page["hasMore"]), (&made["templateVersion"], &json!(true)));
    let got = owner.get(&format!("/admin/v1/template-versions/{}", version(&made))).await.is(200);
    assert_eq!(got, made);
    let new = acme.starts(json!({ "template": "python" })).await;
    assert_eq!(acme.sandbox(&new).await["templateVersionId"], version(&made).as_str());
    assert_eq!(acme.sandbox(&old).await["templateVersion"], "1.0.0");
    let trail = trail(&world, Chain::Installation).await;
    let told: Vec<_> =
        trail.iter().filter(|line| line["action"] == "template_version.publish").collect();
    assert_eq!((told.len(), &told[0]["actor"]), (1, &json!(owner.id)));
    assert_eq!(told[0]["details"], json!({ "template": "python", "version": "1.1.0" }));
    world.close().await;
}

async fn a_deprecated_version_is_chosen_for_nothing_new(database: Database) {
    let world = World::on(database).await;
    let owner = world.owner().await;
    let acme = world.team("acme").await;
    let path = versions_of(&owner, "python").await;
    let made = owner.post(&path, json!({ "version": "1.1.0" })).await.is(201);
    let id = version(&made);
    let runs = acme.starts(json!({ "template": "python" })).await;
    let deprecate = format!("/admin/v1/template-versions/{id}/deprecate");
    let seen = owner.post(&deprecate, json!({ "reason": "a hole" })).await.is(200);
    let then = world.stamp("0s");
    assert_eq!(seen["templateVersion"]["deprecatedAt"], then.as_str());
    assert_eq!(seen["templateVersion"]["deprecatedReason"], "a hole");
    world.moves("1m");
    let again = owner.post(&deprecate, json!({ "reason": "other" })).await.is(200);
    assert_eq!(again, seen, "it stays as it is");
    let new = acme.starts(json!({ "template": "python" })).await;
    assert_eq!(acme.sandbox(&new).await["templateVersion"], "1.0.0", "the one before");
    let error = acme.post("/v1/sandboxes", json!({ "templateVersionId": id })).await;
    assert_eq!(error.refused(404, "not_found")["details"]["field"], "templateVersionId");
    assert_eq!(acme.sandbox(&runs).await["status"], "ready", "what runs goes on");
    acme.runs(&runs, "echo still here").await;
    let list = owner.get(&path).await.is(200);
    let last = text(&list["data"][1]["id"]);
    let deprecate = format!("/admin/v1/template-versions/{last}/deprecate");
    owner.post(&deprecate, json!({ "reason": "r" })).await.is(200);
    acme.post("/v1/sandboxes", json!({ "template": "python" })).await.refused(404, "not_found");
    let trail = trail(&world, Chain::Installation).await;
    let told: Vec<_> =
        trail.iter().filter(|line| line["action"] == "template_version.deprecate").collect();
    assert_eq!((told.len(), &told[0]["object"]), (2, &json!(id)));
    world.close().await;
}

async fn what_makes_no_sense_about_templates_is_refused_by_name(database: Database) {
    let world = World::on(database).await;
    let owner = world.owner().await;
    let path = versions_of(&owner, "base").await;
    for wrong in ["", "a b", "\u{0}", &"1".repeat(65)] {
        let error = owner.post(&path, json!({ "version": wrong })).await;
        assert_eq!(error.refused(400, "invalid_request")["details"]["field"], "version");
    }
    let (template, version) =
        (TemplateId::generate(world.now()), TemplateVersionId::generate(world.now()));
    let nowhere = format!("/admin/v1/templates/{template}/versions");
    owner.get(&nowhere).await.refused(404, "not_found");
    owner.post(&nowhere, json!({ "version": "1" })).await.refused(404, "not_found");
    let nowhere = format!("/admin/v1/template-versions/{version}");
    owner.get(&nowhere).await.refused(404, "not_found");
    let deprecate = format!("{nowhere}/deprecate");
    owner.post(&deprecate, json!({ "reason": "r" })).await.refused(404, "not_found");
    world.close().await;
}
