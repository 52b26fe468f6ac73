//! The bytes of artifacts: large ones pass whole, and what was changed in the store passes nobody.

use std::{fs, path::PathBuf};

use domain::limits::Plan;
use reqwest::Method;
use tests::{Database, Team, World, json, stories};

use super::{at, copies};

stories![
    an_artifact_of_many_parts_comes_back_as_it_was,
    nobody_gets_what_was_changed,
    what_is_lost_is_told,
    what_cannot_be_paid_is_not_kept,
];

async fn an_artifact_of_many_parts_comes_back_as_it_was(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    // Parts have 5 MiB: none, one, one and a byte less, one and a byte more, two and a rest.
    for n in [0, 1, (5 << 20) - 2, 5 << 20, (5 << 20) + 2, 12 << 20] {
        acme.runs(&sandbox, &format!("yes {} > f", n / 2)).await;
        let made = copies(&acme, &sandbox, "f").await;
        let size = n / 2 * 2;
        assert_eq!(made["sizeBytes"], size);
        let download = acme.get(&format!("{}/download", at(&made))).await;
        assert_eq!(download.body.len(), size);
        assert!(download.body.chunks(2).all(|line| line == b"y\n"));
    }
    world.close().await;
}

async fn the_only_file(world: &World, team: &Team) -> (String, PathBuf) {
    let sandbox = team.starts(json!({})).await;
    team.runs(&sandbox, "yes 400000 > f").await;
    let made = copies(team, &sandbox, "f").await;
    (format!("{}/download", at(&made)), world.blobs().pop().unwrap())
}

async fn nobody_gets_what_was_changed(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let (path, file) = the_only_file(&world, &acme).await;
    let written = fs::read(&file).unwrap();
    let mut changed = written.clone();
    changed[700_000] = b'z';
    fs::write(&file, changed).unwrap();
    world.expects_warning("not those that were written");
    let download = acme.request(Method::GET, &path).send().await.unwrap();
    assert_eq!(download.status(), 200, "it is found out while the bytes are read");
    assert_eq!(download.content_length(), Some(800_000));
    assert!(download.bytes().await.is_err(), "the download breaks off before its end");
    fs::write(&file, written).unwrap();
    assert_eq!(acme.get(&path).await.body.len(), 800_000);
    world.close().await;
}

async fn what_is_lost_is_told(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let (path, file) = the_only_file(&world, &acme).await;
    let written = fs::read(&file).unwrap();
    world.expects_warning("not as it was written");
    world.expects_warning("failed");
    fs::write(&file, &written[1..]).unwrap();
    acme.get(&path).await.refused(502, "download_export_failed");
    fs::remove_file(&file).unwrap();
    acme.get(&path).await.refused(502, "download_export_failed");
    fs::write(&file, written).unwrap();
    world.close().await;
}

/// A credit for each byte, of which the free plan has 300 (10 USD at 0.0333333).
async fn what_cannot_be_paid_is_not_kept(database: Database) {
    let world = World::on(database).await;
    let prices = json!({
        "name": "2031-04",
        "currency": "USD",
        "computeUnitSecondsPerCredit": 1000,
        "currencyPerCredit": "0.0333333",
        "rates": { "artifact_bytes_stored": { "credits": "1", "per": 1 } },
        "rounding": "down",
        "validFrom": world.stamp("60s"),
    });
    world.owner().await.post("/admin/v1/pricing-versions", prices).await.is(201);
    world.advance("60s").await;
    let acme = world.team_on("acme", Plan::Free).await;
    let sandbox = acme.starts(json!({})).await;
    acme.runs(&sandbox, "yes 200 > large; yes 50 > small").await; // 400 bytes, and 100
    let key = acme.idempotent("once");
    let path = format!("/v1/sandboxes/{sandbox}/artifacts");
    key.post(&path, json!({ "path": "large" })).await.refused(402, "credit_exhausted");
    assert!(world.blobs().is_empty(), "nothing is kept for nothing");
    assert_eq!(world.number("select count(*) from artifact_writes").await, 0);
    copies(&acme, &sandbox, "small").await;
    let body = json!({ "command": "true", "collect": [{ "path": "large" }] });
    let run = acme.runs_with(&sandbox, body).await;
    assert_eq!(run["collectStatus"], "failed");
    assert_eq!(run["collectErrors"][0]["code"], "artifact_collect_failed");
    assert_eq!(world.blobs().len(), 1);
    world.close().await;
}
