//! An artifact that is larger than a server may have memory passes through it, in and out.

use std::fs;

use tests::{Database, chance, run::skipped, serving::cannot_run_sandboxes};

use crate::stage::Stage;

/// What a server may take, whatever the size of an artifact.
const MOST_KIB: u64 = 256 << 10;

#[test]
fn a_large_artifact_passes_through_little_memory() {
    tests::run::story(Database::Sqlite, passes);
}

/// A line of a process's status, in KiB.
fn status(pid: u32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

async fn passes(_: Database) {
    if let Some(reason) = cannot_run_sandboxes().await {
        return skipped("artifacts", &reason);
    }
    let mib: u64 = chance::number("ARTIFACT_MIB").unwrap_or(300);
    let stage = Stage::set(vec![("CROWNEST_SANDBOX_DISK_MIB", "8192".to_owned())]).await;
    let pid = stage.servers.pid();
    if let Ok(group) = std::env::var("ARTIFACT_GROUP") {
        fs::write(format!("{group}/cgroup.procs"), pid.to_string()).unwrap();
        println!("the server runs in {group}");
    }
    let sandbox = stage.creates().await;
    // A file with holes: the sandbox's memory is not what this is about.
    let line = format!("truncate -s {mib}M f && printf end >> f && sha256sum < f");
    let run = stage.runs(&sandbox, &line).await;
    let sum = run["stdout"].as_str().unwrap().split(' ').next().unwrap().to_owned();
    let before = status(pid, "VmHWM:");
    let begin = tokio::time::Instant::now();
    let made = stage.copies(&sandbox, "f", "once").await;
    let copied = begin.elapsed();
    let size = (mib << 20) + 3;
    assert_eq!(made["sizeBytes"], size);
    let begin = tokio::time::Instant::now();
    assert_eq!(stage.downloads(&made).await, (size, sum));
    let most = status(pid, "VmHWM:");
    println!(
        "{mib} MiB: copied in {copied:.1?}, downloaded in {:.1?}; the server took {} MiB before and \
         {} MiB at most",
        begin.elapsed(),
        before >> 10,
        most >> 10
    );
    assert!(most < MOST_KIB, "the server took {most} KiB");
    stage.close(&[&sandbox]).await;
}
