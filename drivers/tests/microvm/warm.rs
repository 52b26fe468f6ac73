//! Machines that begin with what another one was: as different from each other as any two, and the same as
//! one that has booted.

use std::{
    collections::BTreeSet,
    env, fs,
    sync::{Arc, Mutex},
};

use drivers::{
    Driver as _, Spec,
    cloud_hypervisor::{CloudHypervisor, Start},
    contract::{new_id, sandbox::Sandbox, spec},
    guest::Guest,
};

use crate::{host::RealHost, traces::remove_without_a_trace};

/// How many clones are held against each other.
const N_CLONES: usize = 1000;
/// Where machines are slow.
const N_CLONES_EMULATED: usize = 100;

/// A driver, and how its sandboxes started.
fn telling(host: &RealHost) -> (CloudHypervisor, Arc<Mutex<Vec<Start>>>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    let driver = CloudHypervisor::new(host.config.clone());
    (driver.telling(move |start| heard.lock().unwrap().push(start)), told)
}

/// Random bytes and names are drawn as the very first thing that happens inside.
#[tokio::test]
async fn no_two_clones_draw_the_same() {
    let is_emulated = env::var_os("MICROVM_HOST").is_some_and(|host| host == "emulated");
    let n = if is_emulated { N_CLONES_EMULATED } else { N_CLONES };
    let host = RealHost::warm().await;
    let (driver, told) = telling(&host);
    let mut drawn = BTreeSet::new();
    let command = "cat /proc/sys/kernel/random/uuid; head -c 16 /dev/urandom | od -An -tx1; \
                   cat /proc/sys/kernel/random/boot_id /etc/machine-id";
    for number in 0..n {
        let sandbox = Sandbox::with(Arc::new(driver.clone()), &spec()).await;
        let printed = sandbox.printed(command).await;
        let lines: Vec<_> = printed.lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 4, "{printed}");
        for line in lines {
            assert!(drawn.insert(line), "clone {number} drew what another had: {printed}");
        }
        sandbox.remove().await;
    }
    assert_eq!(*told.lock().unwrap(), vec![Start::Clone; n]);
}

/// Many at once share the memory, and none sees what another writes to it or to its disk.
#[tokio::test]
async fn clones_do_not_see_each_other() {
    let host = RealHost::warm().await;
    let (driver, told) = telling(&host);
    let mut clones = Vec::new();
    for name in ["a", "b", "c"] {
        let sandbox = Sandbox::with(Arc::new(driver.clone()), &spec()).await;
        sandbox.printed(&format!("echo {name} > own; head -c 2000000 /dev/urandom > noise")).await;
        clones.push((name, sandbox));
    }
    for (name, sandbox) in &clones {
        assert_eq!(sandbox.printed("cat own; ls").await, format!("{name}\nnoise\nown\n"));
    }
    for (_, sandbox) in clones {
        sandbox.remove().await;
    }
    // What they began with is as it was.
    let sandbox = Sandbox::with(Arc::new(driver), &spec()).await;
    assert_eq!(sandbox.names("/workspace").await, Vec::<String>::new());
    assert_eq!(*told.lock().unwrap(), [Start::Clone; 4]);
    remove_without_a_trace(&host, sandbox.id).await;
}

/// In VMMs that were started ahead, several at once: each is one of its own, and none is left over.
#[tokio::test]
async fn sandboxes_take_vmms_that_wait() {
    let mut host = RealHost::warm().await;
    host.config.n_spares = 2;
    let (driver, told) = telling(&host);
    driver.prepare(&spec()).await.unwrap();
    let of_own = |name: &str| Spec {
        env: std::iter::once(("NAME".to_owned(), name.to_owned())).collect(),
        ..spec()
    };
    let mut drawn = BTreeSet::new();
    let mut taken = Vec::new();
    for name in ["a", "b"] {
        taken.push(Sandbox::with(Arc::new(driver.clone()), &of_own(name)).await);
    }
    let command = "cat /proc/sys/kernel/random/uuid /proc/sys/kernel/random/boot_id /etc/machine-id; \
                   ls /workspace; echo $NAME > own";
    for sandbox in &taken {
        for line in sandbox.printed(command).await.lines() {
            assert!(drawn.insert(line.to_owned()), "{line} twice");
        }
    }
    assert_eq!(drawn.len(), 6, "{drawn:?}");
    for (sandbox, name) in taken.iter().zip(["a", "b"]) {
        assert_eq!(sandbox.printed("cat own").await, format!("{name}\n"));
    }
    assert_eq!(*told.lock().unwrap(), [Start::Spare; 2]);
    let last = taken.pop().unwrap();
    for sandbox in taken {
        sandbox.remove().await;
    }
    remove_without_a_trace(&host, last.id).await;
}

/// The time that has passed since the golden machine was written down is not lost.
#[tokio::test]
async fn a_clone_knows_the_time() {
    let host = RealHost::warm().await;
    let (driver, _) = telling(&host);
    let sandbox = Sandbox::with(Arc::new(driver), &spec()).await;
    let told: i64 = sandbox.printed("date +%s").await.trim().parse().unwrap();
    let age = now() - told;
    assert!((0..=10).contains(&age), "{age} s behind");
    remove_without_a_trace(&host, sandbox.id).await;
}

#[expect(clippy::disallowed_methods, reason = "a test of clocks")]
fn now() -> i64 {
    chrono::Utc::now().timestamp()
}

/// A golden machine that is broken is no reason not to start; it is made anew by the next server.
#[tokio::test]
async fn a_sandbox_boots_when_it_cannot_be_woken() {
    let mut host = RealHost::new();
    host.config.warm_start = true;
    let (driver, told) = telling(&host);
    let spec = Spec { env: std::iter::once(("A".to_owned(), "b".to_owned())).collect(), ..spec() };
    driver.prepare(&spec).await.unwrap();
    let shelf = host.config.state_dir.join("warm/golden");
    let golden = fs::read_dir(&shelf).unwrap().next().unwrap().unwrap().path();
    fs::remove_file(golden.join("state.json")).unwrap();
    fs::write(golden.join("state.json"), "{}").unwrap();
    let id = new_id();
    driver.ensure(id, &spec).await.unwrap();
    let guest = Guest::connect(&driver, id).await.unwrap();
    guest.hello().await.unwrap();
    assert_eq!(*told.lock().unwrap(), [Start::Boot]);
    assert!(!golden.exists(), "it is of no use");
    driver.remove(id).await.unwrap();
}
