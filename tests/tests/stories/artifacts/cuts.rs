//! A write that ends at its first, second, .. wait, as it does when its server is killed: after the
//! sweeper there are neither bytes without a row nor a row without bytes, and the retry makes one.
//! `tests/artifacts` kills real servers.

use std::sync::Arc;

use api::app::{
    App,
    artifacts::write::{Asked, Source, TURN, write},
    audit::Actor,
    caller::Caller,
    error::Result,
    idempotency::{Answer, Idempotent},
};
use domain::artifact::{Artifact, Name};
use tests::{Database, Team, World, cut::cut, json, stories};
use tokio::time::Instant;

stories![
    a_write_happens_whole_or_not_at_all,
    what_a_dead_server_was_writing_is_swept_by_the_next,
    a_write_that_was_taken_for_lost_is_begun_again,
];

/// No write waits more often than this.
const MOST: usize = 500;

/// What is written, as a request with this key asks for it.
struct Job {
    app: Arc<App>,
    caller: Caller,
    source: Source,
    request: Idempotent,
}

impl Job {
    async fn new(app: Arc<App>, secret: &str, sandbox: &str, n: usize) -> Self {
        let caller = app.auth.authenticate(Some(secret), "req_story", "").await.unwrap();
        let sandboxes = store::sandboxes(caller.reach());
        let sandbox = sandboxes.get(app.db.read(), sandbox.parse().unwrap()).await.unwrap();
        let source = Source {
            sandbox,
            path: "/workspace/f".to_owned(),
            name: Name::of_path("f"),
            retention_days: 7,
            collected: None,
            actor: Actor::of(&caller),
            turn_by: Instant::now() + TURN,
        };
        let request = Idempotent {
            key: format!("cut-{n}"),
            method: "POST",
            path: "/v1/sandboxes/x/artifacts".to_owned(),
            fingerprint: "the same".to_owned(),
        };
        Self { app, caller, source, request }
    }

    async fn runs(&self) -> Result<Option<Artifact>> {
        let print = |made: &Artifact| Answer { status: 201, body: made.id.to_string().into() };
        let asked = Asked { caller: &self.caller, request: Some(&self.request), print: &print };
        write(&self.app, &self.source, Some(&asked)).await
    }
}

async fn attempt(world: &World, team: &Team, sandbox: &str, n: usize, at: usize) -> Option<bool> {
    let (secret, sandbox) = (team.secret.clone(), sandbox.to_owned());
    let work = move |app: Arc<App>| async move {
        let job = Job::new(app, &secret, &sandbox, n).await;
        cut(at, job.runs()).await.map(|made| made.unwrap().is_some())
    };
    world.server().within(work).await
}

/// Artifacts, files and answers, of each as many.
async fn n_made(world: &World) -> usize {
    let sql = "select case when n = (select count(*) from usage_records
                   where metric = 'artifact_bytes_stored')
                 and n = (select count(*) from idempotency_records where status is not null)
                 and n = (select count(*) from audit_entries where action = 'artifact.create')
               then n else -1 end from (select count(*) as n from artifacts) counted";
    usize::try_from(world.number(sql).await).expect("a write happens whole or not at all")
}

/// Whether all that was begun is closed or swept, and no request waits for it: a sweeper takes a write
/// first and lets its request go last.
async fn nobody_writes(world: &World) -> bool {
    let sql = "select (select count(*) from artifact_writes where sweeps = 0)
                    + (select count(*) from idempotency_records where status is null)";
    world.number(sql).await == 0
}

async fn a_write_happens_whole_or_not_at_all(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({ "ttlMs": 3_600_000 })).await;
    acme.runs(&sandbox, "yes 3000000 > f").await; // 6 MB, which is two parts.
    let mut made = 0;
    for n in 1..=MOST {
        let first = attempt(&world, &acme, &sandbox, n, n).await;
        let settled = async || {
            // Calls that were under way end first, and a commit may be among them.
            world.moves("61s");
            world.keeps_house().await;
            nobody_writes(&world).await.then_some(())
        };
        world.until("nothing being written", settled).await;
        let now = n_made(&world).await;
        assert!([made, made + 1].contains(&now));
        // Twice, in case that its writer was only slow.
        world.moves("11m");
        world.keeps_house().await;
        assert_eq!(world.blobs().len(), now, "bytes without a row, or a row without bytes");
        assert_eq!(world.number("select count(*) from artifact_writes").await, 0);
        if now == made {
            assert_eq!(attempt(&world, &acme, &sandbox, n, usize::MAX).await, Some(true));
        }
        made = n_made(&world).await;
        assert_eq!((made, world.blobs().len()), (n, n), "the retry makes one");
        // Sandboxes do not live for ever.
        acme.post(&format!("/v1/sandboxes/{sandbox}/ttl"), json!({ "ttlMs": 3_600_000 }))
            .await
            .is(200);
        if first.is_some() {
            return world.close().await;
        }
    }
    panic!("a write waits more than {MOST} times");
}

async fn what_a_dead_server_was_writing_is_swept_by_the_next(database: Database) {
    let mut world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    acme.runs(&sandbox, "yes 3000000 > f").await;
    let secret = acme.secret.clone();
    let there = sandbox.clone();
    let begun = move |app: Arc<App>| async move {
        let job = Job::new(app, &secret, &there, 1).await;
        tokio::spawn(async move { drop(job.runs().await) });
    };
    world.server().within(begun).await;
    let noted =
        async || (world.number("select count(*) from artifact_writes").await == 1).then_some(());
    world.until("the note of a write", noted).await;
    world.kills_server().await;
    world.starts_server().await;
    world.until("the sweep", async || nobody_writes(&world).await.then_some(())).await;
    // The request may come again at once, without waiting for a lease.
    let made = n_made(&world).await;
    let again = attempt(&world, &acme, &sandbox, 1, usize::MAX).await;
    assert_eq!(again, Some(made == 0));
    assert_eq!(n_made(&world).await, 1);
    world.moves("11m");
    world.keeps_house().await;
    assert_eq!(world.blobs().len(), 1);
    world.close().await;
}

/// Two servers of one host: one starts while the other one writes, and takes its write for lost.
async fn a_write_that_was_taken_for_lost_is_begun_again(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    acme.runs(&sandbox, "yes 3000000 > f").await;
    let secret = acme.secret.clone();
    let writing = world.server().within(move |app: Arc<App>| async move {
        let job = Job::new(app, &secret, &sandbox, 1).await;
        job.runs().await
    });
    let stealing = async {
        // As often as it is seen, up to twice.
        for _ in 0..2 {
            world.executes("update artifact_writes set sweeps = 1, lease_until = 0").await;
            tokio::task::yield_now().await;
        }
    };
    let (made, ()) = tokio::join!(writing, stealing);
    assert!(made.unwrap().is_some());
    assert_eq!(n_made(&world).await, 1);
    world.moves("11m");
    world.keeps_house().await;
    world.keeps_house().await;
    assert_eq!(world.blobs().len(), 1);
    world.close().await;
}
