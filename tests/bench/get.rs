//! `GET /v1/sandboxes/{id}` with a key that was seen before, against a bare route of the framework.

use std::{net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context, Result};
use serde_json::json;
use tests::serving::{Installation, Server};

use crate::{
    bare::Bare,
    http::{self, Connection, Measured},
    postgres::Postgres,
    run,
    table::{Table, median, millis},
};

const CONNECTIONS: usize = 32;
const ROUNDS: usize = 7;
const WARM_UP: Duration = Duration::from_millis(250);
const MEASURED: Duration = Duration::from_millis(1250);
const AGAINST: &str = "bare poem route, same bytes";

/// Somebody who answers, and what to ask.
struct Target {
    name: &'static str,
    address: SocketAddr,
    request: Vec<u8>,
    pid: u32,
    database: Option<u32>,
    /// CPU of client, server and database for a request, in microseconds, one for each round.
    cpu: Vec<[f64; 3]>,
}

pub async fn measure(
    table: &mut Table,
    programs: &Path,
    postgres: &Postgres,
    folder: &Path,
) -> Result<()> {
    let on_postgres = Served::start(programs, &folder.join("get-postgres"), Some(postgres)).await?;
    let on_sqlite = Served::start(programs, &folder.join("get-sqlite"), None).await?;
    let bare = Bare::start(folder, &on_postgres.body).await?;
    let bare_target = Target {
        name: "bare route",
        address: bare.address,
        request: http::request("GET", "/", "none", None, None),
        pid: bare.pid(),
        database: None,
        cpu: Vec::new(),
    };
    let mut targets = [
        bare_target,
        on_postgres.target("GET, PostgreSQL", Some(postgres.pid()))?,
        on_sqlite.target("GET, SQLite", None)?,
    ];
    for round in 0..ROUNDS {
        // Each goes first in turn, so that none always follows the same other.
        let mut measured = [None, None, None];
        for turn in 0..targets.len() {
            let at = (round + turn) % targets.len();
            measured[at] = Some(targets[at].measure().await?);
        }
        let [Some(bare), Some(postgres), Some(sqlite)] = measured else { continue };
        for (name, ours) in [("GET, PostgreSQL", postgres), ("GET, SQLite", sqlite)] {
            add(table, name, &ours, &bare);
        }
    }
    for target in targets {
        let [client, server, database] =
            [0, 1, 2].map(|part| median(target.cpu.iter().map(|round| round[part])));
        table.note(format!(
            "{}: CPU of a request, us: client {client:.1}, server {server:.1}, database {database:.1}",
            target.name
        ));
    }
    on_postgres.server.stop().await?;
    on_sqlite.server.stop().await?;
    Ok(())
}

fn add(table: &mut Table, name: &str, ours: &Measured, bare: &Measured) {
    let n = ours.latencies.len();
    table.add(&format!("{name}: rate"), AGAINST, "1/s", n, (ours.per_second, bare.per_second));
    for (quantile, word) in [(0.5, "p50"), (0.99, "p99")] {
        let pair = (millis(ours.quantile(quantile)), millis(bare.quantile(quantile)));
        table.add(&format!("{name}: {word}"), AGAINST, "ms", n, pair);
    }
}

impl Target {
    async fn measure(&mut self) -> Result<Measured> {
        let cpu = || {
            let own = run::cpu(std::process::id());
            [own, run::cpu(self.pid), self.database.map_or(Duration::ZERO, run::cpu_of_family)]
        };
        let before = cpu();
        let request = self.request.clone();
        let measured = http::repeat(self.address, CONNECTIONS, request, WARM_UP, MEASURED).await?;
        let after = cpu();
        let whole = (WARM_UP + MEASURED).as_secs_f64() * measured.per_second;
        let micros = |part: usize| (after[part] - before[part]).as_secs_f64() * 1e6 / whole;
        self.cpu.push([0, 1, 2].map(micros));
        Ok(measured)
    }
}

/// A server with one ready sandbox to ask for.
struct Served {
    server: Server,
    address: SocketAddr,
    request: Vec<u8>,
    /// What it answers.
    body: Vec<u8>,
}

impl Served {
    async fn start(programs: &Path, folder: &Path, postgres: Option<&Postgres>) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let mut settings = vec![("CROWNEST_DRIVER", "simulated".to_owned())];
        settings.extend(postgres.map(|postgres| ("CROWNEST_DATABASE_URL", postgres.url())));
        let installation = Installation::new(programs, folder, settings);
        let made = installation.bootstrap("get").await?;
        let key = made["apiKey"].as_str().context("a key")?;
        let mut server = installation.start()?;
        let address = server.address().await?;

        let mut connection = Connection::open(address).await?;
        let body = json!({ "template": "python", "metadata": { "run": "bench" } });
        let create = http::request("POST", "/v1/sandboxes", key, None, Some(&body));
        let made = connection.call(&create).await?.is(201)?;
        let path = format!("/v1/sandboxes/{}", made["sandbox"]["id"].as_str().context("an id")?);
        // Answered when it is ready, so that it does not change while it is asked for.
        let body = json!({ "command": "true" });
        let run = http::request("POST", &format!("{path}/commands"), key, None, Some(&body));
        connection.call(&run).await?.is(200)?;
        let request = http::request("GET", &path, key, None, None);
        let answer = connection.call(&request).await?;
        answer.is(200)?;
        let body = answer.body.to_vec();
        Ok(Self { server, address, request, body })
    }

    fn target(&self, name: &'static str, database: Option<u32>) -> Result<Target> {
        let pid = self.server.pid().context("the server runs")?;
        let (address, request) = (self.address, self.request.clone());
        Ok(Target { name, address, request, pid, database, cpu: Vec::new() })
    }
}
