//! What the local driver makes of servers and processes that died at the wrong moment. Whatever is
//! left, a later verb finds it, and then nothing is left.

use std::{
    env, fs,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Instant,
};

use domain::id::SandboxId;
use drivers::{
    Driver as _,
    contract::{new_id, sandbox::Sandbox, spec},
    guest::Guest,
    local::{Local, LocalConfig},
};

use crate::local_host::{LocalHost, agent, is_dead, kill, wait_until};

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

/// Processes of the host that were started for this sandbox, in or around it.
fn processes(id: SandboxId) -> Vec<String> {
    let of_sandbox = |path: &Path| {
        let arguments = fs::read_to_string(path.join("cmdline")).unwrap_or_default();
        arguments.contains(&format!("/{id}/"))
    };
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let found = entries.filter(|entry| of_sandbox(&entry.path()));
    found.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

/// Removes the sandbox and sees that nothing of it is left on the host.
async fn remove_without_a_trace(host: &LocalHost, id: SandboxId) {
    host.driver().remove(id).await.unwrap();
    assert_eq!(processes(id), Vec::<String>::new());
    assert!(!host.run_directory(id).exists());
    for directory in ["locks", "sandboxes"] {
        let left = fs::read_dir(host.config.state_dir.join(directory)).into_iter().flatten();
        assert_eq!(left.count(), 0, "{directory}");
    }
    let mut groups = vec![Path::new("/sys/fs/cgroup").to_owned()];
    while let Some(group) = groups.pop() {
        assert!(!group.ends_with(id.to_string()), "{}", group.display());
        let children = fs::read_dir(group).into_iter().flatten().flatten();
        groups.extend(children.map(|child| child.path()).filter(|path| path.is_dir()));
    }
    let claims = fs::read_dir("/run/crownest/uids").into_iter().flatten().flatten();
    let holders = claims.filter_map(|claim| fs::read_link(claim.path()).ok());
    assert!(!holders.into_iter().any(|holder| holder == host.run_directory(id)));
}

#[tokio::test]
async fn a_sandbox_outlives_its_server() {
    let host = LocalHost::new();
    let id = new_id();
    assert!(server(&host, id).wait().unwrap().success());
    let driver = host.driver();
    let listed = driver.list().await.unwrap();
    assert_eq!(listed.iter().map(|observed| observed.id).collect::<Vec<_>>(), [id]);
    let guest = Guest::connect(&driver, id).await.unwrap();
    let boot = guest.hello().await.unwrap();
    assert_eq!(driver.ensure(id, &spec()).await.unwrap(), listed[0]);
    assert_eq!(guest.hello().await.unwrap(), boot, "it was adopted, not made anew");
    remove_without_a_trace(&host, id).await;
}

/// The instants are steps through the time that it takes to make a sandbox.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_may_be_killed_at_any_instant() {
    const STEPS: u32 = 40;
    let host = LocalHost::new();
    let (id, started) = (new_id(), Instant::now());
    assert!(server(&host, id).wait().unwrap().success());
    let whole = started.elapsed();
    remove_without_a_trace(&host, id).await;
    let mut n_half_made = 0;
    for step in 0..STEPS {
        let id = new_id();
        let mut server = server(&host, id);
        tokio::time::sleep(whole * step / STEPS).await;
        server.kill().unwrap();
        server.wait().unwrap();
        let driver = host.driver();
        let is_there = driver.observe(id).await.unwrap().is_some();
        n_half_made += u32::from(!is_there && host.run_directory(id).exists());
        match step % 3 {
            // A reconciler that still wants it.
            0 => {
                driver.ensure(id, &spec()).await.unwrap();
                let guest = Guest::connect(&driver, id).await.unwrap();
                assert_eq!(guest.list_directory("/workspace").await.unwrap(), []);
            }
            // One that has forgotten it: listing clears up what never came up, as soon as the last
            // process that the dead server was about to start has let go of its lock.
            1 => {
                let mut n_lists = 0;
                while host.run_directory(id).exists() != is_there {
                    assert!(n_lists < 1000, "{} stays", host.run_directory(id).display());
                    assert_eq!(driver.list().await.unwrap().len(), usize::from(is_there));
                    n_lists += 1;
                }
            }
            // One that wants it gone.
            _ => {}
        }
        remove_without_a_trace(&host, id).await;
    }
    assert!(n_half_made > 0, "no step was early enough to leave anything half made");
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
    assert_eq!(host.driver().list().await.unwrap(), []);
    assert!(!host.run_directory(id).exists(), "listing clears it away");
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
