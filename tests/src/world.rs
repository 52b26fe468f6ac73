//! One world per story: a database of its own, a host with a clock that only the story moves, and
//! one server or more. `close` says what holds at the end of every story.

use std::{
    fmt::Debug,
    future::{Future, IntoFuture},
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use api::{bus::Nudge, config::Config};
use chrono::{DateTime, Utc};
use domain::limits::Plan;
use drivers::simulated::{Simulated, SimulatedClock};
use reqwest::Client;
use store::{
    Db,
    testing::{self, TestDatabase},
};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::{
    admin::Admin,
    client::{self, Address, Key},
    host::{Host, WorldClock},
    invariants,
    logs::Logs,
    run::Database,
    scrape::Scrape,
    server::{Server, Start},
    tables,
    team::Team,
    time,
};

/// A world in which this much real time does not bring a condition about never will.
const PATIENCE: Duration = Duration::from_secs(40);
/// How often a condition is looked at when nothing nudges.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
const START: &str = "2031-03-10T12:00:00Z";

/// How a world begins. Await it.
pub struct Beginning {
    database: Database,
    at: DateTime<Utc>,
    config: Config,
}

impl Beginning {
    /// The instant that the clock shows first.
    #[must_use]
    pub fn at(mut self, at: &str) -> Self {
        self.at = time::at(at);
        self
    }

    /// Lets the servers tell scrapers what they count.
    #[must_use]
    pub fn measured(self) -> Self {
        self.with(|config| config.metrics_listen = Some(([127, 0, 0, 1], 0).into()))
    }

    /// Changes the servers' settings.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }
}

impl IntoFuture for Beginning {
    type Output = World;
    type IntoFuture = Pin<Box<dyn Future<Output = World> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(World::begin(self))
    }
}

/// A world. Its end must be awaited: [`World::close`].
pub struct World {
    /// The host's driver: its script of faults and what it runs.
    pub driver: Simulated,
    /// Vanishes with the world.
    _database: TestDatabase,
    /// Where servers keep what is in no database; vanishes, too.
    folder: TempDir,
    common: Arc<Common>,
    start: Start,
    /// The first is the one that keys talk to.
    servers: Vec<Server>,
    logs: Logs,
    expected: Mutex<Vec<(String, Presence)>>,
    closed: bool,
}

/// What a world shares with its teams.
#[derive(Debug)]
pub(crate) struct Common {
    pub db: Db,
    pub clock: SimulatedClock,
    pub http: Client,
    pub address: Address,
}

impl Common {
    /// Looks until there is something to see, and returns it.
    pub async fn until<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            assert!(Instant::now() < deadline, "in vain: {what}");
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Must,
    May,
}

impl World {
    /// A world on a database of this kind, at noon of an ordinary day, with the default settings
    /// but for the limit of requests, which is off.
    #[must_use]
    pub fn on(database: Database) -> Beginning {
        let config = Config {
            rate_limit_per_minute: 0,
            database_connections: 6,
            preview_listen: Some(([127, 0, 0, 1], 0).into()),
            ..Config::default()
        };
        Beginning { database, at: time::at(START), config }
    }

    async fn begin(beginning: Beginning) -> Self {
        let database = match beginning.database {
            Database::Sqlite => testing::sqlite().await,
            Database::Postgres => testing::postgres().await.expect("the story was not skipped"),
        };
        let clock = SimulatedClock::at(beginning.at);
        let driver = Simulated::with_clock(clock.clone());
        let folder = TempDir::new().unwrap();
        let state_dir = folder.path().to_owned();
        let start = Start {
            config: Config { state_dir, ..beginning.config },
            database_url: database.url.clone(),
            host: Host::new(driver.clone()),
            clock: WorldClock(clock.clone()),
        };
        let address = Address::default();
        let server = Server::start(start.clone(), &address).await;
        let http = client::http();
        Self {
            driver,
            common: Arc::new(Common { db: database.db.clone(), clock, http, address }),
            _database: database,
            folder,
            start,
            servers: vec![server],
            logs: Logs::here(),
            expected: Mutex::default(),
            closed: false,
        }
    }

    /// An organization of this name with a key that may do everything.
    pub async fn team(&self, name: &str) -> Team {
        self.team_on(name, Plan::Builder).await
    }

