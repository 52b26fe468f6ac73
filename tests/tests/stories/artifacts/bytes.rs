//! The bytes of artifacts: large ones pass whole, and what was changed in the store passes nobody.

use std::{fs, path::PathBuf};

use reqwest::Method;
use tests::{Database, Team, World, json, stories};

use super::{at, copies};

stories![
    an_artifact_of_many_parts_comes_back_as_it_was,
    nobody_gets_what_was_changed,
    what_is_lost_is_told,
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
