//! `kill -9` of a server that writes an artifact, at a random instant: the next one sweeps what is
//! left, the retry makes exactly one, and its bytes are whole.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use store::testing;
use tests::{
    Database,
    chance::{self, Chance},
    run::skipped,
    serving::cannot_run_sandboxes,
};

use crate::stage::Stage;

tests::stories![a_server_that_is_killed_while_it_writes];

const POINTS: u64 = 6;
/// Longer than a write takes, so that some are killed after it.
const MOST: Duration = Duration::from_millis(700);

async fn a_server_that_is_killed_while_it_writes(database: Database) {
    if let Some(reason) = cannot_run_sandboxes().await {
        return skipped("artifacts", &reason);
    }
    let (seed, points) = (chance::seed(), chance::number("ARTIFACT_POINTS").unwrap_or(POINTS));
    println!("{}: CRASH_SEED={seed} ARTIFACT_POINTS={points}", database.name());
    let mut chance = Chance::new(seed);
    let store = match database {
        Database::Sqlite => testing::sqlite().await,
        Database::Postgres => testing::postgres().await.expect("the story was not skipped"),
    };
    let mut stage = Stage::set(vec![("CROWNEST_DATABASE_URL", store.url.clone())]).await;
    let sandbox = stage.creates().await;
    // 48 MiB that are not all alike.
    let line = "head -c 50331648 /dev/urandom > f && sha256sum < f";
    let run = stage.runs(&sandbox, line).await;
    let sum = run["stdout"].as_str().unwrap().split(' ').next().unwrap().to_owned();
    let path = format!("/v1/sandboxes/{sandbox}/artifacts");
    for point in 0..points {
        let key = format!("point-{point}");
        let door = stage.client.open_door().await;
        let request = stage.client.request(&door, Method::POST, &path);
        let request = request.header("idempotency-key", &key).json(&json!({ "path": "f" }));
        let asked = tokio::spawn(request.send());
        let life = chance.up_to(MOST);
        // The one sleep: when the server dies is what this is about.
        tokio::time::sleep(life).await;
        stage.servers.kill().await;
        let answered = asked.await.unwrap().is_ok();
        let left = stage.blobs().len();
        println!(
            "{}: point {point}: killed after {life:.0?}, answered: {answered}, files: {left}",
            database.name()
        );
        stage.servers.start().await;
        let made = stage.copies(&sandbox, "f", &key).await;
        assert_eq!(made["sizeBytes"], 50_331_648);
        let kept: Vec<_> = stage.blobs();
        assert_eq!(kept.len() as u64, point + 1, "nothing leaks: {kept:?}");
    }
    let list = stage.client.get(&path).await;
    let made = list["data"].as_array().unwrap();
    assert_eq!(made.len() as u64, points, "each retry made one");
    for artifact in made {
        assert_eq!(stage.downloads(artifact).await, (50_331_648, sum.clone()));
    }
    stage.close(&[&sandbox]).await;
}
