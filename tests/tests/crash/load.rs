//! What clients do while servers die: each does one thing after the other, and none gives up. One
//! wave of clients for each server; what a wave has begun it finishes with the servers that follow.

use std::sync::Arc;

use reqwest::Method;
use serde_json::json;
use tests::{chance::Chance, serving::Client};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    follower::{self, Script},
    journal::{Command, Create, Journal},
};

/// Bounds what a fast host does in one wave.
const SANDBOXES_PER_WAVE: u32 = 6;
const COMMANDS_PER_WAVE: u32 = 30;
/// More spare sandboxes than this are killed again.
const SPARE: usize = 4;
/// About eight seconds of output: it outlives its server.
const SCRIPT: Script = Script { n_lines: 400 };

/// All clients of a story.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    over: CancellationToken,
    n_waves: u32,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    journal: Arc<Journal>,
}

impl Load {
    pub fn new(client: Client, journal: Arc<Journal>) -> Self {
        let shared = Arc::new(Shared { client, journal });
        Self { shared, tasks: JoinSet::new(), over: CancellationToken::new(), n_waves: 0 }
    }

    /// Creates a sandbox that stays to the end.
    pub async fn creates_to_stay(&self, key: &str) -> String {
        let sandbox = self.shared.create(key).await;
        let status = self.shared.run(&sandbox, &format!("{key}-first"), false).await;
        assert_eq!(status, 200);
        sandbox
    }

    /// Starts a wave of clients. `steady` are sandboxes that nobody kills.
    pub fn begins_wave(&mut self, steady: &[String; 2], chance: &mut Chance) {
        self.n_waves += 1;
        let (wave, over) = (self.n_waves, CancellationToken::new());
        self.over = over.clone();
        for n in 1..=2 {
            let (shared, over) = (Arc::clone(&self.shared), over.clone());
            let (name, chance) = (format!("churn-{wave}-{n}"), chance.fork());
            self.tasks.spawn(async move { shared.churn(&name, &over, chance).await });
        }
        for (background, sandbox) in [true, false].into_iter().zip(steady) {
            let (shared, over) = (Arc::clone(&self.shared), over.clone());
            let kind = if background { "start" } else { "run" };
            let (name, sandbox) = (format!("{kind}-{wave}"), sandbox.clone());
            self.tasks.spawn(async move {
                shared.commands(&sandbox, &name, background, &over).await;
            });
        }
        let (shared, sandbox) =
            (Arc::clone(&self.shared), steady[usize::from(wave % 2 == 0)].clone());
        self.tasks.spawn(async move { shared.prints(&sandbox, &format!("print-{wave}")).await });
    }

    /// Nobody begins anything new.
    pub fn ends_wave(&self) {
        self.over.cancel();
    }

    /// Waits until every client has got what it asked for.
    pub async fn finishes(&mut self) {
        self.ends_wave();
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    }

    /// Fails the story as soon as a client has failed.
    pub fn must_go_on(&mut self) {
        while let Some(ended) = self.tasks.try_join_next() {
            if let Err(error) = ended {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    }
}

impl Shared {
    /// Sandboxes come, get a command at once, and go in whatever state they are then.
    async fn churn(&self, name: &str, over: &CancellationToken, mut chance: Chance) {
        for n in 0..SANDBOXES_PER_WAVE {
            if over.is_cancelled() {
                return;
            }
            let key = format!("{name}-{n}");
            let sandbox = self.create(&key).await;
            self.run(&sandbox, &format!("{key}-command"), true).await;
            let victim = {
                let spare = &mut self.journal.open().spare;
                spare.push(sandbox);
                let at = usize::try_from(chance.below(spare.len() as u64)).unwrap();
                (spare.len() > SPARE).then(|| spare.swap_remove(at))
            };
            if let Some(victim) = victim {
                self.kill(&victim, &format!("{key}-kill")).await;
            }
        }
    }

    async fn commands(
        &self,
        sandbox: &str,
        name: &str,
        background: bool,
        over: &CancellationToken,
    ) {
        for n in 0..COMMANDS_PER_WAVE {
            if over.is_cancelled() {
                return;
            }
            self.run(sandbox, &format!("{name}-{n}"), background).await;
        }
    }

    async fn prints(&self, sandbox: &str, key: &str) {
        let line = SCRIPT.line(key);
        let (_, id) = self.command(sandbox, key, true, &line).await;
        let seen = follower::follow(&self.client, &id).await;
        let mut promises = self.journal.open();
        let command = promises.commands.iter_mut().find(|command| command.id == id).unwrap();
        command.followed = Some((SCRIPT, seen));
    }

    async fn create(&self, key: &str) -> String {
        let body = json!({ "template": "base", "ttlMs": 3_600_000, "metadata": { "key": key } });
        let answer =
            self.client.insist(Method::POST, "/v1/sandboxes", Some(key), Some(&body)).await;
        let sandbox = answer.is(201)["sandbox"]["id"].as_str().unwrap().to_owned();
        let create = Create { key: key.to_owned(), sandbox: sandbox.clone(), answer };
        self.journal.open().creates.push(create);
        sandbox
    }

    /// Runs a command that leaves its key behind, and returns the status of the answer.
    async fn run(&self, sandbox: &str, key: &str, background: bool) -> u16 {
        self.command(sandbox, key, background, &format!("echo {key} >>ran")).await.0
    }

    async fn command(
        &self,
        sandbox: &str,
        key: &str,
        background: bool,
        line: &str,
    ) -> (u16, String) {
        let path = format!("/v1/sandboxes/{sandbox}/commands");
        let body = json!({ "command": line, "background": background });
        let answer = self.client.insist(Method::POST, &path, Some(key), Some(&body)).await;
        let status = answer.status;
        let id = answer.is(if background { 202 } else { 200 })["command"]["id"].clone();
        let id = id.as_str().unwrap().to_owned();
        self.journal.open().commands.push(Command {
            key: key.to_owned(),
            id: id.clone(),
            sandbox: sandbox.to_owned(),
            background,
            line: line.to_owned(),
            answer,
            followed: None,
        });
        (status, id)
    }

    async fn kill(&self, sandbox: &str, key: &str) {
        let path = format!("/v1/sandboxes/{sandbox}");
        let answer = self.client.insist(Method::DELETE, &path, Some(key), None).await;
        assert_eq!(answer.is(200)["sandbox"]["status"], "destroyed", "{sandbox}");
        self.journal.open().killed.push(sandbox.to_owned());
    }
}
