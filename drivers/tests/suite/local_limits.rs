//! What a sandbox of the local driver may use at most, shown by commands that take all they can get.

use std::{collections::BTreeSet, fs, sync::Arc};

use drivers::{
    Driver as _, Limits, Spec,
    contract::{sandbox::Sandbox, spec},
    guest::OutputStream,
};

use crate::local_host::{LocalHost, skipped};

/// What the driver says of a limit that this host does not enforce.
async fn unenforced(host: &LocalHost, what: &str) -> Option<String> {
    let limitations = host.driver().check().await.unwrap();
    limitations.into_iter().map(|limitation| limitation.what).find(|said| said.contains(what))
}

/// Whether there is something to test. Where the host does not enforce it, a skip says so.
async fn is_enforced(host: &LocalHost, name: &str, what: &str) -> bool {
    let unenforced = unenforced(host, what).await;
    unenforced.iter().for_each(|said| skipped(name, said));
    unenforced.is_none()
}

async fn sandbox(host: &LocalHost, limits: Limits) -> Sandbox {
    Sandbox::with(Arc::new(host.driver()), &Spec { limits, ..spec() }).await
}

const LIMITS: Limits = Limits { cpu_milli: 1000, memory_mib: 128, disk_mib: 8, n_pids: 40 };

#[tokio::test]
async fn processes_are_bounded_and_the_sandbox_survives() {
    let host = LocalHost::new();
    assert_eq!(unenforced(&host, "number of processes").await, None);
    let sandbox = sandbox(&host, LIMITS).await;
    // dash gives up where bash would try again and again.
    let bomb = "sh -c 'for i in 1 2 3 4 5 6 7 8 9; do for j in 1 2 3 4 5 6 7 8 9; do \
                sleep 1000 & done; done'; echo after";
    let ended = sandbox.run(bomb).await;
    let complaint = ended.text(OutputStream::Stderr);
    assert!(complaint.contains("Cannot fork") || complaint.contains("fork"), "{complaint}");
    let agent = host.agent_pid(sandbox.id);
    let namespace = fs::read_link(format!("/proc/{agent}/ns/pid")).unwrap();
    let of_sandbox = |entry: &fs::DirEntry| {
        fs::read_link(entry.path().join("ns/pid")).is_ok_and(|other| other == namespace)
    };
    let n_processes =
        fs::read_dir("/proc").unwrap().filter_map(Result::ok).filter(of_sandbox).count();
    assert!((10..=40).contains(&n_processes), "{n_processes} processes");
    sandbox.guest.hello().await.unwrap();
    sandbox.remove().await;
}

#[tokio::test]
async fn memory_is_bounded_and_the_sandbox_survives() {
    let host = LocalHost::new();
    if !is_enforced(&host, "local-memory", "memory of a sandbox").await {
        return;
    }
    let sandbox = sandbox(&host, LIMITS).await;
    let before = sandbox.guest.hello().await.unwrap();
    // Without a line's end, tail has to keep all of it.
    let hog = sandbox.run("head -c 500m /dev/zero | tail -n 1 > /dev/null; exit $?").await;
    assert_eq!(hog.exit.exit_code, 137, "{}", hog.text(OutputStream::Stderr));
    assert_eq!(sandbox.guest.hello().await.unwrap(), before);
    let modest = sandbox.run("head -c 50m /dev/zero | tail -n 1 > /dev/null; exit $?").await;
    assert_eq!(modest.exit.exit_code, 0);
    sandbox.remove().await;
}

#[tokio::test]
async fn cpu_time_is_bounded() {
    let host = LocalHost::new();
    if !is_enforced(&host, "local-cpu", "CPU time").await {
        return;
    }
    let sandbox = sandbox(&host, Limits { cpu_milli: 500, ..LIMITS }).await;
    // How much it really gets depends on who else is busy, so what the kernel was told has to do.
    let read = |file: &str| {
        let paths = host.groups(sandbox.id).into_iter().map(|directory| directory.join(file));
        paths.filter_map(|path| fs::read_to_string(path).ok()).collect::<String>()
    };
    let quota = format!("{}{}", read("cpu.max"), read("cpu.cfs_quota_us"));
    assert_eq!(quota.split_whitespace().next(), Some("50000"), "of 100000");
    let members = read("cgroup.procs");
    let agent = host.agent_pid(sandbox.id).to_string();
    assert!(members.lines().any(|member| member == agent), "{members}");
    sandbox.remove().await;
}

/// No directory takes more than it should, and none of it is on a disk of the host.
#[tokio::test]
async fn files_are_bounded_wherever_they_are() {
    let host = LocalHost::new();
    let sandbox = sandbox(&host, LIMITS).await;
    for directory in ["/workspace", "/tmp", "/home/user", "/run", "/var/tmp", "/dev/shm"] {
        let line = format!(
            "head -c 40m /dev/zero > {directory}/big; code=$?; rm {directory}/big; exit $code"
        );
        let ended = sandbox.run(&line).await;
        assert_ne!(ended.exit.exit_code, 0, "{directory}");
        let complaint = ended.text(OutputStream::Stderr);
        assert!(complaint.contains("No space left"), "{directory}: {complaint}");
    }
    let kinds =
        sandbox.printed("stat -f -c %T /workspace /tmp /home/user /run /var /dev/shm /").await;
    assert_eq!(kinds.lines().collect::<BTreeSet<_>>(), BTreeSet::from(["tmpfs"]));
    let on_the_host = fs::read_dir(host.run_directory(sandbox.id)).unwrap();
    let names: BTreeSet<_> =
        on_the_host.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(names, ["guest.sock", "record.json", "spec.json"].map(str::to_owned).into());
    sandbox.remove().await;
}
