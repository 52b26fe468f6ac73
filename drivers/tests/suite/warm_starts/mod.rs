//! The stock of golden machines: made once, shared, checked, and no reason for a sandbox not to start.

mod spares;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use drivers::{
    Driver as _, Limits, Spec, Suspend as _,
    cloud_hypervisor::{CloudHypervisor, Start},
    contract::{new_id, spec},
    guest::Guest,
};
use rustix::fs::{FlockOperation, flock};

use crate::{machine_host::MachineHost, run::wait_until, traces::remove_without_a_trace};

type Told = Arc<Mutex<Vec<Start>>>;

fn host() -> MachineHost {
    let mut host = MachineHost::new();
    host.config.warm_start = true;
    host.config.network = None;
    host
}

/// Another server on the host, and how its sandboxes started.
fn server(host: &MachineHost) -> (CloudHypervisor, Told) {
    let told = Told::default();
    let heard = Arc::clone(&told);
    (host.cloud_hypervisor().telling(move |start| heard.lock().unwrap().push(start)), told)
}

/// What is on the shelf.
fn golden(host: &MachineHost) -> Vec<PathBuf> {
    let shelf = host.config.state_dir.join("warm/golden");
    fs::read_dir(shelf).into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
}

async fn starts(driver: &CloudHypervisor, spec: &Spec) {
    let id = new_id();
    driver.ensure(id, spec).await.unwrap();
    Guest::connect(driver, id).await.unwrap().hello().await.unwrap();
    driver.remove(id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_sandbox_boots_and_has_the_golden_machine_made() {
    let host = host();
    let (driver, told) = server(&host);
    starts(&driver, &spec()).await;
    // One that is about to be made has a seal as well, and another name.
    let is_made = |path: &PathBuf| path.extension().is_none() && path.join("seal.json").exists();
    wait_until(|| golden(&host).iter().any(is_made), "it is made");
    let (other, told_other) = server(&host);
    starts(&other, &spec()).await;
    // Another size is another machine.
    let larger = Spec { limits: Limits { memory_mib: 512, ..spec().limits }, ..spec() };
    starts(&other, &larger).await;
    assert_eq!(*told.lock().unwrap(), [Start::Boot]);
    assert_eq!(*told_other.lock().unwrap(), [Start::Clone, Start::Boot]);
    wait_until(|| golden(&host).len() == 2 && in_the_making(&host) == 0, "the other is made");
}

/// Golden machines that are being made.
fn in_the_making(host: &MachineHost) -> usize {
    let sandboxes = fs::read_dir(host.config.state_dir.join("warm/sandboxes"));
    sandboxes.map_or(0, Iterator::count)
}

#[tokio::test]
async fn many_servers_make_it_once() {
    let host = host();
    let servers: Vec<_> = (0..4).map(|_| server(&host).0).collect();
    let (spec, made) = (spec(), fs::metadata);
    let preparing = servers.iter().map(|driver| driver.prepare(&spec));
    for prepared in futures_util::future::join_all(preparing).await {
        prepared.unwrap();
    }
    let [golden] = &*golden(&host) else { panic!("there is one") };
    let first = made(golden).unwrap().modified().unwrap();
    servers[0].prepare(&spec).await.unwrap();
    assert_eq!(made(golden).unwrap().modified().unwrap(), first, "what is there stays");
    assert_eq!(in_the_making(&host), 0, "nothing is left of its making");
}

/// Whatever is wrong with it: the sandbox starts, and what was wrong is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_golden_machine_is_replaced() {
    for (name, content) in [
        ("state.json", Some("{}")),
        ("config.json", Some("{}")),
        ("memory", Some("short")),
        ("memory", None),
        ("disk", None),
        ("seal.json", Some("")),
    ] {
        let host = host();
        let (driver, told) = server(&host);
        driver.prepare(&spec()).await.unwrap();
        let broken = golden(&host).remove(0);
        fs::remove_file(broken.join(name)).unwrap();
        if let Some(content) = content {
            fs::write(broken.join(name), content).unwrap();
        }
        starts(&driver, &spec()).await;
        assert_eq!(*told.lock().unwrap(), [Start::Boot], "{name}");
        let (next, told) = server(&host);
        next.prepare(&spec()).await.unwrap();
        starts(&next, &spec()).await;
        assert_eq!(*told.lock().unwrap(), [Start::Clone], "{name}");
        wait_until(|| in_the_making(&host) == 0, "nobody is at it any more");
    }
}

/// Content that was changed without a trace in its size is found at a server's start, and only then: to read
/// all memory takes too long for somebody who asks every few seconds whether a server is well.
#[tokio::test]
async fn a_start_checks_what_is_there() {
    let host = host();
    let (driver, _) = server(&host);
    driver.prepare(&spec()).await.unwrap();
    driver.check().await.unwrap();
    let all = golden(&host);
    let [kept] = &*all else { panic!("there is one") };
    let (memory, aside) = (kept.join("memory"), kept.join("aside"));
    // Something that cannot be read now is not taken for something else.
    fs::rename(&memory, &aside).unwrap();
    fs::create_dir(&memory).unwrap();
    server(&host).0.check().await.unwrap();
    assert_eq!(golden(&host), all);
    fs::remove_dir(&memory).unwrap();
    let mut bytes = fs::read(&aside).unwrap();
    bytes[5] ^= 1;
    fs::write(&memory, bytes).unwrap();
    driver.check().await.unwrap();
    assert_eq!(golden(&host), all, "it was right when this server looked");
    server(&host).0.check().await.unwrap();
    assert_eq!(golden(&host), Vec::<PathBuf>::new());
}

/// A file that is missing is found, whoever looked before.
#[tokio::test]
async fn a_golden_machine_that_lost_a_file_goes() {
    let host = host();
    let (driver, _) = server(&host);
    driver.prepare(&spec()).await.unwrap();
    driver.check().await.unwrap();
    fs::remove_file(golden(&host)[0].join("state.json")).unwrap();
    driver.check().await.unwrap();
    assert_eq!(golden(&host), Vec::<PathBuf>::new());
}

/// A host that has too much to do wakes nothing in time, which says nothing of what it was to wake.
#[tokio::test(flavor = "multi_thread")]
async fn what_takes_too_long_is_no_reason_to_take_a_golden_machine_away() {
    let host = host();
    host.set_fault("ignore connections");
    let (driver, told) = server(&host);
    driver.prepare(&spec()).await.unwrap();
    let made_at = |path: &PathBuf| fs::metadata(path).unwrap().modified().unwrap();
    let there = || golden(&host).iter().map(made_at).collect::<Vec<_>>();
    let before = there();
    starts(&driver, &spec()).await;
    assert_eq!(*told.lock().unwrap(), [Start::Boot]);
    assert_eq!((there(), in_the_making(&host)), (before, 0), "nor is it made anew");
}

/// However many kinds of sandboxes there were: those that are asked for now start warm.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_used_longest_ago_makes_room() {
    const MOST: u64 = 16;
    let host = host();
    let (driver, told) = server(&host);
    driver.prepare(&spec()).await.unwrap();
    let ours = golden(&host).remove(0);
    let shelf = ours.parent().unwrap();
    let seal_of = |name: u64| shelf.join(format!("{name:032}")).join("seal.json");
    let was_used = |seal: &Path, hours: u64| {
        let seal = fs::File::open(seal).unwrap();
        let made_at = seal.metadata().unwrap().modified().unwrap();
        seal.set_modified(made_at - Duration::from_secs(3600 * hours)).unwrap();
        seal
    };
    was_used(&ours.join("seal.json"), MOST + 1);
    for name in 1..MOST {
        fs::create_dir(shelf.join(format!("{name:032}"))).unwrap();
        fs::write(seal_of(name), "{}").unwrap();
        was_used(&seal_of(name), MOST - name);
    }
    // One is used again, and one, which nobody has used for longer than all others, is about to be.
    starts(&driver, &spec()).await;
    let held = was_used(&seal_of(2), MOST);
    flock(&held, FlockOperation::LockShared).unwrap();
    let larger = Spec { limits: Limits { memory_mib: 512, ..spec().limits }, ..spec() };
    starts(&driver, &larger).await;
    let is_made = || !seal_of(1).exists() && in_the_making(&host) == 0;
    wait_until(is_made, "the first makes room");
    assert_eq!(golden(&host).len(), usize::try_from(MOST).unwrap());
    starts(&driver, &spec()).await;
    starts(&driver, &larger).await;
    let [boot, clone] = [Start::Boot, Start::Clone];
    assert_eq!(*told.lock().unwrap(), [clone, boot, clone, clone]);
}

