//! What one organization takes of the server with its artifacts leaves something to the others, and a store
//! that fails holds up nobody's next request.

use std::{fs, sync::Arc, time::Duration};

use api::app::{App, artifacts::turns::Turn};
use domain::id::OrganizationId;
use reqwest::Method;
use tests::{Database, Team, World, json, stories};
use tokio::time::Instant;

use super::{at, copies, names};

stories![
    copies_of_one_organization_hold_up_nobody_else,
    an_organization_has_so_many_downloads,
    a_store_that_fails_leaves_the_request_free_at_once,
];

/// Nobody waits so long.
const LONG: Duration = Duration::from_secs(60);

fn org(team: &Team) -> OrganizationId {
    team.org_id.parse().unwrap()
}

async fn takes_turn(world: &World, team: &Team) -> Turn {
    let org = org(team);
    let take =
        |app: Arc<App>| async move { app.turns.take(org, Instant::now() + LONG).await.unwrap() };
    world.server().within(take).await
}

async fn copies_of_one_organization_hold_up_nobody_else(database: Database) {
    let world = World::on(database).await;
    let (acme, rival) = (world.team("acme").await, world.team("rival").await);
    let (here, there) = (acme.starts(json!({})).await, rival.starts(json!({})).await);
    acme.runs(&here, "echo x > f").await;
    // Two copies that go on for long are all that acme has at a time.
    let long = (takes_turn(&world, &acme).await, takes_turn(&world, &acme).await);
    let path = format!("/v1/sandboxes/{here}/artifacts");
    let asked = {
        let request = acme.request(Method::POST, &path).json(&json!({ "path": "f" }));
        tokio::spawn(request.send())
    };
    let body = json!({ "command": "echo y > g", "collect": [{ "path": "g" }] });
    let left = acme.runs_with(&here, body.clone());
    let meanwhile = async {
        let run = rival.runs_with(&there, body.clone()).await;
        assert_eq!(run["collectStatus"], "succeeded");
        assert_eq!(names(&rival, &there).await, ["g"]);
        let over = "select count(*) from commands where status = 'exited'";
        // Acme's two, of which one is not settled, and the rival's.
        world
            .until("the end of all commands", async || {
                (world.number(over).await == 3).then_some(())
            })
            .await;
        assert!(names(&acme, &here).await.is_empty());
        assert!(!asked.is_finished());
        drop(long);
    };
    let (run, ()) = tokio::join!(left, meanwhile);
    assert_eq!(run["collectStatus"], "succeeded", "it has waited: {run}");
    assert_eq!(asked.await.unwrap().unwrap().status(), 201);
    assert_eq!(names(&acme, &here).await.len(), 2);
    world.close().await;
}

/// More than what lies between a server and a client that does not read.
const MUCH: &str = "yes 12000000 > f";

async fn an_organization_has_so_many_downloads(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    acme.runs(&sandbox, MUCH).await;
    let made = copies(&acme, &sandbox, "f").await;
    let app = world.server().app();
    for (places, path) in [
        (&app.artifact_downloads, format!("{}/download", at(&made))),
        (&app.file_downloads, format!("/v1/sandboxes/{sandbox}/files/download?path=f")),
    ] {
        let others: Vec<_> = (1..64).map(|_| places.take(org(&acme)).unwrap()).collect();
        // The last one: its client reads nothing.
        let unread = acme.request(Method::GET, &path).send().await.unwrap();
        assert_eq!(unread.status(), 200);
        let error = acme.get(&path).await.refused(429, "quota_exceeded");
        assert_eq!(error["details"]["limit"], 64, "{error}");
        drop(unread);
        let free = async || {
            let response = acme.request(Method::GET, &path).send().await.unwrap();
            (response.status() == 200).then_some(response)
        };
        let next = world.until("the place of a client that has gone", free).await;
        assert_eq!(next.bytes().await.unwrap().len(), 24_000_000);
        drop(others);
    }
    world.close().await;
}

async fn a_store_that_fails_leaves_the_request_free_at_once(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    acme.runs(&sandbox, "echo x > f").await;
    copies(&acme, &sandbox, "f").await;
    let kept = world.blobs().pop().unwrap();
    let folder = kept.ancestors().nth(2).unwrap().to_owned();
    let aside = folder.with_extension("aside");
    fs::rename(&folder, &aside).unwrap();
    // A file where a folder should be can neither be written into nor be cleared.
    fs::write(&folder, "").unwrap();
    world.expects_warning("what was not written to the end is swept later");
    world.tolerates_warning("code=\"");
    let (key, path) = (acme.idempotent("once"), format!("/v1/sandboxes/{sandbox}/artifacts"));
    let answer = key.post(&path, json!({ "path": "f" })).await;
    assert!(answer.status >= 500, "{answer}");
    assert_eq!(answer.json()["error"]["retryable"], true, "{answer}");
    assert_eq!(world.number("select count(*) from artifact_writes").await, 1);
    fs::remove_file(&folder).unwrap();
    fs::rename(&aside, &folder).unwrap();
    key.post(&path, json!({ "path": "f" })).await.is(201);
    // What is left of the first one is swept all the same, and the second stays.
    world.moves("601s");
    world.keeps_house().await;
    assert_eq!(world.number("select count(*) from artifact_writes").await, 0);
    assert_eq!(world.blobs().len(), 2);
    world.close().await;
}
