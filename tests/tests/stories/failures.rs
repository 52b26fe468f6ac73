//! What hosts do to sandboxes: refuse them, take their time, lose them. Nothing is left half done,
//! and nobody pays for it.

use domain::command::Status;
use drivers::{ErrorKind, Verb};
use tests::{Database, World, json, stories};

stories![
    a_sandbox_that_cannot_start_has_failed,
    a_full_host_is_asked_again,
    a_sandbox_can_be_killed_while_it_is_made,
    a_sandbox_can_be_killed_while_its_host_answers,
    a_command_waits_for_a_slow_start,
    a_command_queued_in_a_sandbox_that_fails_is_killed,
    a_removal_that_fails_is_repeated,
    a_crashed_sandbox_has_failed_at_the_last_instant_it_was_seen,
    what_is_stored_late_was_said_before,
    a_sandbox_that_dies_at_once_is_missed_at_once,
    a_crash_is_not_seen_later_than_the_expiry,
    a_crashed_sandbox_that_is_killed_was_dead_before,
    a_host_that_is_not_fit_makes_the_server_unready,
    a_broken_connection_is_made_again,
    what_no_row_wants_is_removed,
];

async fn a_sandbox_that_cannot_start_has_failed(database: Database) {
    let world = World::on(database).with(|config| config.max_concurrent_sandboxes = Some(1)).await;
    let acme = world.team("acme").await;
    world.expects_warning("a sandbox failed to start");
    world.driver.fail_next(Verb::Ensure, ErrorKind::Unsupported);
    let sandbox = acme.creates(json!({})).await;
    let failed = acme.sees(&sandbox, "failed").await;
    assert!(failed.get("destroyedReason").is_none());
    let run = json!({ "command": "true" });
    let path = format!("/v1/sandboxes/{sandbox}/commands");
    acme.post(&path, run).await.refused(410, "sandbox_destroyed");
    world.settle().await;
    assert!(world.driver.running().is_empty());
    assert_eq!(acme.lists().await.len(), 0, "a failed sandbox is history");
    // It takes no place in the quota of one, and no second was metered.
    acme.starts(json!({})).await;
    assert_eq!(acme.used().await, 0);
    assert_eq!(acme.kills(&sandbox).await["status"], "failed", "killing it changes nothing");
    world.close().await;
}

async fn a_full_host_is_asked_again(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    world.expects_warning("a sandbox did not come up; trying again");
    for kind in [ErrorKind::NoCapacity, ErrorKind::TimedOut, ErrorKind::Host] {
        world.driver.fail_next(Verb::Ensure, kind);
    }
    let sandbox = acme.creates(json!({})).await;
    world.settle().await;
    for _ in 0..3 {
        assert_eq!(acme.sandbox(&sandbox).await["status"], "starting");
        world.advance("1s").await;
    }
    let ready = acme.sees(&sandbox, "ready").await;
    assert_eq!(ready["createdAt"], "2031-03-10T12:00:00.000Z");
    world.advance("10s").await;
    assert_eq!(acme.used().await, 10, "the time of waiting is not billed");
    world.close().await;
}

async fn a_sandbox_can_be_killed_while_it_is_made(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let hang = world.driver.hang_next(Verb::Ensure);
    let sandbox = acme.creates(json!({})).await;
    acme.sees(&sandbox, "starting").await;
    let killed = acme.kills(&sandbox).await;
    assert_eq!(
        (&killed["status"], &killed["destroyedReason"]),
        (&json!("destroyed"), &json!("user_killed"))
    );
    // Only now does the host make it, too late. Its boot removes it, if nobody has found it before.
    world.tolerates_warning("removing a sandbox that no row wants");
    hang.release();
    let removed_again = async || (world.driver.n_calls(Verb::Remove) >= 2).then_some(());
    world.until("the removal of what came up too late", removed_again).await;
    assert_eq!(acme.sandbox(&sandbox).await, killed);
    assert_eq!(acme.used().await, 0);
    world.close().await;
}

/// The host has made it but has not said so yet.
async fn a_sandbox_can_be_killed_while_its_host_answers(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let hang = world.driver.hang_next_after(Verb::Ensure);
    let sandbox = acme.creates(json!({})).await;
    world.until("the boot", async || (world.driver.running().len() == 1).then_some(())).await;
    assert_eq!(acme.kills(&sandbox).await["status"], "destroyed");
    assert!(world.driver.running().is_empty());
    hang.release();
    assert_eq!(acme.used().await, 0);
    world.close().await;
}

