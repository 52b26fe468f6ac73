//! The stage of the story: one database, one host, one server after the other, and their clients.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use reqwest::Method;
use serde_json::Value;
use store::testing::{self, TestDatabase};
use tests::{
    Database,
    chance::Chance,
    program,
    serving::{Client, Installation, Turns},
};
use tokio::time::{Instant, sleep};

use crate::{
    answers, books,
    commands::{self, Endings},
    host::{self, Process},
    journal::{Journal, Promises},
    load::Load,
};

/// Longer than a boot that was cut short takes to be done again.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

pub struct Stage {
    database: TestDatabase,
    folder: PathBuf,
    servers: Turns,
    client: Client,
    org: String,
    journal: Arc<Journal>,
    load: Load,
    chance: Chance,
    /// Sandboxes that live through everything, and what they run as.
    steady: [String; 2],
    frames: BTreeSet<Process>,
    /// Control groups seen so far.
    groups: BTreeSet<PathBuf>,
    used: i64,
    endings: Endings,
}

impl Stage {
    /// A first server, an organization, and two sandboxes that stay.
    pub async fn set(database: Database, chance: Chance) -> Self {
        let name = database.name();
        let database = match database {
            Database::Sqlite => testing::sqlite().await,
            Database::Postgres => testing::postgres().await.expect("the story was not skipped"),
        };
        let folder =
            std::env::temp_dir().join(format!("crownest-crash-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let settings = vec![
            ("CROWNEST_DATABASE_URL", database.url.clone()),
            ("CROWNEST_DRIVER", "local".to_owned()),
            ("CROWNEST_MAX_CONCURRENT_SANDBOXES", "1000".to_owned()),
        ];
        let installation = Installation::new(&program::folder(), &folder, settings);
        let made = installation.bootstrap("crash").await.unwrap();
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        let servers = Turns::of(installation);
        let client = servers.client(&text("apiKey"));
        let journal = Arc::new(Journal::default());
        let mut stage = Self {
            load: Load::new(client.clone(), Arc::clone(&journal)),
            org: text("organizationId"),
            database,
            folder,
            servers,
            client,
            journal,
            chance,
            steady: [String::new(), String::new()],
            frames: BTreeSet::new(),
            groups: BTreeSet::new(),
            used: 0,
            endings: Endings::default(),
        };
        stage.servers.start().await;
        for (n, key) in ["steady-1", "steady-2"].into_iter().enumerate() {
            stage.steady[n] = stage.load.creates_to_stay(key).await;
        }
        let processes = host::processes(&stage.org);
        stage.frames = processes.into_iter().filter(Process::is_frame).collect();
        assert_eq!(stage.frames.len(), 4, "two processes each: {:#?}", stage.frames);
        stage.kills_server().await;
        stage
    }

    /// Starts the next server and waits until it serves.
    pub async fn starts_server(&mut self) {
        self.servers.start().await;
    }

    /// Starts the next server, and then a wave of clients.
    pub async fn starts_server_with_load(&mut self) {
        self.starts_server().await;
        self.load.begins_wave(&self.steady, &mut self.chance);
    }

    /// Starts a server that nobody waits for.
    pub fn starts_server_blindly(&mut self) {
        self.servers.start_blindly();
    }

    /// Kills the server in the middle of its work, and says what that was.
    pub async fn kills_server(&mut self) -> String {
        self.groups.extend(host::control_groups(&self.servers.installation));
        let before = host::processes(&self.org);
        let pid = self.servers.pid();
        self.servers.kill().await;
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "the server is dead");
        self.load.ends_wave();
        self.load.must_go_on();
        self.groups.extend(host::control_groups(&self.servers.installation));
        let promises = self.journal.open();
        format!(
            "{} sandboxes and {} commands promised, {} processes, {} requests sent again",
            promises.creates.len(),
            promises.commands.len(),
            before.len(),
            self.client.n_retries()
        )
    }

    /// While no server runs: sandboxes go on, and the books are right.
    pub async fn checks_the_dead(&self) {
        let lost: Vec<_> = self.frames.difference(&host::processes(&self.org)).cloned().collect();
        assert!(lost.is_empty(), "these died with their server: {lost:#?}");
        books::hold(&self.database.db).await;
    }

