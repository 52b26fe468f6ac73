//! The agent as a process: it protects itself, ends when nobody comes, works as the first process of
//! a sandbox, and a lost connection is noticed.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use drivers::guest::{CancelMode, GuestErrorKind, OutputStream};
use futures_util::StreamExt as _;
use rustix::process::geteuid;
use tokio::time::timeout;

use crate::fixture::{PATIENCE, Sandbox, binary, command, connect, next_text, spawn, text};

#[tokio::test]
async fn the_agent_ends_when_nobody_comes() {
    let (_directory, mut agent, _) = spawn(Command::new(binary()), "1");
    assert!(agent.wait().unwrap().success());

    let (directory, mut agent, _) = spawn(Command::new(binary()), "300");
    connect(directory.path()).await.hello().await.unwrap();
    let ended = tokio::task::spawn_blocking(move || agent.wait());
    assert!(timeout(Duration::from_millis(600), ended).await.is_err(), "it was greeted");
    // Ends the waiting thread too.
    let guest = connect(directory.path()).await;
    let _ = guest.start(command("kill -9 $PPID")).await;
}

#[tokio::test]
async fn each_start_of_the_agent_is_another_boot() {
    let (first, second) = (Sandbox::start().await, Sandbox::start().await);
    let boot = first.guest.hello().await.unwrap();
    assert_eq!(boot, first.another_guest().await.hello().await.unwrap());
    assert_ne!(boot, second.guest.hello().await.unwrap());
}

/// Processes of the same user can neither open the agent's descriptors nor read its environment.
#[tokio::test]
async fn the_agent_cannot_be_looked_into() {
    let mut agent = Command::new(binary());
    if geteuid().is_root() {
        // The superuser may look into everything, so the agent is nobody.
        agent.uid(65534).gid(65534);
    }
    let sandbox = Sandbox::start_as(agent).await;
    let line = "id -u; for f in environ fd/0 mem; do head -c 1 /proc/$PPID/$f && echo open; done; \
                head -c 1 /proc/$$/environ > /dev/null && echo own";
    let (outputs, _) = sandbox.run(line).await;
    let said = text(&outputs, OutputStream::Stdout);
    assert!(!said.contains("open") && said.ends_with("own\n"), "{outputs:?}");
}

#[tokio::test]
async fn a_lost_agent_ends_watches_and_calls() {
    let mut sandbox = Sandbox::start().await;
    let id = sandbox.start_line("echo ready; exec sleep 1000").await;
    let mut watch = sandbox.watch(id).await;
    assert_eq!(next_text(&mut watch).await, "ready\n");
    sandbox.agent.kill().unwrap();
    sandbox.agent.wait().unwrap();
    let error = timeout(PATIENCE, watch.next()).await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.kind, GuestErrorKind::Gone, "{error}");
    assert!(watch.next().await.is_none());
    for _ in 0..3 {
        let error = sandbox.guest.hello().await.unwrap_err();
        assert_eq!(error.kind, GuestErrorKind::Gone, "{error}");
    }
}

/// A process that is stopped keeps its connection open and says nothing.
#[tokio::test]
async fn a_silent_agent_is_noticed() {
    let sandbox = Sandbox::start().await;
    let id = sandbox.start_line("echo ready; exec sleep 1000").await;
    let mut watch = sandbox.watch(id).await;
    assert_eq!(next_text(&mut watch).await, "ready\n");
    let agent = sandbox.agent.id();
    Command::new("kill").args(["-STOP", &agent.to_string()]).status().unwrap();
    let error = timeout(PATIENCE, watch.next()).await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.kind, GuestErrorKind::Gone, "{error}");
}

/// Runs the agent as the first process of a process namespace, where the host lets users make one.
#[tokio::test]
async fn the_agent_can_be_the_first_process() {
    let unshare = ["--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let can = Command::new("unshare").args(unshare).arg("true").stderr(Stdio::null()).status();
    if !can.is_ok_and(|status| status.success()) {
        eprintln!("skipped: this host does not let users make process namespaces");
        return;
    }
    let mut agent = Command::new("unshare");
    agent.args(unshare).arg(binary());
    let sandbox = Sandbox::start_as(agent).await;
    let (outputs, exit) = sandbox.run("echo $PPID; (sleep 0.01 &); exit 4").await;
    assert_eq!((text(&outputs, OutputStream::Stdout).as_str(), exit.exit_code), ("1\n", 4));
    let id = sandbox.start_line("setsid sleep 1000 & echo ready; sleep 1000").await;
    let mut watch = sandbox.watch(id).await;
    assert_eq!(next_text(&mut watch).await, "ready\n");
    sandbox.guest.cancel(id, CancelMode::Graceful, PATIENCE).await.unwrap();
    assert!(watch.next().await.is_some());
    // Nobody is left, not even as a zombie: only the agent and those who look.
    let line = "until [ $(ls -d /proc/[0-9]* | wc -l) -le 4 ]; do :; done; cat /proc/*/comm";
    let (outputs, _) = sandbox.run(line).await;
    let left = text(&outputs, OutputStream::Stdout);
    assert!(!left.contains("sleep"), "{left}");
}

#[test]
fn the_socket_may_be_made_by_the_agent() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    let mut agent = Command::new(binary())
        .args(["--exit-if-idle-ms", "0", "--workspace"])
        .arg(directory.path())
        .arg("--listen-path")
        .arg(&socket)
        .spawn()
        .unwrap();
    while !Path::new(&socket).exists() {
        std::thread::yield_now();
    }
    assert!(fs::metadata(&socket).is_ok());
    agent.kill().unwrap();
    agent.wait().unwrap();
}
