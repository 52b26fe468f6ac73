//! Windows and postings of the settlement that workers do, against pgbench, which writes as many of the
//! same rows to books of its own, in transactions for as many organizations. In this process, with a
//! clock moved by hand: a minute a tick.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use api::{
    app::{App, billing::tick},
    clock::{Clock, ManualClock},
    config::Config,
};
use chrono::{DateTime, TimeDelta, Utc};
use drivers::simulated::Simulated;
use store::Db;

use super::check;
use crate::{
    postgres::{self, Postgres},
    statements,
    table::{Table, median},
};

const BOOKS: &str = include_str!("books.sql");
const SETTLE: &str = include_str!("settle.sql");
const START: &str = "2031-03-10T12:00:00Z";
/// Windows are cut this long after their end.
const LAG: TimeDelta = TimeDelta::seconds(10);
const ROUNDS: usize = 5;
/// Organizations that are settled in one transaction.
const BATCH: usize = 64;

/// Tables of which both sides write as many rows.
const COUNTED: [&str; 7] = [
    "usage_windows",
    "ledger_transactions",
    "ledger_postings",
    "usage_lines",
    "ledger_totals",
    "outbox_subjects",
    "outbox_events",
];

/// How many there are of what.
#[derive(Debug, Clone, Copy)]
struct Shape {
    name: &'static str,
    n_orgs: usize,
    n_sandboxes: usize,
    /// Ticks in a round.
    n_ticks: usize,
}

const MANY: Shape =
    Shape { name: "128 organizations of 40", n_orgs: 128, n_sandboxes: 40, n_ticks: 4 };
const ALONE: Shape =
    Shape { name: "1,280 organizations of 1", n_orgs: 1280, n_sandboxes: 1, n_ticks: 4 };
const LARGE: Shape =
    Shape { name: "1 organization of 5,000", n_orgs: 1, n_sandboxes: 5000, n_ticks: 4 };
const TENTH: Shape =
    Shape { name: "1 organization of 500", n_orgs: 1, n_sandboxes: 500, n_ticks: 20 };

pub async fn measure(table: &mut Table, postgres: &Postgres, folder: &Path) -> Result<()> {
    for (shape, database) in [(MANY, "many"), (ALONE, "alone")] {
        let mut books = Books::open(postgres, folder, shape, database).await?;
        for _ in 0..ROUNDS {
            let here = books.server().await?;
            let there = books.pgbench().await?;
            books.add(table, here, there);
        }
        books.close(table).await?;
    }
    let mut large = Books::open(postgres, folder, LARGE, "large").await?;
    let mut tenth = Books::open(postgres, folder, TENTH, "tenth").await?;
    for _ in 0..ROUNDS {
        let [here, there] = [large.server().await?, tenth.server().await?];
        let pgbench = large.pgbench().await?;
        large.add(table, here, pgbench);
        let micros = |shape: Shape, took: Duration| took.as_secs_f64() * 1e6 / shape.windows();
        let pair = (micros(LARGE, here), micros(TENTH, there));
        let against = "a window of 1 organization of 500";
        let what = format!("settle, {}: a window", LARGE.name);
        table.add(&what, against, "us", LARGE.n_ticks * LARGE.n_sandboxes, pair);
    }
    tenth.pgbench().await?;
    large.close(table).await?;
    tenth.close(table).await
}

impl Shape {
    /// Windows that a round closes.
    fn windows(self) -> f64 {
        (self.n_orgs * self.n_sandboxes * self.n_ticks) as f64
    }

    /// Postings that a round writes: an organization's windows of a tick are paid together, by credit.
    fn postings(self) -> f64 {
        (2 * self.n_orgs * self.n_ticks) as f64
    }
}

/// The same books twice, in a database of their own.
struct Books<'p> {
    postgres: &'p Postgres,
    folder: &'p Path,
    shape: Shape,
    database: &'static str,
    app: Arc<App>,
    clock: ManualClock,
    /// Minutes that each side has settled.
    n_settled: [usize; 2],
    ticks: Vec<f64>,
}

impl<'p> Books<'p> {
    async fn open(
        postgres: &'p Postgres,
        folder: &'p Path,
        shape: Shape,
        database: &'static str,
    ) -> Result<Self> {
        let db = postgres.database(database).await?;
        let Shape { n_orgs, n_sandboxes, .. } = shape;
        let numbers = format!("select {n_orgs} as n_orgs, {n_sandboxes} as n_sandboxes");
        postgres::execute(&db, &format!("create table bench_shape as {numbers}")).await?;
        postgres::execute(&db, BOOKS).await?;
        let clock = ManualClock::at(START.parse::<DateTime<Utc>>()? + LAG);
        let config = Config::default();
        let driver = Arc::new(Simulated::new());
        let app = App::new(config, db, driver, Arc::new(clock.clone()));
        let (n_settled, ticks) = ([0, 0], Vec::new());
        let mut books = Self { postgres, folder, shape, database, app, clock, n_settled, ticks };
        // Nothing is settled in the first minute, but accounts learn when they are due.
        books.settle().await?;
        books.tick().await?;
        Ok(books)
    }

