//! VMMs that are started ahead: taken by the sandboxes that want just such a one, replaced, and never left
//! over, whoever dies. Only root keeps them.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use domain::{egress::EgressPolicy, id::SandboxId};
use drivers::{
    Driver as _, Limits, Spec, Suspend as _,
    cloud_hypervisor::{CloudHypervisor, Start},
    contract::{new_id, sandbox::Sandbox, spec},
    guest::Guest,
};
use rustix::process::geteuid;

use super::{Told, server, starts};
use crate::{
    local_host::{kill, pid_on_record},
    machine_host::MachineHost,
    machines::server_that,
    run::{skipped, wait_until},
    traces::{self, PATIENCE, remove_without_a_trace},
};

/// A host where some are kept; none where the tests are not root.
fn host(n_spares: u32) -> Option<MachineHost> {
    if !geteuid().is_root() {
        skipped("machine-networks", "VMMs are started ahead by root alone");
        return None;
    }
    let mut host = super::host();
    host.config.n_spares = n_spares;
    Some(host)
}

/// Those that there are, or that are being made.
fn spares(host: &MachineHost) -> BTreeSet<SandboxId> {
    let kept = fs::read_dir(host.config.state_dir.join("warm/sandboxes")).into_iter().flatten();
    let names = kept.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.map(|name| name.parse().unwrap()).collect()
}

/// The run directory of one.
fn kept_at(host: &MachineHost, id: SandboxId) -> PathBuf {
    host.config.state_dir.join("warm/sandboxes").join(id.to_string())
}

/// Has a server look after the host until there are none: it begins to sweep them away, but does not wait for
/// that for long.
async fn checks_until_none_is_left(host: &MachineHost, driver: &CloudHypervisor) {
    let give_up_at = Instant::now() + PATIENCE;
    while !spares(host).is_empty() {
        assert!(Instant::now() < give_up_at, "{:?} stay", spares(host));
        driver.check().await.unwrap();
    }
}

/// Whether the host has nothing that is named after one.
fn is_gone(host: &MachineHost, id: SandboxId) -> bool {
    let named = |path: &Path| {
        fs::read_to_string(path.join("cmdline")).is_ok_and(|line| line.contains(&id.to_string()))
    };
    let mut groups = vec![PathBuf::from("/sys/fs/cgroup")];
    let mut has_group = false;
    while let Some(group) = groups.pop() {
        has_group |= group.ends_with(id.to_string());
        let children = fs::read_dir(group).into_iter().flatten().flatten();
        groups.extend(children.map(|child| child.path()).filter(|path| path.is_dir()));
    }
    let claims = fs::read_dir("/run/crownest/uids").into_iter().flatten().flatten();
    let mut holders = claims.filter_map(|claim| fs::read_link(claim.path()).ok());
    let claimed = holders.any(|holder| holder == kept_at(host, id));
    let mut processes = fs::read_dir("/proc").unwrap().flatten();
    let runs = processes.any(|process| named(&process.path()));
    !has_group && !claimed && !runs && !kept_at(host, id).exists()
}

