//! Machines that are written down and go on later, by another server: nothing of them is lost, nothing of
//! the host is held meanwhile, and they know that time has passed.

use std::{collections::BTreeSet, fs, time::Duration};

use domain::id::SandboxId;
use drivers::{
    Suspend as _,
    cloud_hypervisor::CloudHypervisor,
    contract::{sandbox::Sandbox, spec},
    guest::Guest,
};

use crate::{
    host::RealHost,
    traces::{Host as _, remove_without_a_trace},
};

/// Suspends a sandbox, and has another server resume it after looking at what is left meanwhile.
async fn passed_on(host: &RealHost, sandbox: Sandbox, meanwhile: impl AsyncFnOnce()) -> Sandbox {
    let id = sandbox.id;
    CloudHypervisor::new(host.config.clone()).suspend(id).await.unwrap();
    drop(sandbox);
    meanwhile().await;
    CloudHypervisor::new(host.config.clone()).resume(id).await.unwrap();
    let driver = host.driver();
    let guest = Guest::connect(&*driver, id).await.unwrap();
    Sandbox { driver, id, guest }
}

async fn count(sandbox: &Sandbox) -> u64 {
    let printed = sandbox.printed("cat /workspace/count").await;
    printed.trim().parse().unwrap()
}

/// Waits until what counts has counted past a number.
async fn counts_past(sandbox: &Sandbox, number: u64) -> u64 {
    let command = format!(
        "for i in $(seq 600); do n=$(cat /workspace/count); [ \"${{n:-0}}\" -gt {number} ] && break; \
         sleep 0.1; done"
    );
    sandbox.printed(&command).await;
    let now = count(sandbox).await;
    assert!(now > number, "it counts on: {now} after {number}");
    now
}

/// However it began: the same process counts on in the same memory, and the files are there.
async fn goes_on_where_it_was(host: RealHost) {
    let sandbox = Sandbox::with(host.driver(), &spec()).await;
    // The number is in the memory of the process alone; the file is replaced as a whole.
    let counting = sandbox
        .start(
            "echo 0 > /workspace/count; n=0; while :; do n=$((n+1)); echo $n > /workspace/next; \
             mv /workspace/next /workspace/count; sleep 0.05; done",
        )
        .await;
    sandbox
        .printed(
            "head -c 8000000 /dev/urandom > /dev/shm/memory; \
             head -c 2000000 /dev/urandom > /workspace/file",
        )
        .await;
    let sums = "sha256sum /dev/shm/memory /workspace/file; cat /proc/sys/kernel/random/boot_id";
    let before = sandbox.printed(sums).await;
    let mut number = 0;
    let mut sandbox = sandbox;
    // What goes on the second time was made of what was written down before.
    for _ in 0..2 {
        number = counts_past(&sandbox, number + 5).await;
        sandbox = passed_on(&host, sandbox, async || {}).await;
        assert!(count(&sandbox).await >= number, "it did not begin anew");
        number = counts_past(&sandbox, number).await;
        assert_eq!(sandbox.printed(sums).await, before, "memory, files, and the kernel");
        let commands = sandbox.guest.list_commands().await.unwrap();
        assert!(commands.iter().any(|one| one.id == counting && one.running), "{commands:?}");
    }
    remove_without_a_trace(&host, sandbox.id).await;
}

#[tokio::test]
async fn a_machine_that_booted_goes_on_where_it_was() {
    goes_on_where_it_was(RealHost::new()).await;
}

#[tokio::test]
async fn a_clone_goes_on_where_it_was() {
    goes_on_where_it_was(RealHost::warm().await).await;
}

/// What it began with may be gone: all of its memory is its own when it goes on.
#[tokio::test]
async fn a_clone_needs_no_golden_machine_to_go_on() {
    let mut host = RealHost::new();
    host.config.warm_start = true;
    let driver = CloudHypervisor::new(host.config.clone());
    driver.prepare(&spec()).await.unwrap();
    let sandbox = Sandbox::with(host.driver(), &spec()).await;
    let golden = host.config.state_dir.join("warm/golden");
    let before = sandbox.printed("cat /proc/sys/kernel/random/boot_id").await;
    let meanwhile = async || fs::remove_dir_all(&golden).unwrap();
    let sandbox = passed_on(&host, sandbox, meanwhile).await;
    assert_eq!(sandbox.printed("cat /proc/sys/kernel/random/boot_id").await, before);
    remove_without_a_trace(&host, sandbox.id).await;
}

/// The processes of the host that have to do with a sandbox.
fn processes(id: SandboxId) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let command_lines = entries
        .filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok())
        .filter(|line| line.contains(&format!("/{id}/")));
    command_lines.map(|line| line.replace('\0', " ")).collect()
}

#[tokio::test]
async fn a_suspended_machine_has_no_process_and_is_written_down_whole() {
    let host = RealHost::new();
    let sandbox = Sandbox::with(host.driver(), &spec()).await;
    let id = sandbox.id;
    assert_ne!(processes(id), Vec::<String>::new());
    let run = host.run_directory(id).join("vm");
    let snapshot = run.join("snapshot");
    let sandbox = passed_on(&host, sandbox, async || {
        assert_eq!(processes(id), Vec::<String>::new());
        let driver = host.driver();
        assert_eq!(driver.observe(id).await.unwrap(), None);
        assert_eq!(driver.as_suspend().unwrap().suspended().await.unwrap(), [id]);
        let memory = fs::metadata(snapshot.join("memory-ranges")).unwrap().len();
        assert_eq!(memory, u64::from(spec().limits.memory_mib) << 20);
    })
    .await;
    assert!(!snapshot.exists(), "it takes no room once the machine has gone on");
    remove_without_a_trace(&host, sandbox.id).await;
}

/// The clock is set when it goes on, and does not go back.
#[tokio::test]
async fn time_passes_while_a_machine_is_suspended() {
    const PAUSE: Duration = Duration::from_secs(12);
    let host = RealHost::new();
    let sandbox = Sandbox::with(host.driver(), &spec()).await;
    // The pause is what the test is of.
    let sandbox = passed_on(&host, sandbox, async || tokio::time::sleep(PAUSE).await).await;
    let told: i64 = sandbox.printed("date +%s").await.trim().parse().unwrap();
    let behind = now() - told;
    // Less than the pause, on slow machines as well.
    assert!((-1..=8).contains(&behind), "{behind} s behind");
    remove_without_a_trace(&host, sandbox.id).await;
}

#[expect(clippy::disallowed_methods, reason = "a test of clocks")]
fn now() -> i64 {
    chrono::Utc::now().timestamp()
}

/// Random numbers are drawn as the first thing that happens each time a machine goes on.
#[tokio::test]
async fn no_random_number_comes_twice() {
    let host = RealHost::new();
    let mut sandbox = Sandbox::with(host.driver(), &spec()).await;
    let draw = "cat /proc/sys/kernel/random/uuid; head -c 16 /dev/urandom | od -An -tx1";
    let mut drawn = BTreeSet::new();
    for turn in 0..3 {
        for line in sandbox.printed(draw).await.lines() {
            assert!(drawn.insert(line.to_owned()), "{line} in turn {turn}");
        }
        sandbox = passed_on(&host, sandbox, async || {}).await;
    }
    remove_without_a_trace(&host, sandbox.id).await;
}
