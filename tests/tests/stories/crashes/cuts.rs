//! Requests whose future is dropped at its first, second, .. wait: either everything has happened or
//! nothing, and the retry ends the same as if nothing had gone wrong.

use std::{future::Future, sync::Arc};

use api::app::{
    App, api_keys,
    caller::Caller,
    commands,
    error::{Error, Result},
    idempotency::{Answer, Idempotent},
    projects,
    sandboxes::{self, NewSandbox},
};
use domain::{command::Spec, metadata::Metadata, sandbox::Sandbox};
use tests::{Database, Key, World, cut::cut, json, stories};

stories![
    a_transaction_begins_whole_or_not_at_all,
    a_create_happens_whole_or_not_at_all,
    a_project_is_made_whole_or_not_at_all,
    a_kill_goes_on_without_its_caller,
    a_new_lifetime_is_set_whole_or_not_at_all,
    a_run_goes_on_without_its_caller,
    a_revocation_happens_whole_or_not_at_all,
];

/// A connection with a transaction that nobody knows of would take what others write next, and lose it.
async fn a_transaction_begins_whole_or_not_at_all(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    for n in 1..=100 {
        let begins = move |app: Arc<App>| async move {
            drop(cut(1 + n % 10, app.db.begin()).await);
            drop(cut(1 + n % 10, app.db.snapshot()).await);
        };
        world.server().within(begins).await;
    }
    // PostgreSQL tells who begins another one on such a connection.
    for _ in 0..100 {
        let begins = |app: Arc<App>| async move { app.db.begin().await.unwrap().commit().await };
        world.server().within(begins).await.unwrap();
    }
    let log = world.logged();
    assert!(!log.contains("already a transaction in progress"), "{log}");
    let sandbox = acme.starts(json!({})).await;
    assert_eq!(acme.sandbox(&sandbox).await["status"], "ready");
    world.close().await;
}

/// No use case waits more often than this.
const MOST: usize = 300;

/// Runs a use case as a key inside the world's server, dropped at its `n`th wait.
async fn attempt<F>(
    world: &World,
    key: &Key,
    n: usize,
    work: impl FnOnce(Arc<App>, Caller) -> F + Send + 'static,
) -> Option<Result<Answer>>
where
    F: Future<Output = Result<Answer>> + Send + 'static,
{
    let secret = key.secret.clone();
    world
        .server()
        .within(move |app| async move {
            let caller = app.auth.authenticate(Some(&secret), "req_story", "").await.unwrap();
            cut(n, work(app, caller)).await
        })
        .await
}

/// Retries until the answer is known: what was cut off may be committed at this very moment.
async fn finally<F, W>(world: &World, key: &Key, work: impl Fn() -> W) -> Answer
where
    F: Future<Output = Result<Answer>> + Send + 'static,
    W: FnOnce(Arc<App>, Caller) -> F + Send + 'static,
{
    let answered = async || match attempt(world, key, usize::MAX, work()).await.unwrap() {
        Err(Error::InProgress) => None,
        answer => Some(answer.unwrap()),
    };
    world.until("the answer of the retry", answered).await
}

fn idempotent(path: &str, n: usize) -> Option<Idempotent> {
    Some(Idempotent {
        key: format!("cut-{n}"),
        method: "POST",
        path: path.to_owned(),
        fingerprint: "the same".to_owned(),
    })
}

fn printed(sandbox: &Sandbox) -> Answer {
    Answer { status: 201, body: sandbox.id.to_string().into_bytes() }
}

fn create(
    n: usize,
) -> impl FnOnce(Arc<App>, Caller) -> futures_util::future::BoxFuture<'static, Result<Answer>> {
    move |app, caller| {
        Box::pin(async move {
            let new = NewSandbox {
                project_id: None,
                template: None,
                template_version_id: None,
                ttl_ms: None,
                metadata: Metadata::parse([("n".to_owned(), n.to_string())].into()).unwrap(),
                restores: false,
            };
            let key = idempotent("/v1/sandboxes", n);
            sandboxes::create(&app, &caller, key, new, |sandbox, _| printed(sandbox)).await
        })
    }
}

/// As many sandboxes as idempotency records and counted creates, at every instant: a commit may still
/// be under way, so they are counted by one statement. The number of them.
async fn n_created(world: &World) -> usize {
    let sql = "select case when n = (select count(*) from sandbox_metadata)
                 and n = (select count(*) from idempotency_records where status is not null)
                 and n = (select count(*) from usage_records where metric = 'sandbox_creates')
               then n else -1 end
               from (select count(*) as n from sandboxes) counted";
    usize::try_from(world.number(sql).await).expect("a create happens whole or not at all")
}

async fn a_create_happens_whole_or_not_at_all(database: Database) {
    let world =
        World::on(database).with(|config| config.max_concurrent_sandboxes = Some(1000)).await;
    let acme = world.team("acme").await;
    for n in 1..=MOST {
        let first = attempt(&world, &acme, n, create(n)).await;
        assert!([n, n - 1].contains(&n_created(&world).await));
        let retried = finally(&world, &acme, || create(n)).await;
        assert_eq!(n_created(&world).await, n);
        if let Some(first) = first {
            assert_eq!(first.unwrap(), retried);
            world.settle().await;
            return world.close().await;
        }
    }
    panic!("a create waits more than {MOST} times");
}

