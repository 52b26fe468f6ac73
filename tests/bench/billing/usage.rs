//! `GET /v1/usage` for an organization with a million windows, against one with a hundred: what was
//! settled long ago must not be read again.

use std::{net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context, Result};
use tests::serving::{Installation, Server};

use super::{check, history::History};
use crate::{
    http::{self, Connection},
    postgres::{self, Postgres},
    statements,
    table::{Table, millis},
};

const CONNECTIONS: usize = 8;
const ROUNDS: usize = 7;
const WARM_UP: Duration = Duration::from_millis(250);
const MEASURED: Duration = Duration::from_secs(1);
const AGAINST: &str = "the same of 100 windows";

const MILLION: History = History { n_sandboxes: 500, n_minutes: 2000 };
/// What SQLite is filled with in seconds.
const TENTH: History = History { n_sandboxes: 50, n_minutes: 2000 };
const SMALL: History = History { n_sandboxes: 1, n_minutes: 100 };

pub async fn measure(
    table: &mut Table,
    programs: &Path,
    postgres: &Postgres,
    folder: &Path,
) -> Result<()> {
    let url = postgres.url_of("usage");
    let db = postgres.database("usage").await?;
    let served =
        Served::start(programs, &folder.join("usage-postgres"), &url, &db, MILLION).await?;
    postgres::tidy(&db).await?;
    served.measure(table, "GET /v1/usage, 1,000,000 windows").await?;
    let mut connection = Connection::open(served.address).await?;
    let read = async { connection.call(&served.large).await?.is(200).map(|_| ()) };
    let statements = statements::of_read(postgres, read).await?;
    let of = |word: &str| statements.iter().filter(|text| text.starts_with(word)).count();
    table.note(format!(
        "GET /v1/usage: {} statements, {} of them read",
        statements.len(),
        of("select")
    ));
    served.server.stop().await?;
    db.close().await?;

    let folder = folder.join("usage-sqlite");
    let url = format!("sqlite://{}", folder.join("usage.db").display());
    std::fs::create_dir_all(&folder)?;
    let db = store::Db::connect(&url, store::Options { max_connections: 1 }).await?;
    db.migrate().await?;
    let served = Served::start(programs, &folder, &url, &db, TENTH).await?;
    served.measure(table, "GET /v1/usage, SQLite, 100,000 windows").await?;
    served.server.stop().await?;
    Ok(db.close().await?)
}

/// A server with both organizations.
struct Served {
    server: Server,
    address: SocketAddr,
    large: Vec<u8>,
    small: Vec<u8>,
}

impl Served {
    async fn start(
        programs: &Path,
        folder: &Path,
        url: &str,
        db: &store::Db,
        history: History,
    ) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let settings = vec![
            ("CROWNEST_DRIVER", "simulated".to_owned()),
            ("CROWNEST_DATABASE_URL", url.to_owned()),
        ];
        let installation = Installation::new(programs, folder, settings);
        let mut requests = Vec::new();
        for (name, history) in [("large", history), ("small", SMALL)] {
            let made = installation.bootstrap(name).await?;
            history.write(db, &made).await?;
            let key = made["apiKey"].as_str().context("a key")?;
            requests.push(http::request("GET", "/v1/usage", key, None, None));
        }
        check(db).await?;
        let mut server = installation.start()?;
        let address = server.address().await?;
        let [large, small] = <[_; 2]>::try_from(requests).ok().context("two organizations")?;
        for (request, history) in [(&large, history), (&small, SMALL)] {
            let mut connection = Connection::open(address).await?;
            let usage = connection.call(request).await?.is(200)?;
            let used = usage["computeUnitSeconds"]["used"].as_i64();
            anyhow::ensure!(used == Some(history.seconds()), "used: {usage}");
        }
        Ok(Self { server, address, large, small })
    }

    async fn measure(&self, table: &mut Table, name: &str) -> Result<()> {
        for round in 0..ROUNDS {
            // Each goes first in turn.
            let mut measured = [None, None];
            for turn in 0..2 {
                let at = (round + turn) % 2;
                let request = [&self.large, &self.small][at].clone();
                let done =
                    http::repeat(self.address, CONNECTIONS, request, WARM_UP, MEASURED).await?;
                measured[at] = Some(done);
            }
            let [Some(here), Some(there)] = measured else { continue };
            let n = here.latencies.len();
            let rates = (here.per_second, there.per_second);
            table.add(&format!("{name}: rate"), AGAINST, "1/s", n, rates);
            let p50 = (millis(here.quantile(0.5)), millis(there.quantile(0.5)));
            table.add(&format!("{name}: p50"), AGAINST, "ms", n, p50);
        }
        Ok(())
    }
}