async fn a_command_waits_for_a_slow_start(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let hang = world.driver.hang_next(Verb::Ensure);
    let sandbox = acme.creates(json!({})).await;
    let queued = acme.launches(&sandbox, "echo queued").await;
    assert_eq!(acme.command(&queued).await["status"], "queued");
    let path = format!("/v1/sandboxes/{sandbox}/commands");
    let waiting = acme.post(&path, json!({ "command": "echo waited" }));
    let release = async {
        world.moves("7s");
        hang.release();
    };
    let (waited, ()) = tokio::join!(waiting, release);
    assert_eq!(waited.is(200)["command"]["stdout"], "waited\n");
    assert_eq!(acme.sees_command(&queued, "exited").await["stdout"], "queued\n");
    world.advance("3s").await;
    assert_eq!(acme.used().await, 3, "the 7 seconds of creating are free");
    world.close().await;
}

async fn a_command_queued_in_a_sandbox_that_fails_is_killed(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    world.expects_warning("a sandbox did not come up; trying again");
    world.expects_warning("a sandbox failed to start");
    world.driver.fail_next(Verb::Ensure, ErrorKind::Host);
    let sandbox = acme.creates(json!({})).await;
    let command = acme.launches(&sandbox, "echo never").await;
    world.settle().await;
    world.driver.fail_next(Verb::Ensure, ErrorKind::Unsupported);
    world.advance("1s").await;
    acme.sees(&sandbox, "failed").await;
    let command = acme.sees_command(&command, "killed").await;
    assert_eq!(command["killedReason"], "sandbox_destroyed");
    assert_eq!((&command["stdout"], &command["stderr"]), (&json!(""), &json!("")));
    world.close().await;
}

async fn a_removal_that_fails_is_repeated(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    world.expects_warning("a step failed; it will be tried again");
    let sandbox = acme.starts(json!({ "ttlMs": 60_000 })).await;
    world.driver.fail_next(Verb::Remove, ErrorKind::Host);
    world.driver.fail_next(Verb::Remove, ErrorKind::TimedOut);
    world.advance("90s").await;
    assert_eq!(acme.sandbox(&sandbox).await["status"], "expiring");
    assert_eq!(acme.used().await, 60);
    world.advance("1s").await;
    world.advance("1s").await;
    let ended = acme.sees(&sandbox, "destroyed").await;
    assert_eq!(ended["destroyedAt"], "2031-03-10T12:01:00.000Z");
    assert!(world.driver.running().is_empty());
    assert_eq!(acme.used().await, 60);
    world.close().await;
}

/// Seen at 0 s, 30 s, 40 s and 43 s, of which the last is too soon to be written down, dead at some time
/// after that: 43 seconds are paid.
async fn a_crashed_sandbox_has_failed_at_the_last_instant_it_was_seen(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    world.expects_warning("a sandbox stopped by itself");
    world.tolerates_warning("following a command: connecting again");
    let sandbox = acme.starts(json!({})).await;
    let command = acme.launches_and_sees(&sandbox, "sleep infinity").await;
    world.advance("30s").await;
    world.advance("10s").await;
    world.advance("3s").await;
    let written = "select (max(seen_alive_at) - max(ready_at)) / 1000000 from sandboxes";
    assert_eq!(world.number(written).await, 40);
    assert!(world.driver.crash(sandbox.parse().unwrap()));
    world.advance("20s").await;
    let failed = acme.sees(&sandbox, "failed").await;
    assert!(failed.get("destroyedReason").is_none());
    let command = acme.command(&command).await;
    assert_eq!(command["status"], "killed");
    assert_eq!(command["killedReason"], "sandbox_destroyed");
    assert_eq!(acme.used().await, 43);
    assert_eq!(acme.lists().await.len(), 0);
    world.close().await;
}

/// Seen at 3 s, says something at 5 s, and is dead after that; the database takes until 28 s to store what
/// it said. 5 seconds are paid.
async fn what_is_stored_late_was_said_before(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    world.expects_warning("a sandbox stopped by itself");
    world.tolerates_warning("following a command: connecting again");
    let sandbox = acme.starts(json!({})).await;
    let command = acme.launches_and_sees(&sandbox, "sleep 5; echo late; sleep infinity").await;
    world.advance("3s").await;
    // Nobody looks whether it is alive from now on.
    let n_looks = world.driver.n_calls(Verb::List);
    let look = world.driver.hang_next(Verb::List);
    let hangs = async || (world.driver.n_calls(Verb::List) > n_looks).then_some(());
    world.until("a look that hangs", hangs).await;
    let (tx, id) = (world.db().begin().await.unwrap(), command.parse().unwrap());
    let commands = store::commands(store::Everyone::for_worker("story"));
    let running = [Status::Running];
    assert!(commands.mark(&tx, id, &running, Status::Running, None).await.unwrap());
    world.moves("25s");
    tx.rollback().await.unwrap();
    acme.sees_printed(&command, "late").await;
    let id = sandbox.parse().unwrap();
    let seen = world.now() - tests::span("25s");
    let heard = async || world.server().app().sightings.last_of(id).filter(|last| *last > seen);
    let heard = world.until("its sign of life", heard).await;
    assert!(world.driver.crash(id));
    look.release();
    acme.sees(&sandbox, "failed").await;
    assert_eq!(acme.used().await, 5);
    assert_eq!(heard, seen + tests::span("2s"));
    world.close().await;
}