    /// The same on another plan.
    pub async fn team_on(&self, name: &str, plan: Plan) -> Team {
        Team::new(Arc::clone(&self.common), name, plan).await
    }

    /// An operator who may do everything.
    pub async fn owner(&self) -> Admin {
        Admin::new(Arc::clone(&self.common)).await
    }

    /// Somebody without a credential.
    #[must_use]
    pub fn nobody(&self) -> Key {
        Key::nobody(self.common.http.clone(), self.common.address.clone())
    }

    /// The database, for what no request can do or see.
    #[must_use]
    pub fn db(&self) -> &Db {
        &self.common.db
    }

    /// Every file that the servers keep artifacts in, from their folder, half-written ones included.
    #[must_use]
    pub fn blobs(&self) -> Vec<PathBuf> {
        invariants::files_below(&self.folder.path().join("artifacts"))
    }

    /// How long a window of usage is.
    pub(crate) fn window(&self) -> chrono::TimeDelta {
        chrono::TimeDelta::seconds(self.start.config.usage_window_seconds.into())
    }

    /// Its address, for programs.
    #[must_use]
    pub fn database_url(&self) -> &str {
        &self.start.database_url
    }

    /// The number that a statement such as `select count(*) from sandboxes` gives.
    pub async fn number(&self, sql: &str) -> i64 {
        tables::number(self.db(), sql).await
    }

    /// Changes the tables behind the servers' backs, for what no request can bring about.
    pub async fn executes(&self, sql: &str) {
        tables::execute(self.db(), sql).await;
    }

    /// Waits until so many commands run.
    pub async fn until_n_run(&self, n: i64) {
        let sql = "select count(*) from commands where status = 'running'";
        let look = async || (self.number(sql).await == n).then_some(());
        self.until(&format!("{n} running commands"), look).await;
    }

