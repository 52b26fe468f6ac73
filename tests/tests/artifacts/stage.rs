//! One server after the other on one installation, its client, and what is in its folder.

use std::{path::PathBuf, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{
    invariants::files_below,
    program,
    serving::{Client, Installation, Turns},
};

/// A server that does not answer after this is not waited for.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Stage {
    pub client: Client,
    pub servers: Turns,
    _folder: TempDir,
}

impl Stage {
    /// A first server with these settings.
    pub async fn set(settings: Vec<(&'static str, String)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let installation = Installation::new(&program::folder(), folder.path(), settings);
        let made = installation.bootstrap("artifacts").await.unwrap();
        let mut servers = Turns::of(installation);
        servers.start().await;
        let client = servers.client(made["apiKey"].as_str().unwrap());
        Self { client, servers, _folder: folder }
    }

    /// Stops the server and its sandboxes.
    pub async fn close(mut self, sandboxes: &[&str]) {
        for sandbox in sandboxes {
            let path = format!("/v1/sandboxes/{sandbox}");
            self.client.insist(Method::DELETE, &path, None, None).await.is(200);
        }
        self.servers.stop().await;
    }

    /// A sandbox's id.
    pub async fn creates(&self) -> String {
        let body = json!({ "template": "base" });
        let made = self.client.insist(Method::POST, "/v1/sandboxes", None, Some(&body)).await;
        made.is(201)["sandbox"]["id"].as_str().unwrap().to_owned()
    }

    pub async fn runs(&self, sandbox: &str, line: &str) -> Value {
        let path = format!("/v1/sandboxes/{sandbox}/commands");
        let body = json!({ "command": line, "timeoutMs": 600_000 });
        let run = self.client.insist(Method::POST, &path, None, Some(&body)).await.is(200);
        assert_eq!(run["command"]["exitCode"], 0, "{run}");
        run["command"].clone()
    }

    /// Copies a file, however many servers die of it.
    pub async fn copies(&self, sandbox: &str, path: &str, key: &str) -> Value {
        let to = format!("/v1/sandboxes/{sandbox}/artifacts");
        let body = json!({ "path": path });
        let made = self.client.insist(Method::POST, &to, Some(key), Some(&body)).await;
        made.is(201)["artifact"].clone()
    }

    /// Downloads an artifact, and says how many bytes it has and what their checksum is.
    pub async fn downloads(&self, artifact: &Value) -> (u64, String) {
        let door = self.client.open_door().await;
        let path = format!("/v1/artifacts/{}/download", artifact["id"].as_str().unwrap());
        let mut answer = self.client.request(&door, Method::GET, &path).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let (mut n, mut sum) = (0, sum::Sum::default());
        while let Some(piece) = answer.chunk().await.unwrap() {
            n += piece.len() as u64;
            sum.push(&piece);
        }
        (n, sum.end())
    }

    /// Every file that artifacts are kept in, half-written ones included.
    pub fn blobs(&self) -> Vec<PathBuf> {
        files_below(&self.servers.installation.state().join("artifacts"))
    }
}

/// A story that has failed leaves no sandbox running.
impl Drop for Stage {
    fn drop(&mut self) {
        if !self.servers.is_open() {
            return;
        }
        let client = self.client.clone();
        let killing = async move {
            let list = client.get("/v1/sandboxes").await;
            for sandbox in list["data"].as_array().unwrap() {
                let path = format!("/v1/sandboxes/{}", sandbox["id"].as_str().unwrap());
                client.insist(Method::DELETE, &path, None, None).await;
            }
        };
        let killed = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async { tokio::time::timeout(PATIENCE, killing).await.ok() })
        });
        // It has failed already.
        drop(killed.join());
    }
}

/// Checksums as `sha256sum` prints them.
mod sum {
    use sha2::{Digest, Sha256};

    #[derive(Default)]
    pub struct Sum(Sha256);

    impl Sum {
        pub fn push(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }

        pub fn end(self) -> String {
            self.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
        }
    }
}