    /// Lets the clients get what they asked for.
    pub async fn finishes_the_load(&mut self) {
        self.load.finishes().await;
    }

    /// With a server that has taken over everything: one sandbox, one directory and one set of
    /// processes for each key, and nothing else.
    pub async fn checks_the_living(&mut self) {
        let live = self.promises().live();
        let deadline = Instant::now() + PATIENCE;
        for sandbox in &live {
            while !self.is_up(sandbox).await {
                assert!(Instant::now() < deadline, "{sandbox} does not come up");
                sleep(LOOK_AGAIN).await;
            }
        }
        answers::are_kept(&self.client, &self.database.db, &self.promises()).await;
        let live: BTreeSet<_> = live.into_iter().collect();
        assert_eq!(
            host::run_directories(&self.servers.installation),
            live,
            "directories and sandboxes"
        );
        let processes = host::processes(&self.org);
        let run: BTreeSet<_> = processes.iter().map(|process| process.sandbox.clone()).collect();
        assert_eq!(run, live, "processes and sandboxes: {processes:#?}");
        let frames: BTreeSet<_> = processes.into_iter().filter(Process::is_frame).collect();
        assert_eq!(frames.len(), 2 * live.len(), "one bubblewrap and one agent each: {frames:#?}");
        assert!(self.frames.is_subset(&frames), "a sandbox was started anew: {frames:#?}");
        books::hold(&self.database.db).await;
    }

    async fn is_up(&self, sandbox: &str) -> bool {
        let seen = self.client.get(&format!("/v1/sandboxes/{sandbox}")).await["sandbox"].take();
        let status = seen["status"].as_str().unwrap();
        assert!(!["failed", "destroyed"].contains(&status), "nobody has killed {seen}");
        !["creating", "starting"].contains(&status)
    }

    pub async fn checks_what_ran(&mut self) {
        let commands = self.promises().commands;
        self.endings = commands::ran_once(&self.client, &commands, &self.steady).await;
    }

    pub async fn checks_every_retry(&self) {
        let promises = self.promises();
        answers::are_repeated(&self.client, &promises).await;
        answers::are_kept(&self.client, &self.database.db, &promises).await;
    }

    pub async fn kills_all_sandboxes(&mut self) {
        for sandbox in self.promises().live() {
            let path = format!("/v1/sandboxes/{sandbox}");
            self.client.insist(Method::DELETE, &path, None, None).await.is(200);
            self.journal.open().killed.push(sandbox);
        }
    }

    /// No process, no directory, no open meter; and the usage is the sum of the sandboxes' lives.
    pub async fn checks_that_nothing_is_left(&mut self) {
        let processes = host::processes(&self.org);
        assert!(processes.is_empty(), "nobody wants these any more: {processes:#?}");
        // Instants at which a server leaves this are too rare to wait for.
        let killed = self.promises().killed;
        std::fs::write(self.servers.installation.state().join("locks").join(&killed[0]), "")
            .unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = host::left_over(&self.servers.installation, &self.groups);
            if left.is_empty() {
                break;
            }
            assert!(Instant::now() < deadline, "nobody needs these any more: {left:#?}");
            sleep(LOOK_AGAIN).await;
        }
        books::are_closed(&self.database.db).await;
        let usage: Value = self.client.get("/v1/usage").await;
        let since: DateTime<Utc> = usage["period"]["start"].as_str().unwrap().parse().unwrap();
        self.used = usage["computeUnitSeconds"]["used"].as_i64().unwrap();
        assert_eq!(self.used, books::used(&self.database.db, since).await, "{usage}");
    }

    /// Ends the last server in good order and says what it was all about.
    pub async fn close(mut self) -> String {
        let status = self.servers.stop().await;
        assert!(status.success(), "the server ended with {status}");
        let promises = self.promises();
        format!(
            "{} sandboxes, {} commands ({}), {} requests sent again, {} compute unit seconds",
            promises.creates.len(),
            promises.commands.len(),
            self.endings,
            self.client.n_retries(),
            self.used,
        )
    }

    fn promises(&self) -> Promises {
        self.journal.open().clone()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the end of the servers' log:\n{}", self.servers.last_words(120));
        }
        // The server first, or it would start again what is killed.
        self.servers.kill_now();
        host::kill_all(&self.org);
        std::fs::remove_dir_all(&self.folder).ok();
    }
}
