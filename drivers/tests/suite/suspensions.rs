//! Machines that are suspended: whoever dies or refuses in the middle, and whatever they began with.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    time::{Duration, Instant},
};

use domain::id::SandboxId;
use drivers::{
    Driver as _, ErrorKind, Suspend as _,
    contract::{new_id, sandbox::Sandbox, spec},
    guest::{Guest, Parents},
};

use crate::{
    local_host::kill,
    machine_host::MachineHost,
    machines::server_that,
    run::wait_until,
    traces::{Host as _, listing_clears_away, remove_without_a_trace},
};

/// Wherever it is killed: the next server finds a sandbox that runs, or has it go on, with all that was in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_may_be_killed_while_it_suspends_or_resumes() {
    const N_STEPS: u32 = 12;
    let host = MachineHost::new();
    for deed in ["suspend", "resume"] {
        let mut whole = Duration::ZERO;
        for step in 0..=N_STEPS {
            let sandbox = Sandbox::with(host.driver(), &spec()).await;
            let id = sandbox.id;
            sandbox.write("kept", b"x").await.unwrap();
            if deed == "resume" {
                host.driver().as_suspend().unwrap().suspend(id).await.unwrap();
            }
            let (mut server, started) = (server_that(&host, id, deed), Instant::now());
            if step == 0 {
                assert!(server.wait().unwrap().success(), "{deed}");
                whole = started.elapsed();
            } else {
                tokio::time::sleep(whole * (step - 1) / N_STEPS).await;
                server.kill().unwrap();
                server.wait().unwrap();
            }
            let driver = host.driver();
            driver.list().await.unwrap();
            let resumed = driver.as_suspend().unwrap().resume(id).await.unwrap();
            let guest = Guest::connect(&*driver, id).await.unwrap();
            let kept = guest.list_directory("/workspace").await.unwrap();
            assert_eq!(kept.len(), 1, "{deed} {step}");
            assert_eq!(driver.list().await.unwrap(), [resumed], "{deed} {step}");
            remove_without_a_trace(&host, id).await;
        }
    }
}

/// Returns when what was begun goes on without a server.
fn a_server_dies_while_its_vmm_writes_down(host: &MachineHost, id: SandboxId) {
    let mut server = server_that(host, id, "suspend");
    let begun = host.run_directory(id).join("vm/snapshot/config.json");
    wait_until(|| begun.exists(), "the VMM begins to write");
    server.kill().unwrap();
    server.wait().unwrap();
}

/// A VMM does one thing after the other: who asks it anything while it still writes down what a dead server
/// wanted waits that long.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_still_being_written_down_for_a_dead_server_goes_on() {
    let host = MachineHost::new();
    let sandbox = Sandbox::with(host.driver(), &spec()).await;
    let id = sandbox.id;
    sandbox.write("kept", b"x").await.unwrap();
    host.set_fault("slow vm.snapshot");
    a_server_dies_while_its_vmm_writes_down(&host, id);
    let driver = host.driver();
    driver.as_suspend().unwrap().resume(id).await.unwrap();
    let guest = Guest::connect(&*driver, id).await.unwrap();
    assert_eq!(guest.list_directory("/workspace").await.unwrap().len(), 1);
    host.set_fault("");
    remove_without_a_trace(&host, id).await;
}

/// Who looks at a host is told what runs there and what has died, whatever one VMM is busy with.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_still_being_written_down_hides_no_other() {
    let host = MachineHost::new();
    let busy = Sandbox::with(host.driver(), &spec()).await;
    let alive = Sandbox::with(host.driver(), &spec()).await;
    host.set_fault("stuck vm.snapshot");
    a_server_dies_while_its_vmm_writes_down(&host, busy.id);
    let driver = host.driver();
    let listed = async || Vec::from_iter(driver.list().await.unwrap().iter().map(|it| it.id));
    let mut both = [busy.id, alive.id];
    both.sort_unstable();
    assert_eq!(listed().await, both);
    kill(host.vmm_pid(alive.id));
    assert_eq!(listed().await, [busy.id], "nor the death of another");
    listing_clears_away(&host, &*driver, alive.id).await;
    assert!(!host.run_directory(busy.id).join("vm/snapshot/state.json").exists(), "it is busy");
    host.set_fault("");
    driver.as_suspend().unwrap().resume(busy.id).await.unwrap();
    assert_eq!(busy.names("/workspace").await, [""; 0], "it goes on");
    for id in [busy.id, alive.id] {
        remove_without_a_trace(&host, id).await;
    }
}