async fn a_project_is_made_whole_or_not_at_all(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let make = |n| {
        move |app: Arc<App>, caller: Caller| async move {
            let print = |project: &domain::organization::Project| Answer {
                status: 201,
                body: project.id.to_string().into_bytes(),
            };
            let key = idempotent("/v1/projects", n);
            projects::create(&app, &caller, key, "cut".to_owned(), print).await
        }
    };
    for n in 1..=MOST {
        let first = attempt(&world, &acme, n, make(n)).await;
        let retried = finally(&world, &acme, || make(n)).await;
        // The default one is there from the beginning.
        let projects = world.number("select count(*) - 1 from projects").await;
        assert_eq!(usize::try_from(projects).unwrap(), n);
        if let Some(first) = first {
            assert_eq!(first.unwrap(), retried);
            return world.close().await;
        }
    }
    panic!("making a project waits more than {MOST} times");
}

async fn a_kill_goes_on_without_its_caller(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    for n in 1..=MOST {
        let id = acme.starts(json!({})).await;
        world.moves("10s");
        let sandbox = id.parse().unwrap();
        let kill = move || {
            move |app: Arc<App>, caller: Caller| async move {
                let key = idempotent("/v1/sandboxes/x", n);
                sandboxes::kill(&app, &caller, key, sandbox, |sandbox, _| printed(sandbox)).await
            }
        };
        let first = attempt(&world, &acme, n, kill()).await;
        finally(&world, &acme, kill).await;
        let seen = acme.sandbox(&id).await;
        assert_eq!(seen["destroyedReason"], "user_killed");
        assert_eq!(acme.used().await, 10 * i64::try_from(n).unwrap());
        if first.is_some() {
            return world.close().await;
        }
    }
    panic!("a kill waits more than {MOST} times");
}

async fn a_new_lifetime_is_set_whole_or_not_at_all(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let id = acme.starts(json!({})).await;
    for n in 1..=MOST {
        world.moves("1s");
        let sandbox = id.parse().unwrap();
        let ttl_ms = 1_000_000 + u64::try_from(n).unwrap();
        let set = move || {
            move |app: Arc<App>, caller: Caller| async move {
                let key = idempotent("/v1/sandboxes/x/ttl", n);
                let print = |sandbox: &Sandbox, _| Answer {
                    status: 200,
                    body: sandbox.expires_at.to_rfc3339().into_bytes(),
                };
                sandboxes::set_ttl(&app, &caller, key, sandbox, ttl_ms, print).await
            }
        };
        let first = attempt(&world, &acme, n, set()).await;
        finally(&world, &acme, set).await;
        let seen = acme.sandbox(&id).await;
        assert_eq!(seen["ttlMs"].as_u64(), Some(ttl_ms));
        assert_eq!(seen["expiresAt"], world.stamp(&format!("{ttl_ms}ms")));
        if first.is_some() {
            return world.close().await;
        }
    }
    panic!("setting a lifetime waits more than {MOST} times");
}

async fn a_run_goes_on_without_its_caller(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let id = acme.starts(json!({})).await;
    for n in 1..=MOST {
        let sandbox = id.parse().unwrap();
        let run = move || {
            move |app: Arc<App>, caller: Caller| async move {
                let line = format!("echo x >> n{n}; cat n{n}");
                let spec = Spec::parse(line, None, [].into(), None, false)?;
                let key = idempotent("/v1/sandboxes/x/commands", n);
                let print = |command: &domain::command::Command| {
                    command.stdout.clone().unwrap_or_default().text.into_bytes()
                };
                commands::run(&app, &caller, key, sandbox, spec, print).await
            }
        };
        let first = attempt(&world, &acme, n, run()).await;
        let answer = finally(&world, &acme, run).await;
        assert_eq!(answer.body, b"x\n", "it ran once");
        assert_eq!(world.number("select count(*) from commands").await, n as i64);
        if first.is_some() {
            return world.close().await;
        }
    }
    panic!("a run waits more than {MOST} times");
}

async fn a_revocation_happens_whole_or_not_at_all(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    for n in 1..=MOST {
        let leaver = acme.key("sandbox:read").await;
        leaver.get("/v1/projects").await.is(200);
        let id = leaver.id.parse().unwrap();
        let revoke = move |app: Arc<App>, caller: Caller| async move {
            let key = api_keys::revoke(&app, &caller, id).await?;
            Ok(Answer { status: 200, body: key.id.to_string().into_bytes() })
        };
        let first = attempt(&world, &acme, n, revoke).await;
        let seen = acme.get(&format!("/v1/api-keys/{}", leaver.id)).await.is(200);
        if seen["apiKey"].get("revokedAt").is_some() {
            // What is written down holds, whatever this server remembers.
            let refused = async || (leaver.get("/v1/projects").await.status == 401).then_some(());
            world.until("the refusal of a revoked key", refused).await;
        }
        acme.delete(&format!("/v1/api-keys/{}", leaver.id)).await.is(200);
        leaver.get("/v1/projects").await.refused(401, "invalid_api_key");
        if first.is_some() {
            return world.close().await;
        }
    }
    panic!("a revocation waits more than {MOST} times");
}
