//! How long a sandbox lives: its TTL, a new one, and the end of what nobody uses. The clock alone
//! ends them, whether or not a request comes.

use drivers::Verb;
use sea_orm::{ConnectionTrait, Statement};
use tests::{Database, World, json, stories};

stories![
    a_lifetime_ends_without_a_request,
    a_lifetime_has_limits,
    a_sandbox_that_is_over_takes_no_work_while_it_is_cleaned_up,
    a_new_lifetime_counts_from_now,
    a_new_lifetime_may_be_shorter,
    a_new_lifetime_has_limits,
    a_lifetime_can_end_before_the_sandbox_is_up,
    an_unused_sandbox_ends_after_the_idle_time,
    a_running_command_is_activity,
    a_file_call_is_activity,
    sandboxes_do_not_idle_out_unless_told_so,
];

/// Acceptance 28: the commands of a sandbox end with it, at the same instant.
async fn a_lifetime_ends_without_a_request(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({ "ttlMs": 3_000 })).await;
    let command = acme.launches_and_sees(&sandbox, "echo begun; sleep infinity").await;
    acme.sees_printed(&command, "begun").await;
    world.advance("5s").await;
    // The database says so before any request asks.
    let c = world.db().read();
    let sql = "select phase from sandboxes";
    let row = c.query_one_raw(Statement::from_string(c.get_database_backend(), sql)).await.unwrap();
    assert_eq!(row.unwrap().try_get_by_index::<String>(0).unwrap(), "destroyed");
    assert!(world.driver.running().is_empty());

    let ended = acme.sandbox(&sandbox).await;
    assert_eq!(ended["status"], "destroyed");
    assert_eq!(ended["destroyedReason"], "ttl_expired");
    assert_eq!(ended["destroyedAt"], "2031-03-10T12:00:03.000Z", "not when it was noticed");
    let command = acme.command(&command).await;
    assert_eq!(command["status"], "killed");
    assert_eq!(command["killedReason"], "sandbox_destroyed");
    assert_eq!(command["finishedAt"], "2031-03-10T12:00:03.000Z");
    assert_eq!(command["stdout"], "begun\n");
    assert!(command.get("exitCode").is_none());
    world.close().await;
}

/// Acceptance 19.
async fn a_lifetime_has_limits(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let beyond = acme.post("/v1/sandboxes", json!({ "ttlMs": 3_600_001 })).await;
    let error = beyond.refused(400, "sandbox_ttl_exceeded");
    assert_eq!(error["details"]["field"], "ttlMs");
    let absurd = acme.post("/v1/sandboxes", json!({ "ttlMs": i64::MAX })).await;
    absurd.refused(400, "sandbox_ttl_exceeded");
    assert_eq!(acme.lists().await.len(), 0);
    acme.starts(json!({ "ttlMs": 3_600_000 })).await;
    world.close().await;
}

/// Between its expiry and the end of its cleanup a sandbox is `expiring` and answers 410.
async fn a_sandbox_that_is_over_takes_no_work_while_it_is_cleaned_up(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({ "ttlMs": 60_000 })).await;
    let hang = world.driver.hang_next(Verb::Remove);
    world.moves("1m");
    assert_eq!(acme.sandbox(&sandbox).await["status"], "expiring");
    let of = |end: &str| format!("/v1/sandboxes/{sandbox}{end}");
    let run = json!({ "command": "true" });
    acme.post(&of("/commands"), run).await.refused(410, "sandbox_destroyed");
    acme.post(&of("/ttl"), json!({ "ttlMs": 60_000 })).await.refused(410, "sandbox_destroyed");
    acme.get(&of("/files")).await.refused(410, "sandbox_destroyed");
    world.moves("1h");
    assert_eq!(acme.sandbox(&sandbox).await["status"], "expiring", "however late");
    assert_eq!(acme.used().await, 60, "billing stops at the expiry, however late the cleanup is");
    hang.release();
    let ended = acme.sees(&sandbox, "destroyed").await;
    assert_eq!(ended["destroyedReason"], "ttl_expired");
    assert_eq!(ended["destroyedAt"], "2031-03-10T12:01:00.000Z");
    world.close().await;
}

/// Acceptance 27, by both routes; the old one says that it is old.
async fn a_new_lifetime_counts_from_now(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({ "ttlMs": 600_000 })).await;
    world.advance("5m").await;
    let body = json!({ "ttlMs": 1_200_000 });
    let set = acme.post(&format!("/v1/sandboxes/{sandbox}/ttl"), body).await;
    assert_eq!(set.header("deprecation"), "");
    let set = set.is(200);
    assert_eq!(set["sandbox"]["ttlMs"], 1_200_000);
    assert_eq!(set["sandbox"]["expiresAt"], "2031-03-10T12:25:00.000Z", "12:05 and 20 minutes");
    world.advance("10m").await;
    assert_eq!(acme.sandbox(&sandbox).await["status"], "ready", "12:10 has passed");

    let body = json!({ "ttlMs": 600_000 });
    let alias = acme.post(&format!("/v1/sandboxes/{sandbox}/extend"), body).await;
    assert_eq!(alias.header("deprecation"), "@1783641600");
    assert!(alias.header("link").contains(&format!("/v1/sandboxes/{sandbox}/ttl")));
    assert_eq!(alias.is(200)["sandbox"]["expiresAt"], "2031-03-10T12:25:00.000Z");
    world.advance("10m").await;
    let ended = acme.sandbox(&sandbox).await;
    assert_eq!(ended["destroyedAt"], "2031-03-10T12:25:00.000Z");
    assert_eq!(acme.used().await, 1500); // 25 minutes
    world.close().await;
}

