//! Artifacts in a bucket of a service that speaks S3 (`moto`, which keeps it in memory): written whole
//! or in parts, removed, and swept after a server died in the middle.

use std::{path::Path, process::Stdio, time::Duration};

use reqwest::Method;
use serde_json::json;
use tests::{Database, run::skipped, serving::cannot_run_sandboxes};
use tokio::process::{Child, Command};

use crate::stage::Stage;

#[test]
fn artifacts_are_kept_in_a_bucket() {
    tests::run::story(Database::Sqlite, are_kept);
}

const BUCKET: &str = "artifacts";
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The service. It ends with the test.
struct Service {
    _child: Child,
    url: String,
    http: reqwest::Client,
}

impl Service {
    /// None, and said so, where it cannot be had.
    async fn start() -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut venv = Command::new(root.join("scripts/venv"));
        venv.arg(root.join("tests/tests/artifacts/requirements.txt"));
        let made = venv.output().await.unwrap();
        if made.status.code() == Some(77) {
            skipped("s3", "its requirements could not be installed");
            return None;
        }
        assert!(made.status.success(), "{made:?}");
        let folder = String::from_utf8(made.stdout).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(Path::new(folder.trim()).join("bin/moto_server"));
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]).kill_on_drop(true);
        command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null());
        let child = command.spawn().unwrap();
        let url = format!("http://127.0.0.1:{port}");
        let service = Self { _child: child, url, http: tests::client::http() };
        let made = async {
            while !service.puts_bucket().await {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        tokio::time::timeout(PATIENCE, made).await.expect("the service comes up");
        Some(service)
    }

    async fn puts_bucket(&self) -> bool {
        let made = self.http.put(format!("{}/{BUCKET}", self.url)).send().await;
        made.is_ok_and(|answer| answer.status().is_success())
    }

    /// What it answers about the bucket, as XML.
    async fn tells(&self, query: &str) -> String {
        let url = format!("{}/{BUCKET}{query}", self.url);
        self.http.get(url).send().await.unwrap().text().await.unwrap()
    }

    async fn n(&self, query: &str, element: &str) -> usize {
        self.tells(query).await.matches(&format!("<{element}>")).count()
    }

    async fn n_objects(&self) -> usize {
        self.n("?list-type=2", "Key").await
    }

    async fn n_uploads(&self) -> usize {
        self.n("?uploads", "UploadId").await
    }
}

async fn are_kept(_: Database) {
    if let Some(reason) = cannot_run_sandboxes().await {
        return skipped("artifacts", &reason);
    }
    let Some(service) = Service::start().await else { return };
    let text = str::to_owned;
    let mut stage = Stage::set(vec![
        ("CROWNEST_ARTIFACT_STORE", format!("s3://{BUCKET}/a/prefix")),
        ("CROWNEST_ARTIFACT_S3_ENDPOINT", service.url.clone()),
        ("CROWNEST_ARTIFACT_S3_REGION", text("eu-central-1")),
        ("AWS_ACCESS_KEY_ID", text("key")),
        ("AWS_SECRET_ACCESS_KEY", text("secret")),
    ])
    .await;
    assert_eq!(service.n_objects().await, 0, "the probe is gone");
    let sandbox = stage.creates().await;
    let mut made = Vec::new();
    // Nothing, a little, one part exactly, and several.
    for n in [0, 10, 5 << 20, 12 << 20] {
        stage.runs(&sandbox, &format!("yes | head -c {n} > f")).await;
        let artifact = stage.copies(&sandbox, "f", &format!("n-{n}")).await;
        assert_eq!(artifact["sizeBytes"], n);
        assert_eq!(stage.downloads(&artifact).await.0, n);
        made.push(artifact);
    }
    assert_eq!(service.n_objects().await, 4);
    let listed = service.tells("?list-type=2").await;
    assert!(listed.contains(&format!("a/prefix/{}/bytes", made[3]["objectKey"].as_str().unwrap())));
    for artifact in &made {
        let path = format!("/v1/artifacts/{}", artifact["id"].as_str().unwrap());
        stage.client.insist(Method::DELETE, &path, None, None).await.is(200);
    }
    assert_eq!(service.n_objects().await, 0);

    // Killed as soon as an upload in parts has begun; the next server gives it up.
    stage.runs(&sandbox, "truncate -s 300M large").await;
    let door = stage.client.open_door().await;
    let path = format!("/v1/sandboxes/{sandbox}/artifacts");
    let request = stage.client.request(&door, Method::POST, &path);
    let asked = tokio::spawn(request.json(&json!({ "path": "large" })).send());
    let begun = async {
        while service.n_uploads().await == 0 {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    tokio::time::timeout(PATIENCE, begun).await.expect("an upload in parts");
    stage.servers.kill().await;
    assert!(asked.await.unwrap().is_err());
    assert_eq!(service.n_uploads().await, 1);
    stage.servers.start().await;
    let swept = async {
        while service.n_uploads().await + service.n_objects().await > 0 {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    tokio::time::timeout(PATIENCE, swept).await.expect("the sweep");
    stage.close(&[&sandbox]).await;
}
