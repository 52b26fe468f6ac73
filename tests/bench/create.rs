//! `POST /v1/sandboxes` with the simulated driver on PostgreSQL, against pgbench with the same
//! statements over as many connections. Booting is background work of the server, so there are two
//! comparisons: answered creates with `create.sql`, sandboxes that are ready with `boot.sql` as well.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::serving::Installation;
use tokio::task::LocalSet;

use crate::{
    http::{self, Connection},
    postgres::{Pgbench, Postgres},
    statements,
    table::{Table, millis},
};

/// As many as the server has to the database.
const CONNECTIONS: usize = 16;
const ROUNDS: usize = 5;
/// Creates of a connection in a round. A count, so that both find and leave tables of the same size.
const CREATES: usize = 60;
const LOOK_AGAIN: Duration = Duration::from_millis(5);

const CREATE: &str = include_str!("create.sql");
const BOOT: &str = include_str!("boot.sql");
const SETUP: &str = include_str!("setup.sql");

/// Whose sandboxes they are.
#[derive(Debug, Clone, Copy)]
enum Spread {
    /// Each connection has an organization of its own.
    Wide,
    /// One organization, whose row every create locks.
    Hot,
}

pub async fn measure(
    table: &mut Table,
    programs: &Path,
    postgres: &Postgres,
    folder: &Path,
) -> Result<()> {
    let folder = folder.join("create");
    std::fs::create_dir_all(&folder)?;
    let settings = vec![
        ("CROWNEST_DRIVER", "simulated".to_owned()),
        ("CROWNEST_DATABASE_URL", postgres.url()),
        ("CROWNEST_DATABASE_CONNECTIONS", CONNECTIONS.to_string()),
        ("CROWNEST_MAX_CONCURRENT_SANDBOXES", "1000000".to_owned()),
        ("CROWNEST_HOST", "bench".to_owned()),
    ];
    let installation = Installation::new(programs, &folder, settings);
    let mut keys = Vec::new();
    for n in 0..CONNECTIONS {
        let made = installation.bootstrap(&format!("create-{n}")).await?;
        keys.push(made["apiKey"].as_str().context("a key")?.to_owned());
    }
    postgres.execute(SETUP).await?;
    let mut server = installation.start()?;
    let address = server.address().await?;
    let bench = Bench { postgres, address, keys, folder, n_rounds: 0 };
    let mut bench = bench.warm().await?;
    bench.check_scripts().await?;
    for _ in 0..ROUNDS {
        for spread in [Spread::Wide, Spread::Hot] {
            bench.round(table, spread).await?;
        }
    }
    server.stop().await?;
    Ok(())
}

struct Bench<'p> {
    postgres: &'p Postgres,
    address: SocketAddr,
    keys: Vec<String>,
    folder: PathBuf,
    n_rounds: usize,
}