/// No time passes between its start, its death and the look: how young it is excuses nothing.
async fn a_sandbox_that_dies_at_once_is_missed_at_once(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    world.expects_warning("a sandbox stopped by itself");
    let sandbox = acme.starts(json!({})).await;
    assert!(world.driver.crash(sandbox.parse().unwrap()));
    world.settle().await;
    assert_eq!(acme.sandbox(&sandbox).await["status"], "failed");
    assert_eq!(acme.used().await, 0);
    world.close().await;
}

/// Seen at 50 s and dead after that. Both the loss and the expiry are there to be noticed later; the
/// seconds after its death are nobody's, whichever is noticed first.
async fn a_crash_is_not_seen_later_than_the_expiry(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    world.expects_warning("a sandbox stopped by itself");
    let sandbox = acme.starts(json!({ "ttlMs": 60_000 })).await;
    world.advance("50s").await;
    assert!(world.driver.crash(sandbox.parse().unwrap()));
    world.advance("1h").await;
    assert_eq!(acme.sandbox(&sandbox).await["status"], "failed");
    assert_eq!(acme.used().await, 50);
    world.close().await;
}

async fn a_crashed_sandbox_that_is_killed_was_dead_before(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    world.expects_warning("a sandbox stopped by itself");
    let sandbox = acme.starts(json!({})).await;
    world.advance("40s").await;
    assert!(world.driver.crash(sandbox.parse().unwrap()));
    world.moves("20s");
    assert_eq!(acme.kills(&sandbox).await["status"], "failed");
    assert_eq!(acme.used().await, 40);
    world.close().await;
}

async fn a_host_that_is_not_fit_makes_the_server_unready(database: Database) {
    let world = World::on(database).await;
    world.expects_warning("not ready");
    world.tolerates_warning("code=\"unavailable\"");
    world.driver.fail_next(Verb::Check, ErrorKind::Unsupported);
    let error = world.nobody().get("/readyz").await.refused(503, "unavailable");
    let failed = json!({
        "name": "driver",
        "ok": false,
        "detail": "not usable; the server's log says why",
    });
    assert_eq!(error["details"]["checks"][1], failed, "{error}");
    world.nobody().get("/healthz").await.is(200);
    world.close().await;
}

async fn a_broken_connection_is_made_again(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    world.tolerates_warning("following a command: connecting again");
    let sandbox = acme.starts(json!({})).await;
    let command =
        acme.launches_and_sees(&sandbox, "echo a; sleep 1; echo b; sleep 1; echo c").await;
    for printed in ["a\n", "a\nb\n"] {
        acme.sees_printed(&command, printed).await;
        world.driver.drop_connections(sandbox.parse().unwrap());
        world.moves("1s");
    }
    let ended = acme.sees_command(&command, "exited").await;
    assert_eq!(ended["stdout"], "a\nb\nc\n", "nothing is lost and nothing comes twice");
    world.driver.drop_connections(sandbox.parse().unwrap());
    acme.get(&format!("/v1/sandboxes/{sandbox}/files")).await.is(200);
    world.close().await;
}

/// A host that runs what the database does not know, such as after a restored backup.
async fn what_no_row_wants_is_removed(database: Database) {
    use drivers::Driver;
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    world.expects_warning("removing a sandbox that no row wants");
    let sandbox = acme.starts(json!({})).await;
    let version = domain::id::TemplateVersionId::generate(world.now());
    let spec = drivers::Spec {
        template: drivers::Template { slug: "base".to_owned(), version_id: version },
        env: std::collections::BTreeMap::new(),
        limits: drivers::Limits { cpu_milli: 1000, memory_mib: 256, disk_mib: 1, n_pids: 64 },
        egress: domain::egress::EgressPolicy::allow_all(),
    };
    let stranger = domain::id::SandboxId::generate(world.now());
    world.driver.ensure(stranger, &spec).await.unwrap();
    world.settle().await;
    assert_eq!(world.driver.running(), [sandbox.parse().unwrap()]);
    world.close().await;
}
