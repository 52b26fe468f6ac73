//! The local driver on hosts that are odd or lack something: it says what is wrong, and leaves
//! nothing behind.

use std::{
    env, fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use drivers::{
    Driver as _, ErrorKind, Spec, Template,
    contract::{new_id, sandbox::Sandbox, spec},
    local::{Local, LocalConfig},
};

use crate::{
    local_host::{LocalHost, agent},
    run::SKIPS,
};

fn of_template(slug: &str) -> Spec {
    let spec = spec();
    Spec { template: Template { slug: slug.to_owned(), ..spec.template }, ..spec }
}

#[tokio::test]
async fn a_host_that_can_run_sandboxes_says_what_it_cannot_enforce() {
    let host = LocalHost::new();
    let limitations = host.driver().check().await.unwrap();
    assert!(limitations.iter().any(|one| one.what.contains("share the kernel")));
    for one in limitations {
        assert!(one.what.ends_with('.') && one.remedy.ends_with('.'), "{one:?}");
    }
}

#[tokio::test]
async fn what_is_missing_is_named_and_nothing_is_left() {
    let host = LocalHost::new();
    let config = |change: &dyn Fn(&mut LocalConfig)| {
        let mut config = host.config.clone();
        change(&mut config);
        Local::new(config)
    };
    for (driver, named) in [
        (config(&|config| config.bwrap = "no-such-bwrap".into()), "install bubblewrap"),
        (config(&|config| config.bwrap = "/bin/false".into()), "did not start"),
        (config(&|config| config.agent = "/nowhere/agent".into()), "cargo build -p guest"),
        (config(&|config| config.agent = "/etc/passwd".into()), "is not a program"),
    ] {
        let id = new_id();
        let ensured = driver.ensure(id, &spec()).await.unwrap_err();
        assert!(ensured.to_string().contains(named), "{ensured}");
        let checked = driver.check().await.unwrap_err();
        assert!(checked.to_string().contains(named), "{checked}");
        assert!(!host.run_directory(id).exists());
    }
}

#[tokio::test]
async fn an_agent_that_does_not_work_is_an_error_and_nothing_is_left() {
    let host = LocalHost::new();
    let agents = tempfile::tempdir().unwrap();
    for (script, kind) in [
        ("echo the agent is ill >&2; exit 1", ErrorKind::Host),
        ("exit 0", ErrorKind::Host),
        ("exec sleep 1000", ErrorKind::TimedOut),
    ] {
        let agent = agents.path().join("agent");
        fs::write(&agent, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&agent, fs::Permissions::from_mode(0o755)).unwrap();
        let driver = Local::new(LocalConfig { agent, ..host.config.clone() });
        let id = new_id();
        let error = driver.ensure(id, &spec()).await.unwrap_err();
        assert_eq!(error.kind, kind, "{script}: {error}");
        assert!(!host.run_directory(id).exists(), "{script}");
        assert_eq!(driver.list().await.unwrap(), []);
    }
}

#[tokio::test]
async fn templates_have_their_interpreters_under_the_names_that_users_know() {
    let host = LocalHost::new();
    let driver = Arc::new(host.driver());
    let limitations = driver.check().await.unwrap();
    let has = |program: &str| !limitations.iter().any(|one| one.what.contains(program));
    for (slug, programs) in
        [("python", &["python3"][..]), ("node", &["node"]), ("python-node", &["python3", "node"])]
    {
        if !programs.iter().all(|program| has(program)) {
            let error = driver.ensure(new_id(), &of_template(slug)).await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Unsupported, "{slug}");
            continue;
        }
        let sandbox = Sandbox::with(driver.clone(), &of_template(slug)).await;
        if programs.contains(&"python3") {
            sandbox.write("module.py", b"print(6 * 7)").await.unwrap();
            for python in ["python", "python3"] {
                let printed = sandbox.printed(&format!("{python} -c 'import module'")).await;
                assert_eq!(printed, "42\n");
            }
            assert_eq!(sandbox.names(".").await, ["module.py"], "no caches");
        }
        if programs.contains(&"node") {
            assert_eq!(sandbox.printed("node -e 'console.log(6 * 7)'").await, "42\n");
        }
        sandbox.remove().await;
    }
}

