//! Copying a file into an artifact, and downloading it, with the local driver and a folder for a store;
//! against copying such a file on the host, made durable where artifacts are. What is downloaded is
//! thrown away.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::serving::Installation;

use crate::{
    http::{self, Connection},
    table::Table,
};

const ROUNDS: usize = 5;
const SIZES_MIB: [u64; 3] = [1, 64, 256];
const PIECE: usize = 256 << 10;

pub async fn measure(table: &mut Table, programs: &Path, folder: &Path) -> Result<()> {
    let folder = folder.join("artifacts");
    std::fs::create_dir_all(&folder)?;
    let settings = vec![("CROWNEST_DRIVER", "local".to_owned())];
    let installation = Installation::new(programs, &folder, settings);
    let made = installation.bootstrap("artifacts").await?;
    let mut server = installation.start()?;
    let connection = Connection::open(server.address().await?).await?;
    let key = made["apiKey"].as_str().context("a key")?.to_owned();
    let mut client = Client { connection, key };
    let body = json!({ "template": "base" });
    let sandbox = client.call("POST", "/v1/sandboxes", Some(&body), 201).await?;
    let sandbox = id(&sandbox, "sandbox")?;
    for mib in SIZES_MIB {
        let line = format!("head -c {} /dev/urandom > f", mib << 20);
        let path = format!("/v1/sandboxes/{sandbox}/commands");
        client.call("POST", &path, Some(&json!({ "command": line })), 200).await?;
        let source = folder.join("source");
        write_random(&source, mib)?;
        for _ in 0..ROUNDS {
            let (artifact, copied) = client.copies(&sandbox).await?;
            let downloaded = client.downloads(&artifact, mib << 20).await?;
            client.call("DELETE", &format!("/v1/artifacts/{artifact}"), None, 200).await?;
            let durable = copy(&source, &folder.join("copy"), Fate::Durable)?;
            let plain = copy(&source, &folder.join("copy"), Fate::Cached)?;
            let rate = |time: Duration| mib_per_second(mib, time);
            let what = format!("copy {mib} MiB into an artifact");
            table.add(&what, "copy on the host, fsync", "MiB/s", 1, (rate(copied), rate(durable)));
            let what = format!("download {mib} MiB");
            table.add(&what, "copy on the host", "MiB/s", 1, (rate(downloaded), rate(plain)));
        }
    }
    client.call("DELETE", &format!("/v1/sandboxes/{sandbox}"), None, 200).await?;
    server.stop().await?;
    Ok(())
}

fn mib_per_second(mib: u64, time: Duration) -> f64 {
    f64::from(u32::try_from(mib).unwrap_or(u32::MAX)) / time.as_secs_f64()
}

fn id(made: &Value, noun: &str) -> Result<String> {
    Ok(made[noun]["id"].as_str().context("an id")?.to_owned())
}

fn write_random(path: &Path, mib: u64) -> Result<()> {
    let mut random = File::open("/dev/urandom")?.take(mib << 20);
    std::io::copy(&mut random, &mut File::create(path)?)?;
    Ok(())
}

/// What becomes of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Durable,
    Cached,
}

/// What `cp` does, and `sync`.
fn copy(from: &Path, to: &Path, fate: Fate) -> Result<Duration> {
    let begin = Instant::now();
    let (mut from, mut copy) = (File::open(from)?, File::create(to)?);
    let mut piece = vec![0; PIECE];
    loop {
        let n = from.read(&mut piece)?;
        if n == 0 {
            break;
        }
        copy.write_all(&piece[..n])?;
    }
    if fate == Fate::Durable {
        copy.sync_all()?;
    }
    let time = begin.elapsed();
    std::fs::remove_file(to)?;
    Ok(time)
}

struct Client {
    connection: Connection,
    key: String,
}

impl Client {
    async fn copies(&mut self, sandbox: &str) -> Result<(String, Duration)> {
        let path = format!("/v1/sandboxes/{sandbox}/artifacts");
        let begin = Instant::now();
        let made = self.call("POST", &path, Some(&json!({ "path": "f" })), 201).await?;
        Ok((id(&made, "artifact")?, begin.elapsed()))
    }

    async fn downloads(&mut self, artifact: &str, size: u64) -> Result<Duration> {
        let path = format!("/v1/artifacts/{artifact}/download");
        let request = http::request("GET", &path, &self.key, None, None);
        let begin = Instant::now();
        let n = self.connection.drain(&request).await?;
        ensure!(n == size, "{n} of {size} bytes came");
        Ok(begin.elapsed())
    }

    async fn call(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        status: u16,
    ) -> Result<Value> {
        let request = http::request(method, path, &self.key, None, body);
        self.connection.call(&request).await?.is(status)
    }
}
