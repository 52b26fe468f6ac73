//! The stage of the story: one database, one broker, one server after the other, clients that work and
//! a consumer.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use reqwest::Method;
use serde_json::json;
use store::testing::{self, TestDatabase};
use tests::{
    Database, Mailbox, message, program,
    serving::{Client, Installation, Turns},
    tables,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{Failure, consumer::Consumer, rabbit::Rabbit};

/// Longer than the lease of a relay that died and the longest pause of one that lives.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Between two things that a client does.
const PACE: Duration = Duration::from_millis(20);
const N_CLIENTS: usize = 3;
/// More than any disk has; and less than the smallest.
const TOO_MUCH: &str = "900000000000000";
const ENOUGH: &str = "1000000";

pub struct Stage {
    database: TestDatabase,
    folder: PathBuf,
    servers: Turns,
    load: JoinSet<()>,
    over: Arc<AtomicBool>,
    mailbox: Mailbox,
    consumer: Consumer,
    /// Last, so that it ends last.
    rabbit: Rabbit,
}

impl Stage {
    pub async fn set(database: Database) -> Self {
        let name = database.name();
        let rabbit = tokio::task::spawn_blocking(move || Rabbit::start(name)).await.unwrap();
        let database = match database {
            Database::Sqlite => testing::sqlite().await,
            Database::Postgres => testing::postgres().await.expect("the story was not skipped"),
        };
        let folder =
            std::env::temp_dir().join(format!("crownest-broker-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut mailbox = Mailbox::at(&rabbit.url).await;
        mailbox.declares().await;
        mailbox.binds("crownest.#").await;
        let settings = vec![
            ("CROWNEST_DATABASE_URL", database.url.clone()),
            ("CROWNEST_DRIVER", "simulated".to_owned()),
            ("CROWNEST_MAX_CONCURRENT_SANDBOXES", "1000".to_owned()),
            ("CROWNEST_AMQP_URL", rabbit.url.clone()),
            ("CROWNEST_AMQP_EXCHANGE", mailbox.exchange.clone()),
            ("CROWNEST_AMQP_DECLARE_TOPOLOGY", "false".to_owned()),
        ];
        let installation = Installation::new(&program::folder(), &folder, settings);
        let made = installation.bootstrap("broker").await.unwrap();
        let mut servers = Turns::of(installation);
        let client = servers.client(made["apiKey"].as_str().unwrap());
        let consumer = Consumer::start(&rabbit.url, &mailbox.queue);
        let over = Arc::<AtomicBool>::default();
        let mut load = JoinSet::new();
        for _ in 0..N_CLIENTS {
            load.spawn(works(client.clone(), Arc::clone(&over)));
        }
        servers.start().await;
        Self { database, folder, servers, load, over, mailbox, consumer, rabbit }
    }

    /// Something breaks, stays so for a while, and is mended.
    pub async fn suffers(&mut self, failure: Failure, broken: Duration) {
        match failure {
            Failure::BrokerStops => {
                self.rabbit.control(&["stop_app"]).await;
                sleep(broken).await;
                self.rabbit.control(&["start_app"]).await;
            }
            Failure::ConnectionsClose => {
                self.rabbit.control(&["close_all_connections", "a test"]).await;
            }
            Failure::DiskFills => {
                self.rabbit.control(&["set_disk_free_limit", TOO_MUCH]).await;
                sleep(broken).await;
                self.rabbit.control(&["set_disk_free_limit", ENOUGH]).await;
            }
            Failure::QueueGoes => self.queue_goes(broken).await,
            Failure::ServerDies => {
                self.servers.kill().await;
                self.servers.start().await;
            }
            Failure::BothDie => {
                self.rabbit.control(&["stop_app"]).await;
                self.servers.kill().await;
                self.servers.start().await;
                sleep(broken).await;
                self.rabbit.control(&["start_app"]).await;
            }
        }
    }

    /// What was in a queue is the broker's to lose when an operator deletes it, so it is empty then.
    async fn queue_goes(&mut self, broken: Duration) {
        self.mailbox.unbinds("crownest.#").await;
        let deadline = Instant::now() + PATIENCE;
        while self.mailbox.n_waiting().await > 0 {
            assert!(Instant::now() < deadline, "the consumer does not empty the queue");
            sleep(LOOK_AGAIN).await;
        }
        self.mailbox.deletes_queue().await;
        sleep(broken).await;
        self.mailbox.declares().await;
        self.mailbox.binds("crownest.#").await;
    }

    /// How far things are.
    pub async fn state(&self) -> String {
        let count = async |what: &str| {
            let sql = format!("select count(*) from outbox_events where {what}");
            tables::number(&self.database.db, &sql).await
        };
        let came = self.consumer.messages().len();
        let (all, waiting) = (count("true").await, count("published_at is null").await);
        format!("{all} events, {waiting} wait, {came} messages came")
    }

    pub async fn finishes_the_load(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        while let Some(ended) = self.load.join_next().await {
            ended.unwrap();
        }
    }

    /// Waits until the outbox is published; then compares.
    pub async fn checks_that_everything_came(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let events = message::events(&self.database.db).await;
            let messages = self.consumer.messages();
            let waiting = events.iter().filter(|event| event.published_at.is_none()).count();
            let came = message::in_order(&messages, &events, &self.mailbox.exchange);
            let wanted: BTreeSet<_> = events.iter().map(message::id_of).collect();
            if waiting == 0 && came == wanted {
                return;
            }
            let lost = wanted.difference(&came).count();
            assert!(Instant::now() < deadline, "{waiting} wait, {lost} did not come");
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Ends everything, and sums up.
    pub async fn close(mut self) -> String {
        let (messages, state) = (self.consumer.messages(), self.state().await);
        let ids: BTreeSet<_> = messages.iter().map(tests::message::Message::id).collect();
        let log = std::fs::read_to_string(self.servers.installation.log()).unwrap();
        let (_, password) = self.rabbit.url.split_once("crownest:").unwrap();
        let (password, _) = password.split_once('@').unwrap();
        assert!(!log.contains(password), "the broker's password is in the log");
        self.servers.kill().await;
        format!("{state}, {} of them repeats", messages.len() - ids.len())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.servers.kill_now();
        if !std::thread::panicking() {
            std::fs::remove_dir_all(&self.folder).ok();
        }
    }
}

/// A client: sandboxes come, run something and go. What it is answered is not what this is about: a
/// simulated sandbox dies with its server.
async fn works(client: Client, over: Arc<AtomicBool>) {
    while !over.load(Ordering::Relaxed) {
        let made = client.insist(Method::POST, "/v1/sandboxes", None, Some(&json!({}))).await;
        let id = made.is(201)["sandbox"]["id"].as_str().unwrap().to_owned();
        let path = format!("/v1/sandboxes/{id}");
        for _ in 0..2 {
            let body = json!({ "command": "true" });
            client.insist(Method::POST, &format!("{path}/commands"), None, Some(&body)).await;
            sleep(PACE).await;
        }
        client.insist(Method::DELETE, &path, None, None).await;
    }
}