/// Where files cannot be mapped, a copy of the memory does.
#[tokio::test]
async fn a_copy_of_the_memory_is_the_second_way() {
    let host = host();
    host.set_fault("refuse clones");
    let (driver, told) = server(&host);
    driver.prepare(&spec()).await.unwrap();
    starts(&driver, &spec()).await;
    assert_eq!(*told.lock().unwrap(), [Start::Copy]);
}

/// A machine drops the connections that it took before it heard that it was woken.
#[tokio::test]
async fn connections_that_are_lost_at_first_are_made_again() {
    let host = host();
    host.set_fault("lose connections");
    let (driver, told) = server(&host);
    driver.prepare(&spec()).await.unwrap();
    let id = new_id();
    driver.ensure(id, &spec()).await.unwrap();
    assert_eq!(*told.lock().unwrap(), [Start::Clone], "and not in another way");
    driver.suspend(id).await.unwrap();
    driver.resume(id).await.unwrap();
    Guest::connect(&driver, id).await.unwrap().hello().await.unwrap();
    driver.remove(id).await.unwrap();
}

/// A kernel, an image or a VMM that was replaced is no longer what the golden machine was made of.
#[tokio::test(flavor = "multi_thread")]
async fn another_image_is_another_machine() {
    let host = host();
    let (driver, told) = server(&host);
    driver.prepare(&spec()).await.unwrap();
    fs::write(host.config.images.join("base"), "a new image").unwrap();
    starts(&driver, &spec()).await;
    assert_eq!(*told.lock().unwrap(), [Start::Boot]);
    wait_until(|| golden(&host).len() == 2 && in_the_making(&host) == 0, "the new one is made");
}

#[tokio::test]
async fn nothing_is_left_of_a_clone() {
    let host = host();
    let (driver, _) = server(&host);
    driver.prepare(&spec()).await.unwrap();
    let id = new_id();
    driver.ensure(id, &spec()).await.unwrap();
    remove_without_a_trace(&host, id).await;
}