async fn a_new_lifetime_may_be_shorter(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({ "ttlMs": 3_600_000 })).await;
    world.advance("10s").await;
    acme.post(&format!("/v1/sandboxes/{sandbox}/ttl"), json!({ "ttlMs": 5_000 })).await.is(200);
    world.advance("5s").await;
    let ended = acme.sandbox(&sandbox).await;
    assert_eq!(ended["status"], "destroyed");
    assert_eq!(ended["destroyedAt"], "2031-03-10T12:00:15.000Z");
    assert_eq!(acme.used().await, 15);
    world.close().await;
}

/// The plan `builder`: a set-TTL may ask for 24 h, and a session may last 24 h from its creation.
async fn a_new_lifetime_has_limits(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let path = format!("/v1/sandboxes/{sandbox}/ttl");
    let day = 86_400_000_u64;
    let set = async |ttl_ms: u64| acme.post(&path, json!({ "ttlMs": ttl_ms })).await;
    set(day + 1).await.refused(400, "sandbox_ttl_exceeded");
    set(day).await.is(200);
    world.advance("1h").await;
    set(day).await.refused(400, "sandbox_ttl_exceeded");
    set(day - 3_600_000 + 1).await.refused(400, "sandbox_ttl_exceeded");
    let longest = set(day - 3_600_000).await.is(200);
    assert_eq!(longest["sandbox"]["expiresAt"], "2031-03-11T12:00:00.000Z");
    world.close().await;
}

/// A sandbox that expires while its host is still making it is never billed.
async fn a_lifetime_can_end_before_the_sandbox_is_up(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let hang = world.driver.hang_next(Verb::Ensure);
    let sandbox = acme.creates(json!({ "ttlMs": 10_000 })).await;
    acme.sees(&sandbox, "starting").await;
    world.moves("11s");
    let ended = acme.sees(&sandbox, "destroyed").await;
    assert_eq!(ended["destroyedReason"], "ttl_expired");
    hang.release();
    let removed_again = async || (world.driver.n_calls(Verb::Remove) >= 2).then_some(());
    world.until("the removal of what came up too late", removed_again).await;
    assert_eq!(acme.used().await, 0);
    world.close().await;
}

async fn an_unused_sandbox_ends_after_the_idle_time(database: Database) {
    let world = World::on(database).with(|config| config.idle_timeout_ms = Some(600_000)).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    world.advance("9m").await;
    assert_eq!(acme.runs(&sandbox, "echo used").await["status"], "exited");
    world.advance("9m").await;
    assert_eq!(acme.sandbox(&sandbox).await["status"], "idle", "9 minutes since the last use");
    world.advance("2m").await;
    let ended = acme.sandbox(&sandbox).await;
    assert_eq!(ended["status"], "destroyed");
    assert_eq!(ended["destroyedReason"], "idle_expired");
    world.close().await;
}

async fn a_running_command_is_activity(database: Database) {
    let world = World::on(database).with(|config| config.idle_timeout_ms = Some(600_000)).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let command = acme.launches_and_sees(&sandbox, "sleep 1800").await;
    for _ in 0..3 {
        world.advance("9m30s").await;
        assert_eq!(acme.sandbox(&sandbox).await["status"], "running");
    }
    // 28.5 minutes have passed; the command ends at 30.
    world.advance("2m").await;
    acme.sees_command(&command, "exited").await;
    world.advance("9m").await;
    assert_eq!(acme.sandbox(&sandbox).await["status"], "idle");
    world.advance("2m").await;
    assert_eq!(acme.sandbox(&sandbox).await["destroyedReason"], "idle_expired");
    world.close().await;
}

async fn a_file_call_is_activity(database: Database) {
    let world = World::on(database).with(|config| config.idle_timeout_ms = Some(600_000)).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    for _ in 0..3 {
        world.advance("9m").await;
        acme.get(&format!("/v1/sandboxes/{sandbox}/files")).await.is(200);
    }
    // Looking at the sandbox itself is no use of it.
    world.advance("9m").await;
    acme.sandbox(&sandbox).await;
    world.advance("1m").await;
    assert_eq!(acme.sandbox(&sandbox).await["destroyedReason"], "idle_expired");
    world.close().await;
}

async fn sandboxes_do_not_idle_out_unless_told_so(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    world.advance("59m").await;
    assert_eq!(acme.sandbox(&sandbox).await["status"], "ready");
    world.close().await;
}