/// What is written down and what went on are never mixed up, whatever fails in between.
#[tokio::test]
async fn what_cannot_be_suspended_or_resumed_is_never_half_alive() {
    let host = MachineHost::new();
    let sandbox = Sandbox::with(host.driver(), &spec()).await;
    let (id, driver) = (sandbox.id, host.driver());
    let suspend = driver.as_suspend().unwrap();
    sandbox.write("kept", b"x").await.unwrap();
    for fault in ["refuse vm.pause", "refuse vm.snapshot"] {
        host.set_fault(fault);
        let error = suspend.suspend(id).await.unwrap_err();
        assert!(error.to_string().contains("it was told to"), "{fault}: {error}");
        assert_eq!(suspend.suspended().await.unwrap(), [], "{fault}");
        assert_eq!(sandbox.names("/workspace").await, ["kept"], "{fault}: it runs on");
    }
    host.set_fault("");
    suspend.suspend(id).await.unwrap();
    for fault in ["refuse vm.restore", "version v50.0"] {
        host.set_fault(fault);
        let error = suspend.resume(id).await.unwrap_err();
        assert_eq!(suspend.suspended().await.unwrap(), [id], "{fault}: {error}");
        assert_eq!(driver.list().await.unwrap(), [], "{fault}");
        assert!(driver.ensure(id, &spec()).await.is_err(), "{fault}");
    }
    host.set_fault("");
    suspend.resume(id).await.unwrap();
    let guest = Guest::connect(&*driver, id).await.unwrap();
    assert_eq!(guest.list_directory("/workspace").await.unwrap().len(), 1);
    // It may have gone on before this fails, so what is written down is no longer true.
    suspend.suspend(id).await.unwrap();
    host.set_fault("refuse vm.resume");
    suspend.resume(id).await.unwrap_err();
    assert_eq!(suspend.suspended().await.unwrap(), []);
    assert_eq!(driver.observe(id).await.unwrap(), None);
    assert!(!host.run_directory(id).exists());
    host.set_fault("");
    remove_without_a_trace(&host, id).await;
}

/// All of a machine is written down, also what it shared with others; so it needs nobody else to go on.
#[tokio::test]
async fn what_a_machine_began_with_may_be_gone_when_it_goes_on() {
    for fault in ["", "refuse clones"] {
        let mut host = MachineHost::new();
        (host.config.warm_start, host.config.network) = (true, None);
        host.set_fault(fault);
        let (driver, id) = (host.cloud_hypervisor(), new_id());
        driver.prepare(&spec()).await.unwrap();
        driver.ensure(id, &spec()).await.unwrap();
        fs::remove_dir_all(host.config.state_dir.join("warm/golden")).unwrap();
        // The second time it has memory of its own already.
        for turn in ["1", "2"] {
            let guest = Guest::connect(&driver, id).await.unwrap();
            let path = format!("/workspace/{turn}");
            guest.make_directory(&path, Parents::Require).await.unwrap();
            driver.suspend(id).await.unwrap();
            let run = host.run_directory(id).join("vm");
            assert!(!run.join("memory").exists(), "{fault}: a copy of it takes no room any more");
            driver.resume(id).await.unwrap();
            assert!(!run.join("snapshot").exists(), "{fault}: nor does what was written down");
        }
        let guest = Guest::connect(&driver, id).await.unwrap();
        assert_eq!(guest.list_directory("/workspace").await.unwrap().len(), 2, "{fault}");
        remove_without_a_trace(&host, id).await;
    }
}

/// A machine that went on upon another image would find other programs than it has in its memory.
#[tokio::test]
async fn a_machine_goes_on_with_the_image_that_it_had_or_not_at_all() {
    let host = MachineHost::new();
    let sandbox = Sandbox::with(host.driver(), &spec()).await;
    let (id, driver) = (sandbox.id, host.cloud_hypervisor());
    driver.suspend(id).await.unwrap();
    let (image, aside) = (host.config.images.join("base"), host.directory.path().join("aside"));
    fs::rename(&image, &aside).unwrap();
    fs::write(&image, "another").unwrap();
    let error = driver.resume(id).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("is not what it was"), "{error}");
    assert_eq!(driver.suspended().await.unwrap(), [id]);
    fs::rename(&aside, &image).unwrap();
    driver.resume(id).await.unwrap();
    remove_without_a_trace(&host, id).await;
}

/// Claims of users end with the host's boot; nothing that was written down does.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_outlived_the_hosts_boot_has_the_user_that_it_had() {
    let mut host = MachineHost::new();
    // Nobody else may claim it in between.
    (host.config.first_uid, host.config.n_uids) = (2_100_010_000, 2);
    let sandbox = Sandbox::with(host.driver(), &spec()).await;
    let (id, driver) = (sandbox.id, host.cloud_hypervisor());
    let directory = host.run_directory(id);
    let owner = || fs::metadata(directory.join("vm/disk")).unwrap().uid();
    let had = owner();
    driver.suspend(id).await.unwrap();
    let record = fs::read_to_string(directory.join("record.json")).unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let of_another = record.replace(boot.trim(), "another");
    assert_ne!(of_another, record);
    fs::write(directory.join("record.json"), of_another).unwrap();
    if rustix::process::geteuid().is_root() {
        fs::remove_file(format!("/run/crownest/uids/{had}")).unwrap();
        wait_until(|| !is_of_somebody(had), "nobody waits for its processes any more");
    }
    assert_eq!(driver.list().await.unwrap(), []);
    assert_eq!(driver.suspended().await.unwrap(), [id]);
    // A server that begins sees to it that the only user there is stays whose it was.
    driver.check().await.unwrap();
    if rustix::process::geteuid().is_root() {
        let error = driver.ensure(new_id(), &spec()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::NoCapacity, "{error}");
    }
    driver.resume(id).await.unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", host.vmm_pid(id))).unwrap();
    assert!(status.contains(&format!("Uid:\t{had}\t{had}")), "{status}");
    remove_without_a_trace(&host, id).await;
}

/// Whether a process has this user.
fn is_of_somebody(uid: u32) -> bool {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).any(|process| process.uid() == uid)
}