/// A Unix socket's address holds about a hundred bytes, and root may keep everything to itself.
#[tokio::test]
async fn the_state_directory_and_the_agent_may_be_deep_and_private() {
    let mut host = LocalHost::new();
    let private = host.directory.path().join("private");
    fs::create_dir(&private).unwrap();
    fs::set_permissions(&private, fs::Permissions::from_mode(0o700)).unwrap();
    host.config.agent = private.join("crownest-guest");
    fs::copy(agent(), &host.config.agent).unwrap();
    host.config.state_dir = private.join("d".repeat(100)).join("e".repeat(100));
    let driver = Arc::new(host.driver());
    driver.check().await.unwrap();
    let sandbox = Sandbox::with(driver, &spec()).await;
    assert_eq!(sandbox.printed("echo hello").await, "hello\n");
    sandbox.remove().await;
}

#[tokio::test]
async fn a_range_of_user_ids_that_somebody_else_has_is_reported() {
    let mut host = LocalHost::new();
    for (first, is_shared) in [(host.config.first_uid, false), (65_000, true)] {
        host.config.first_uid = first;
        let limitations = host.driver().check().await.unwrap();
        let said = limitations.iter().find(|one| one.what.contains("somebody else's"));
        // An ordinary user gives away no ids at all.
        let wanted = is_shared && rustix::process::geteuid().is_root();
        assert_eq!(said.is_some(), wanted, "{first}");
        if let Some(said) = said {
            assert!(said.what.contains("65000 to 69095"), "{said:?}");
            assert!(said.what.contains("/etc/passwd gives 65534 to"), "{said:?}");
            assert!(said.remedy.contains("sandbox_uid_base"), "{said:?}");
        }
    }
}

/// Clearing up after a sandbox kills every process with its user id, and a check may run at any time.
#[tokio::test]
async fn a_trial_does_not_share_a_user_with_any_sandbox() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut host = LocalHost::new();
    // A range of its own, of which no other test takes the ids.
    (host.config.first_uid, host.config.n_uids) = (2_100_100_000, 2);
    let driver = Arc::new(host.driver());
    let sandbox = Sandbox::with(driver.clone(), &spec()).await;
    assert_eq!(host.uid_outside(sandbox.id), 2_100_100_001);
    driver.check().await.unwrap();
    let full = driver.ensure(new_id(), &spec()).await.unwrap_err();
    assert_eq!(full.kind, ErrorKind::NoCapacity, "the other id is for trials: {full}");
    // What is asked to isolate tells as whom.
    let (bwrap, told) = (host.directory.path().join("bwrap"), host.directory.path().join("told"));
    fs::write(&bwrap, format!("#!/bin/sh\nid -u > {}\n", told.display())).unwrap();
    fs::write(&told, "").unwrap();
    for (path, mode) in [(host.directory.path(), 0o755), (&bwrap, 0o755), (&told, 0o666)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let driver = Local::new(LocalConfig { bwrap, ..host.config.clone() });
    driver.check().await.unwrap();
    assert_eq!(fs::read_to_string(told).unwrap(), "2100100000\n");
    sandbox.remove().await;
}

/// Root runs all tests of the local driver once more as somebody else. For anybody else they are what
/// ran already.
#[test]
fn an_ordinary_user_can_run_sandboxes_too() {
    const UID: u32 = 230_000;
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = |from: PathBuf, name: &str| {
        let to = directory.path().join(name);
        fs::copy(from, &to).unwrap();
        to
    };
    let test = copy(env::current_exe().unwrap(), "suite");
    let agent = copy(agent(), "crownest-guest");
    let tmp = directory.path().join("tmp");
    fs::create_dir(&tmp).unwrap();
    chown(&tmp, Some(UID), Some(UID)).unwrap();
    let mut command = Command::new("setpriv");
    command
        .args([&format!("--reuid={UID}"), &format!("--regid={UID}"), "--clear-groups"])
        .arg(test)
        .arg("local")
        .env("CROWNEST_GUEST_AGENT", agent)
        .env("TMPDIR", tmp)
        // What only root can limit has been tried as root; and the file is not this user's.
        .env_remove(SKIPS)
        .current_dir("/");
    let output = command.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}");
    assert!(printed.contains("local_isolation::") && Path::new("/proc").exists(), "{printed}");
}