fn last(told: &Told) -> Option<Start> {
    told.lock().unwrap().last().copied()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_takes_a_spare_and_another_is_made() {
    let Some(host) = host(1) else { return };
    let (driver, told) = server(&host);
    driver.prepare(&spec()).await.unwrap();
    let [first] = *spares(&host).iter().copied().collect::<Vec<_>>() else {
        panic!("there is one")
    };
    // What it is told when it begins is its own, and no reason for another VMM.
    let env = std::iter::once(("A".to_owned(), "b c".to_owned())).collect();
    let own = Spec { env, ..spec() };
    let id = new_id();
    let observed = driver.ensure(id, &own).await.unwrap();
    assert_eq!(last(&told), Some(Start::Spare));
    let guest = Guest::connect(&driver, id).await.unwrap();
    let sandbox = Sandbox { driver: std::sync::Arc::new(driver.clone()), id, guest };
    assert_eq!(sandbox.printed("echo $A; pwd").await, "b c\n/workspace\n");
    let quota = spec().limits.cpu_milli * 100;
    assert!(host.quota(id).is_none_or(|is| is == quota), "what it takes to start is over");
    wait_until(|| !spares(&host).contains(&first) && spares(&host).len() == 1, "another is made");
    // The next server knows the sandbox and nothing of where it came from.
    drop(sandbox);
    drop(driver);
    let (driver, _) = server(&host);
    driver.check().await.unwrap();
    assert_eq!(driver.list().await.unwrap(), std::slice::from_ref(&observed));
    assert_eq!(driver.ensure(id, &own).await.unwrap(), observed, "adopted");
    driver.suspend(id).await.unwrap();
    driver.resume(id).await.unwrap();
    assert!(host.quota(id).is_none_or(|is| is == quota), "once more");
    Guest::connect(&driver, id).await.unwrap().hello().await.unwrap();
    remove_without_a_trace(&host, id).await;
    assert!(is_gone(&host, first), "nor is anything left under the name that it had");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_of_another_kind_takes_none() {
    let Some(host) = host(1) else { return };
    let (driver, told) = server(&host);
    driver.prepare(&spec()).await.unwrap();
    let kept = spares(&host);
    starts(&driver, &Spec { egress: EgressPolicy::deny_all(), ..spec() }).await;
    assert_eq!(last(&told), Some(Start::Clone), "its network has other rules");
    let quick = Limits { cpu_milli: spec().limits.cpu_milli / 2, ..spec().limits };
    starts(&driver, &Spec { limits: quick, ..spec() }).await;
    assert_eq!(last(&told), Some(Start::Clone), "its groups have other limits");
    assert!(spares(&host).is_superset(&kept), "it waits for one that it fits");
    starts(&driver, &spec()).await;
    assert_eq!(last(&told), Some(Start::Spare));
}

/// A host does not fill up with them, however many kinds there are.
#[tokio::test(flavor = "multi_thread")]
async fn kinds_that_nobody_asks_for_are_forgotten() {
    const N_KINDS: u32 = 6;
    const MOST: usize = 4;
    let Some(host) = host(1) else { return };
    let (driver, told) = server(&host);
    let cpu_milli = |kind: u32| spec().limits.cpu_milli - kind;
    let of_kind =
        |kind| Spec { limits: Limits { cpu_milli: cpu_milli(kind), ..spec().limits }, ..spec() };
    for kind in 0..N_KINDS {
        driver.prepare(&of_kind(kind)).await.unwrap();
    }
    wait_until(|| spares(&host).len() == MOST, "as many as are kept");
    starts(&driver, &of_kind(0)).await;
    assert_eq!(last(&told), Some(Start::Clone), "the first was forgotten");
    starts(&driver, &of_kind(N_KINDS - 1)).await;
    assert_eq!(last(&told), Some(Start::Spare), "the last was not");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spare_that_is_of_no_use_is_no_reason_not_to_start() {
    let Some(host) = host(2) else { return };
    let (driver, told) = server(&host);
    driver.prepare(&spec()).await.unwrap();
    let both = spares(&host);
    assert_eq!(both.len(), 2);
    // Nobody waits for the one any more; the other cannot begin.
    let mut ids = both.iter().copied();
    kill_vmm(&host, ids.next().unwrap());
    fs::remove_file(kept_at(&host, ids.next().unwrap()).join("vm/snapshot/state.json")).unwrap();
    starts(&driver, &spec()).await;
    assert_eq!(last(&told), Some(Start::Clone));
    wait_until(|| both.iter().all(|id| is_gone(&host, *id)), "nothing is left of either");
    wait_until(|| spares(&host).len() == 2, "there are others");
    starts(&driver, &spec()).await;
    assert_eq!(last(&told), Some(Start::Spare));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spare_that_has_waited_too_long_is_not_taken() {
    let Some(mut host) = host(1) else { return };
    host.config.spare_age = Duration::ZERO;
    let (driver, told) = server(&host);
    driver.prepare(&spec()).await.unwrap();
    let [old] = *spares(&host).iter().copied().collect::<Vec<_>>() else { panic!("there is one") };
    starts(&driver, &spec()).await;
    assert_eq!(last(&told), Some(Start::Clone), "the network may have changed since");
    wait_until(|| is_gone(&host, old), "nothing is left of it");
}

/// Kills the VMM of one: what its record names is bubblewrap, which ends with it and the other way round.
fn kill_vmm(host: &MachineHost, id: SandboxId) {
    kill(pid_on_record(&host.config.state_dir.join("warm"), id, "launcher"));
}

/// Whatever a server is doing for later when it is told to end.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_takes_its_own_with_it() {
    let Some(host) = host(2) else { return };
    let (driver, told) = server(&host);
    driver.prepare(&spec()).await.unwrap();
    let kept = spares(&host);
    let id = new_id();
    driver.ensure(id, &spec()).await.unwrap();
    driver.close().await;
    assert_eq!(spares(&host), BTreeSet::new());
    let observed = driver.observe(id).await.unwrap();
    assert!(observed.is_some(), "what runs goes on");
    // It may still be asked for sandboxes, but keeps nothing for others.
    starts(&driver, &spec()).await;
    driver.close().await;
    assert_eq!(*told.lock().unwrap(), [Start::Spare, Start::Clone]);
    assert_eq!(spares(&host), BTreeSet::new());
    remove_without_a_trace(&host, id).await;
    assert!(kept.into_iter().all(|id| is_gone(&host, id)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_server_sweeps_away_those_of_a_dead_one() {
    let Some(host) = host(2) else { return };
    let (driver, _) = server(&host);
    driver.prepare(&spec()).await.unwrap();
    let kept = spares(&host);
    // One that lives keeps its own, and what it keeps runs no sandbox.
    let (next, _) = server(&host);
    next.check().await.unwrap();
    assert_eq!((spares(&host), next.list().await.unwrap()), (kept.clone(), Vec::new()));
    drop(driver);
    checks_until_none_is_left(&host, &next).await;
    assert!(kept.into_iter().all(|id| is_gone(&host, id)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_may_be_killed_while_a_spare_is_taken() {
    let Some(host) = host(1) else { return };
    // What all of them begin with is there.
    CloudHypervisor::new(host.config.clone()).prepare(&spec()).await.unwrap();
    let server = |id| server_that(&host, id, "take a spare");
    traces::a_server_may_be_killed_at_any_instant(&host, server, 40).await;
    let (driver, _) = super::server(&host);
    // The last process that a dead server was about to start may hold on to a lock for a moment.
    checks_until_none_is_left(&host, &driver).await;
}