impl Bench<'_> {
    /// Verifies every key once, which costs what a warm server does not pay.
    async fn warm(self) -> Result<Self> {
        let mut connection = Connection::open(self.address).await?;
        for key in &self.keys {
            let request = http::request("GET", "/v1/sandboxes", key, None, None);
            connection.call(&request).await?.is(200)?;
        }
        Ok(self)
    }

    async fn check_scripts(&mut self) -> Result<()> {
        let mut connection = Connection::open(self.address).await?;
        // Once before, so that nothing is prepared for the first time; and to its end.
        let first = connection.call(&create(&self.keys[0], "first")).await?.is(201)?;
        let id = first["sandbox"]["id"].as_str().context("an id")?;
        let (path, body) = (format!("/v1/sandboxes/{id}/commands"), json!({ "command": "true" }));
        let run = http::request("POST", &path, &self.keys[0], None, Some(&body));
        connection.call(&run).await?.is(200)?;
        let one = async {
            connection.call(&create(&self.keys[0], "second")).await?.is(201)?;
            Ok(())
        };
        let done = statements::of_create(self.postgres, one).await?;
        statements::must_agree(Path::new("create.sql"), CREATE, &done.request)?;
        statements::must_agree(Path::new("boot.sql"), BOOT, &done.background)?;
        self.end_sandboxes().await
    }

    async fn round(&mut self, table: &mut Table, spread: Spread) -> Result<()> {
        let n = CONNECTIONS * CREATES;
        self.postgres.tidy().await?;
        let created = self.create_all(spread).await?;
        self.end_sandboxes().await?;
        self.postgres.tidy().await?;
        let requests = self.pgbench(spread, &[CREATE]).await?;
        self.end_sandboxes().await?;
        self.postgres.tidy().await?;
        let both = self.pgbench(spread, &[CREATE, BOOT]).await?;
        self.end_sandboxes().await?;

        let (word, rate) = match spread {
            Spread::Wide => ("16 organizations", "pgbench, create.sql"),
            Spread::Hot => ("one organization", "pgbench, create.sql"),
        };
        let mut add = |what: &str, against, unit, pair| {
            table.add(&format!("create, {word}: {what}"), against, unit, n, pair);
        };
        add("answered", rate, "1/s", (created.answered, requests.rate));
        add("ready", "pgbench, create.sql and boot.sql", "1/s", (created.ready, both.rate));
        add("mean", rate, "ms", (created.mean, requests.mean));
        if self.n_rounds + 2 >= 2 * ROUNDS {
            let [p50, p99] = created.quantiles;
            table.note(format!("create, {word}, last round: p50 {p50:.1} ms, p99 {p99:.1} ms"));
        }
        self.n_rounds += 1;
        Ok(())
    }

    /// Creates over all connections at a time, and waits until all are ready.
    async fn create_all(&self, spread: Spread) -> Result<Created> {
        let (round, address) = (self.n_rounds, self.address);
        let begin = Instant::now();
        let tasks = LocalSet::new();
        let handles: Vec<_> = (0..CONNECTIONS)
            .map(|n| {
                let key = match spread {
                    Spread::Wide => self.keys[n].clone(),
                    Spread::Hot => self.keys[0].clone(),
                };
                let key = Rc::new(key);
                tasks.spawn_local(async move {
                    let mut connection = Connection::open(address).await?;
                    let mut latencies = Vec::new();
                    for at in 0..CREATES {
                        let request = create(&key, &format!("{round}-{n}-{at}"));
                        let sent = Instant::now();
                        let status = connection.call(&request).await?.status;
                        ensure!(status == 201, "a create was answered with {status}");
                        latencies.push(sent.elapsed());
                    }
                    Ok(latencies)
                })
            })
            .collect();
        tasks.await;
        let answered = begin.elapsed();
        let mut latencies = Vec::new();
        for handle in handles {
            latencies.extend(handle.await.context("a client failed")??);
        }
        let waiting = "select count(*) from sandboxes where phase in ('creating', 'starting')";
        while self.postgres.value::<i64>(waiting).await? > 0 {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        let ready = begin.elapsed();
        latencies.sort_unstable();
        let n = latencies.len() as f64;
        Ok(Created {
            answered: n / answered.as_secs_f64(),
            ready: n / ready.as_secs_f64(),
            mean: millis(latencies.iter().sum()) / n,
            quantiles: [0.5, 0.99].map(|q| millis(http::quantile(&latencies, q))),
        })
    }

    /// Kills the server's sandboxes as a client would, and takes pgbench's out of every index.
    async fn end_sandboxes(&self) -> Result<()> {
        for end in [
            "update meters m set closed_at = settled_until from sandboxes s
             where s.id = m.sandbox_id and s.host = 'pgbench' and m.closed_at is null",
            "update sandboxes set phase = 'destroyed', ended_at = created_at,
               removed_at = created_at, reconcile_at = null
             where host = 'pgbench' and phase <> 'destroyed'",
        ] {
            self.postgres.execute(end).await?;
        }
        let tasks = LocalSet::new();
        let handles: Vec<_> = self
            .keys
            .iter()
            .map(|key| {
                let (address, key) = (self.address, key.clone());
                tasks.spawn_local(async move { kill_all(address, &key).await })
            })
            .collect();
        tasks.await;
        for handle in handles {
            handle.await.context("a client failed")??;
        }
        Ok(())
    }

    /// Runs scripts, one after the other as one transaction of pgbench.
    async fn pgbench(&self, spread: Spread, scripts: &[&str]) -> Result<Pgbench> {
        let file = self.folder.join("script.sql");
        std::fs::write(&file, scripts.concat())?;
        let tenant = match spread {
            Spread::Wide => -1,
            Spread::Hot => 0,
        };
        let mut pgbench = self.postgres.client("pgbench");
        pgbench.args(["--no-vacuum", "--protocol=prepared", "--jobs=1"]);
        pgbench.arg(format!("--client={CONNECTIONS}")).arg(format!("--transactions={CREATES}"));
        pgbench.arg(format!("--define=round={}", self.n_rounds * 10 + scripts.len()));
        pgbench.arg(format!("--define=tenant={tenant}")).arg("--define=n=0");
        pgbench.arg("--file").arg(&file).arg("postgres");
        Pgbench::run(pgbench).await
    }
}

struct Created {
    answered: f64,
    ready: f64,
    mean: f64,
    quantiles: [f64; 2],
}

fn create(key: &str, idempotency_key: &str) -> Vec<u8> {
    let body = json!({ "template": "python", "ttlMs": 600_000, "metadata": { "run": "bench" } });
    http::request("POST", "/v1/sandboxes", key, Some(idempotency_key), Some(&body))
}

async fn kill_all(address: SocketAddr, key: &str) -> Result<()> {
    let mut connection = Connection::open(address).await?;
    loop {
        let list = http::request("GET", "/v1/sandboxes?limit=500", key, None, None);
        let page = connection.call(&list).await?.is(200)?;
        let sandboxes = page["data"].as_array().context("a list")?;
        if sandboxes.is_empty() {
            return Ok(());
        }
        for sandbox in sandboxes {
            let path = format!("/v1/sandboxes/{}", sandbox["id"].as_str().context("an id")?);
            let kill = http::request("DELETE", &path, key, None, None);
            connection.call(&kill).await?.is(200)?;
        }
    }
}
