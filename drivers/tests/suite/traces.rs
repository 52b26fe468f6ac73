//! What a driver that keeps processes may leave on a host, and servers that die while they make a
//! sandbox: the same for each such driver.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Child,
    sync::Arc,
    time::{Duration, Instant},
};

use domain::id::SandboxId;
use drivers::{
    Driver,
    contract::{new_id, spec},
    guest::Guest,
};

/// How long it may take to clear away a sandbox.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A host with a state directory of its own.
pub trait Host {
    fn driver(&self) -> Arc<dyn Driver>;
    fn state_dir(&self) -> PathBuf;

    fn run_directory(&self, id: SandboxId) -> PathBuf {
        self.state_dir().join("sandboxes").join(id.to_string())
    }
}

/// Processes of the host that were started for this sandbox, in or around it.
fn processes(id: SandboxId) -> Vec<String> {
    let of_sandbox = |path: &Path| {
        let arguments = fs::read_to_string(path.join("cmdline")).unwrap_or_default();
        arguments.contains(&format!("/{id}/")).then(|| arguments.replace('\0', " "))
    };
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let found = entries.filter_map(|entry| of_sandbox(&entry.path()));
    found.collect()
}

/// Lists until nothing is left of a sandbox that died: a list has it cleared away, but does not wait for that
/// for long.
pub async fn listing_clears_away(host: &impl Host, driver: &dyn Driver, id: SandboxId) {
    let lock = host.state_dir().join("locks").join(id.to_string());
    let give_up_at = Instant::now() + PATIENCE;
    while host.run_directory(id).exists() || lock.exists() {
        assert!(Instant::now() < give_up_at, "{} stays", host.run_directory(id).display());
        let listed = driver.list().await.unwrap();
        assert!(listed.iter().all(|one| one.id != id), "it is dead");
    }
}

/// Removes the sandbox and sees that nothing of it is left on the host.
pub async fn remove_without_a_trace(host: &impl Host, id: SandboxId) {
    host.driver().remove(id).await.unwrap();
    assert_eq!(processes(id), Vec::<String>::new());
    assert!(!host.run_directory(id).exists());
    for directory in ["locks", "sandboxes"] {
        let left = fs::read_dir(host.state_dir().join(directory)).into_iter().flatten();
        assert_eq!(left.count(), 0, "{directory}");
    }
    let mut groups = vec![Path::new("/sys/fs/cgroup").to_owned()];
    while let Some(group) = groups.pop() {
        assert!(!group.ends_with(id.to_string()), "{}", group.display());
        let children = fs::read_dir(group).into_iter().flatten().flatten();
        groups.extend(children.map(|child| child.path()).filter(|path| path.is_dir()));
    }
    let claims = fs::read_dir("/run/crownest/uids").into_iter().flatten().flatten();
    let holders = claims.filter_map(|claim| fs::read_link(claim.path()).ok());
    assert!(!holders.into_iter().any(|holder| holder == host.run_directory(id)));
}

/// A sandbox that a server made outlives it: the next one finds it as it was.
pub async fn a_sandbox_outlives_its_server(host: &impl Host, server: impl Fn(SandboxId) -> Child) {
    let id = new_id();
    assert!(server(id).wait().unwrap().success());
    let driver = host.driver();
    let listed = driver.list().await.unwrap();
    assert_eq!(listed.iter().map(|observed| observed.id).collect::<Vec<_>>(), [id]);
    let guest = Guest::connect(&*driver, id).await.unwrap();
    let boot = guest.hello().await.unwrap();
    assert_eq!(driver.ensure(id, &spec()).await.unwrap(), listed[0]);
    assert_eq!(guest.hello().await.unwrap(), boot, "it was adopted, not made anew");
    remove_without_a_trace(host, id).await;
}

/// So many times at most.
const N_PASSES: u32 = 4;

/// Kills servers at steps through the time that it takes to make a sandbox.
pub async fn a_server_may_be_killed_at_any_instant(
    host: &impl Host,
    server: impl Fn(SandboxId) -> Child,
    n_steps: u32,
) {
    let (id, started) = (new_id(), Instant::now());
    assert!(server(id).wait().unwrap().success());
    let whole = started.elapsed();
    remove_without_a_trace(host, id).await;
    let mut n_half_made = 0;
    // Other instants of the same time where none of the first hit: how long it takes is never the same.
    let passes = (0..N_PASSES).flat_map(|pass| (0..n_steps).map(move |step| (step, pass)));
    for (step, pass) in passes {
        if step == 0 && n_half_made > 0 {
            break;
        }
        let id = new_id();
        let mut server = server(id);
        tokio::time::sleep(whole * (step * N_PASSES + pass) / (n_steps * N_PASSES)).await;
        server.kill().unwrap();
        server.wait().unwrap();
        let driver = host.driver();
        let is_there = driver.observe(id).await.unwrap().is_some();
        n_half_made += u32::from(!is_there && host.run_directory(id).exists());
        match step % 3 {
            // A reconciler that still wants it.
            0 => {
                driver.ensure(id, &spec()).await.unwrap();
                let guest = Guest::connect(&*driver, id).await.unwrap();
                assert_eq!(guest.list_directory("/workspace").await.unwrap(), []);
            }
            // One that has forgotten it: listing clears up what never came up, as soon as the last
            // process that the dead server was about to start has let go of its lock.
            1 => {
                if is_there {
                    assert_eq!(driver.list().await.unwrap().len(), 1);
                    assert!(host.run_directory(id).exists());
                } else {
                    listing_clears_away(host, &*driver, id).await;
                }
            }
            // One that wants it gone.
            _ => {}
        }
        remove_without_a_trace(host, id).await;
    }
    assert!(n_half_made > 0, "no step was early enough to leave anything half made");
}