    /// What the world's clock shows.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.common.clock.now()
    }

    /// What the clock will show, as the wire prints it, `after` from now.
    #[must_use]
    pub fn stamp(&self, after: &str) -> String {
        time::printed(self.now() + time::span(after))
    }

    /// Moves the clock and waits until everything that became due is done.
    pub async fn advance(&self, by: &str) {
        self.moves(by);
        self.settle().await;
    }

    /// Moves the clock and waits for nothing.
    pub fn moves(&self, by: &str) {
        self.common.clock.advance(time::span(by).to_std().unwrap());
        for server in &self.servers {
            server.app().bus.publish(Nudge::Reconcile);
        }
    }

    /// Sets the clock, forwards or backwards, and waits for nothing.
    pub fn moves_to(&self, at: &str) {
        self.common.clock.set(time::at(at));
        for server in &self.servers {
            server.app().bus.publish(Nudge::Reconcile);
        }
    }

    /// The server that keys talk to.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.servers[0]
    }

    /// All servers, that which keys talk to first.
    pub fn servers(&self) -> impl Iterator<Item = &Server> {
        self.servers.iter()
    }

    /// Starts another server on the same database and host, and says how a key talks to it.
    pub async fn replica(&mut self) -> impl Fn(&Key) -> Key + use<> {
        let address = Address::default();
        self.servers.push(Server::start(self.start.clone(), &address).await);
        move |key| key.at(address.clone())
    }

    /// Kills the server that keys talk to, as `kill -9` would. Its sandboxes go on running.
    pub async fn kills_server(&mut self) {
        // What follows a command may see its connection go before it is gone itself.
        self.tolerates_warning("following a command: connecting again");
        self.servers.remove(0).kill().await;
    }

    /// Stops the server that keys talk to in good order.
    pub async fn stops_server(&mut self) {
        self.servers.remove(0).stop().await;
    }

    /// Starts a server where keys talk to, after it was killed or stopped. That takes a moment.
    pub async fn starts_server(&mut self) {
        self.common.clock.advance(Duration::from_millis(1));
        let server = Server::start(self.start.clone(), &self.common.address).await;
        self.servers.insert(0, server);
    }

    /// Changes the settings of servers that start from now on.
    pub fn changes(&mut self, change: impl FnOnce(&mut Config)) {
        change(&mut self.start.config);
    }

    /// What the server that keys talk to tells a scraper.
    pub async fn scrapes(&self) -> Scrape {
        self.scrapes_of(self.server()).await
    }

    /// The same of another server.
    pub async fn scrapes_of(&self, server: &Server) -> Scrape {
        let url = server.metrics().expect("the world is `Beginning::measured`");
        Scrape::read(&self.common.http, url).await
    }

    /// Everything that the world's servers have logged so far, spans' fields left out.
    #[must_use]
    pub fn logged(&self) -> String {
        self.logs.text()
    }

    /// A warning that this story causes on purpose: it must come, and fails nothing.
    pub fn expects_warning(&self, text: &str) {
        self.expected.lock().unwrap().push((text.to_owned(), Presence::Must));
    }

    /// A warning that may or may not come, by how tasks interleave.
    pub fn tolerates_warning(&self, text: &str) {
        self.expected.lock().unwrap().push((text.to_owned(), Presence::May));
    }

    /// Looks until there is something to see, and returns it.
    pub async fn until<T>(&self, what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
        self.common.until(what, look).await
    }

    /// Waits until the background work of all servers has nothing left that is due.
    pub async fn settle(&self) {
        self.reconciled().await;
        for server in &self.servers {
            // A failure is retried by the server's own loop.
            let _ =
                server.within(|app| async move { api::work::liveness::round(&app).await }).await;
        }
        for server in &self.servers {
            let _ = server
                .within(|app| async move { api::app::admin::standing::clean_due(&app).await })
                .await;
        }
        self.counts_minutes().await;
        self.wakes_books().await;
        self.settles_books().await;
        self.reconciled().await;
    }

    /// Counts the minutes of previews that have begun.
    async fn counts_minutes(&self) {
        for server in &self.servers {
            let count = || {
                server.within(|app| async move { api::app::previews::minutes::round(&app).await })
            };
            // A failure is retried by the server's own loop.
            while let Ok(true) = count().await {}
        }
    }

    /// Does what only has to happen now and then, now.
    pub async fn keeps_house(&self) {
        let server = self.server();
        server
            .within(|app| async move { api::work::housekeeping::round(&app).await })
            .await
            .unwrap();
    }

    async fn reconciled(&self) {
        let deadline = Instant::now() + PATIENCE;
        let mut nudges = self.server().app().bus.subscribe();
        loop {
            let open = invariants::unsettled(self.db(), self.now(), &self.driver.running()).await;
            if open.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "does not settle: {open:#?}");
            for server in &self.servers {
                server.app().bus.publish(Nudge::Reconcile);
            }
            nudges.wait(LOOK_AGAIN, |_| true).await;
        }
    }

    /// Ends the world and says what holds at the end of every story.
    pub async fn close(self) {
        self.ends(invariants::Trail::Kept).await;
    }

    /// The same after a story that has destroyed the audit trail.
    pub async fn close_without_trail(self) {
        self.ends(invariants::Trail::Destroyed).await;
    }

    async fn ends(mut self, trail: invariants::Trail) {
        self.settle().await;
        let mut wrong = invariants::broken(self.db(), &self.driver.running(), trail).await;
        let kept = self.folder.path().join("artifacts");
        wrong.extend(invariants::wrong_artifacts(self.db(), &kept).await);
        for server in std::mem::take(&mut self.servers) {
            server.stop().await;
        }
        wrong.extend(self.surprises());
        assert!(wrong.is_empty(), "at the end of the story: {wrong:#?}");
        self.closed = true;
    }

    /// Warnings that nobody expected, and expected ones that did not come.
    fn surprises(&self) -> Vec<String> {
        let warnings = self.logs.warnings();
        let expected = self.expected.lock().unwrap();
        let known = |warning: &&String| expected.iter().any(|(text, _)| warning.contains(text));
        let unknown = warnings.iter().filter(|warning| !known(warning));
        let mut surprises: Vec<_> =
            unknown.map(|warning| format!("nobody expected: {warning}")).collect();
        for (text, presence) in expected.iter() {
            let came = warnings.iter().any(|warning| warning.contains(text));
            if *presence == Presence::Must && !came {
                surprises.push(format!("no warning says {text:?}"));
            }
        }
        surprises
    }
}

impl Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("now", &self.now()).finish_non_exhaustive()
    }
}

impl Drop for World {
    #[expect(clippy::print_stderr, reason = "a failed story shows what its servers logged")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the end of the servers' log:\n{}", self.logs.tail());
        } else {
            assert!(self.closed, "a story must end with world.close().await");
        }
    }
}
