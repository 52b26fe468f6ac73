//! What the local driver makes of servers and processes that died at the wrong moment. Whatever is
//! left, a later verb finds it, and then nothing is left.

use std::{
    env, fs,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use domain::id::SandboxId;
use drivers::{
    Driver as _,
    contract::{new_id, sandbox::Sandbox, spec},
    local::{Local, LocalConfig},
};

use crate::{
    local_host::{LocalHost, agent, is_dead, kill},
    run::wait_until,
    traces::{self, listing_clears_away, remove_without_a_trace},
};

const STATE_DIR: &str = "CROWNEST_TEST_STATE_DIR";
const SANDBOX: &str = "CROWNEST_TEST_SANDBOX";

/// What the process does that the tests below start and kill: it is a server that makes one sandbox.
/// Without one of those tests around it, it has nothing to do.
#[tokio::test]
async fn a_server_that_is_about_to_die() {
    let (Some(state_dir), Ok(id)) = (env::var_os(STATE_DIR), env::var(SANDBOX)) else { return };
    let driver = Local::new(LocalConfig::new(state_dir, agent()));
    driver.ensure(id.parse().unwrap(), &spec()).await.unwrap();
}

/// Starts another server, as a process of its own, that makes this sandbox.
fn server(host: &LocalHost, id: SandboxId) -> Child {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", "local_crashes::a_server_that_is_about_to_die"])
        .env(STATE_DIR, &host.config.state_dir)
        .env(SANDBOX, id.to_string())
        .stdout(Stdio::null())
        .process_group(0);
    command.spawn().unwrap()
}

#[tokio::test]
async fn a_sandbox_outlives_its_server() {
    let host = LocalHost::new();
    traces::a_sandbox_outlives_its_server(&host, |id| server(&host, id)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_may_be_killed_at_any_instant() {
    let host = LocalHost::new();
    traces::a_server_may_be_killed_at_any_instant(&host, |id| server(&host, id), 40).await;
}

#[tokio::test]
async fn a_directory_without_processes_is_no_sandbox() {
    let host = LocalHost::new();
    let id = new_id();
    for record in ["", "not JSON", "{}"] {
        fs::create_dir_all(host.run_directory(id)).unwrap();
        fs::write(host.record_path(id), record).unwrap();
        assert_eq!(host.driver().observe(id).await.unwrap(), None);
        host.driver().ensure(id, &spec()).await.unwrap();
        remove_without_a_trace(&host, id).await;
    }
    fs::create_dir_all(host.run_directory(id)).unwrap();
    listing_clears_away(&host, &host.driver(), id).await;
}

/// Process ids are used again, in this boot of the host and in the next.
#[tokio::test]
async fn a_process_that_got_the_id_of_a_dead_one_is_neither_taken_for_it_nor_killed() {
    let host = LocalHost::new();
    let sandbox = Sandbox::with(Arc::new(host.driver()), &spec()).await;
    let record = host.record(sandbox.id);
    let mut bystander = Command::new("sleep").arg("1000").spawn().unwrap();
    let mut recycled = record.clone();
    recycled["agent"]["pid"] = bystander.id().into();
    recycled["launcher"]["pid"] = bystander.id().into();
    let mut of_another_boot = record;
    of_another_boot["host_boot"] = "another boot".into();
    for (changed, why) in [
        (of_another_boot, "the host was started anew"),
        (recycled, "another process has the id now"),
    ] {
        fs::write(host.record_path(sandbox.id), changed.to_string()).unwrap();
        assert_eq!(sandbox.driver.observe(sandbox.id).await.unwrap(), None, "{why}");
    }
    remove_without_a_trace(&host, sandbox.id).await;
    assert!(bystander.try_wait().unwrap().is_none(), "the bystander lives");
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

#[tokio::test]
async fn a_sandbox_whose_record_is_lost_is_still_removed() {
    let host = LocalHost::new();
    let sandbox = Sandbox::with(Arc::new(host.driver()), &spec()).await;
    sandbox.start("env -i sleep 1000").await;
    fs::remove_file(host.record_path(sandbox.id)).unwrap();
    assert_eq!(sandbox.driver.observe(sandbox.id).await.unwrap(), None);
    remove_without_a_trace(&host, sandbox.id).await;
}

#[tokio::test]
async fn a_sandbox_goes_on_without_the_process_that_waits_for_it() {
    let host = LocalHost::new();
    let sandbox = Sandbox::with(Arc::new(host.driver()), &spec()).await;
    kill(host.bwrap_pid(sandbox.id));
    assert!(sandbox.driver.observe(sandbox.id).await.unwrap().is_some());
    assert_eq!(sandbox.printed("echo still here").await, "still here\n");
    let agent = host.agent_pid(sandbox.id);
    remove_without_a_trace(&host, sandbox.id).await;
    assert!(is_dead(agent));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_zombie_stays_with_the_server() {
    let host = LocalHost::new();
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let sandbox = Sandbox::with(Arc::new(host.driver()), &spec()).await;
        waiting.push(host.bwrap_pid(sandbox.id));
        sandbox.remove().await;
    }
    let crashed = Sandbox::with(Arc::new(host.driver()), &spec()).await;
    waiting.push(host.bwrap_pid(crashed.id));
    host.kill_agent(crashed.id);
    for pid in waiting {
        wait_until(|| !Path::new(&format!("/proc/{pid}")).exists(), "the process is reaped");
    }
}
