//! What a sandbox of the local driver may use at most, shown by commands that take all they can get.

use std::{collections::BTreeSet, env, fs, process::Command, sync::Arc};

use drivers::{
    Driver as _, Limits, Spec,
    contract::{new_id, sandbox::Sandbox, spec},
    guest::OutputStream,
};

use crate::{local_host::LocalHost, run::skipped};

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

const LOSES_GROUPS: &str = "CROWNEST_TEST_LOSES_GROUPS";

/// What the process does that the test below starts: it is a server whose host does not let it make
/// control groups any more. Without that test around it, it would take them from everybody.
#[tokio::test]
async fn a_server_that_is_about_to_lose_its_control_groups() {
    if env::var_os(LOSES_GROUPS).is_none() {
        return;
    }
    let host = LocalHost::new();
    let driver = host.driver();
    driver.check().await.unwrap();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    for mount in mounts.lines() {
        let fields: Vec<_> = mount.split(' ').collect();
        if fields[2].starts_with("cgroup") {
            let mut remount = Command::new("mount");
            remount.args(["-o", "remount,bind,ro", fields[1]]);
            assert!(remount.status().unwrap().success(), "{mount}");
        }
    }
    let id = new_id();
    for _ in 0..2 {
        let error = driver.ensure(id, &spec()).await.unwrap_err();
        assert!(error.kind.retryable(), "{error}");
        assert!(error.to_string().contains("be limited any more"), "{error}");
        assert!(!host.run_directory(id).exists(), "nothing is left");
        // Whoever asks again hears what is not limited, but was promised otherwise.
        assert!(unenforced(&host, "memory of a sandbox").await.is_some());
        driver.check().await.unwrap();
    }
    // A server that never had them says so once, and does without.
    host.driver().ensure(id, &spec()).await.unwrap();
}

/// A sandbox without the limits that the server has told of could take all that the others need.
#[tokio::test]
async fn a_host_that_takes_its_limits_back_gets_no_sandbox_without_them() {
    const NAME: &str = "local-lost-limits";
    let host = LocalHost::new();
    if !is_enforced(&host, NAME, "memory of a sandbox").await {
        return;
    }
    let own_mounts = |program: &str| {
        let mut command = Command::new("unshare");
        command.args(["--mount", program]);
        command
    };
    if !own_mounts("true").status().unwrap().success() {
        return skipped(NAME, "no mount namespace can be made here");
    }
    let test = env::current_exe().unwrap();
    let output = own_mounts(test.to_str().unwrap())
        .args(["--exact", "local_limits::a_server_that_is_about_to_lose_its_control_groups"])
        .env(LOSES_GROUPS, "1")
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && printed.contains("1 passed"), "{printed}");
}