    fn db(&self) -> &Db {
        &self.app.db
    }

    /// Goes on by a minute, at the end of which all sandboxes live.
    async fn pass(&mut self) -> Result<()> {
        self.clock.advance(TimeDelta::seconds(60));
        self.n_settled[0] += 1;
        let now = self.clock.now().timestamp_micros();
        let alive = format!(
            "update sandboxes s set seen_alive_at = {now} from bench_books b
             where b.side = 'server' and s.org_id = b.org"
        );
        postgres::execute(self.db(), &alive).await
    }

    async fn settle(&self) -> Result<()> {
        while tick::round(&self.app).await? {}
        Ok(())
    }

    async fn tick(&mut self) -> Result<Duration> {
        self.pass().await?;
        let begin = Instant::now();
        self.settle().await?;
        Ok(begin.elapsed())
    }

    /// A round of the server's.
    async fn server(&mut self) -> Result<Duration> {
        postgres::tidy(self.db()).await?;
        let mut sum = Duration::ZERO;
        for _ in 0..self.shape.n_ticks {
            let tick = self.tick().await?;
            self.ticks.push(tick.as_secs_f64() * 1e3);
            sum += tick;
        }
        Ok(sum)
    }

    /// Lets pgbench settle as many minutes as the server has by now; says how long a round of that
    /// takes.
    async fn pgbench(&mut self) -> Result<Duration> {
        postgres::tidy(self.db()).await?;
        let file = self.folder.join("settle.sql");
        std::fs::write(&file, SETTLE)?;
        let [settled, done] = self.n_settled;
        let n_batches = self.shape.n_orgs.div_ceil(BATCH);
        let mut pgbench = self.postgres.client("pgbench");
        pgbench.args(["--no-vacuum", "--protocol=prepared", "--client=1", "--define=n=-1"]);
        pgbench.arg(format!("--define=first={}", done + 1));
        pgbench.arg(format!("--define=n_batches={n_batches}"));
        let start = START.parse::<DateTime<Utc>>()?.timestamp_micros();
        pgbench.arg(format!("--define=start={start}"));
        let n = (settled - done) * n_batches;
        pgbench.arg(format!("--transactions={n}")).arg("--file").arg(&file).arg(self.database);
        let told = postgres::Pgbench::run(pgbench).await?;
        self.n_settled[1] = settled;
        let batches = (self.shape.n_ticks * n_batches) as f64;
        Ok(Duration::from_secs_f64(batches / told.rate))
    }

    fn add(&self, table: &mut Table, here: Duration, there: Duration) {
        let Shape { name, n_orgs, n_sandboxes, n_ticks } = self.shape;
        let n = n_orgs * n_sandboxes * n_ticks;
        let mut row = |what: &str, number: f64| {
            let pair = (number / here.as_secs_f64(), number / there.as_secs_f64());
            table.add(&format!("settle, {name}: {what}"), "pgbench, settle.sql", "1/s", n, pair);
        };
        row("windows", self.shape.windows());
        row("postings", self.shape.postings());
    }

    /// Compares what both sides wrote, and counts the statements of one more tick.
    async fn close(mut self, table: &mut Table) -> Result<()> {
        for counted in COUNTED {
            let [server, pgbench] =
                [self.count(counted, "server").await?, self.count(counted, "pgbench").await?];
            ensure!(server == pgbench, "{counted}: {server} here, {pgbench} there");
        }
        let mean = async |side| {
            let what = format!(
                "outbox_events c join bench_books b on b.org = c.org_id
                 where b.side = '{side}'"
            );
            let sql = format!("select avg(length(data))::bigint from {what}");
            postgres::value::<i64>(self.db(), &sql).await
        };
        let [server, pgbench] = [mean("server").await?, mean("pgbench").await?];
        ensure!((server - pgbench).abs() < 40, "events: {server} bytes here, {pgbench} there");
        check(self.db()).await?;
        self.pass().await?;
        let statements = statements::during(self.postgres, self.settle()).await?;
        let batches: Vec<_> = statements.split(|text| text == "commit").collect();
        let first = batches.first().context("a tick settles something")?;
        let of = |word: &str| first.iter().filter(|text| text.starts_with(word)).count();
        table.note(format!(
            "settle, {}: a batch of {} accounts and {} windows takes {} statements: {} that read, {} \
             that write; a tick {:.0} ms",
            self.shape.name,
            self.shape.n_orgs.min(BATCH),
            self.shape.n_orgs.min(BATCH) * self.shape.n_sandboxes,
            of("select") + of("insert") + of("update") + of("with"),
            of("select"),
            of("insert") + of("update") + of("with"),
            median(self.ticks.iter().copied())
        ));
        self.db().clone().close().await?;
        Ok(())
    }

    async fn count(&self, counted: &str, side: &str) -> Result<i64> {
        let sql = format!(
            "select count(*) from {counted} c join bench_books b on b.org = c.org_id
             where b.side = '{side}'"
        );
        postgres::value(self.db(), &sql).await
    }
}
