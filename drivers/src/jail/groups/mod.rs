//! Control groups of sandboxes: CPU time, memory and processes are limited where the host lets this
//! server do it, in hierarchies of version 1, of version 2, or both. What it cannot limit it tells; what
//! it could limit once, it never leaves unlimited.

mod detect;

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

pub(crate) use self::detect::Controller;
use self::detect::{Hierarchy, OWN_GROUP, Version};
use super::failure::{Doing, Failure, Result};
use crate::spec::Limits;

const CPU_PERIOD_MICROS: u32 = 100_000;
const SHARED_GROUP: &str = "crownest";
const REMOVE_RETRY: Duration = Duration::from_millis(10);

/// The groups of one sandbox, one directory for each hierarchy.
#[derive(Debug, Clone, Default)]
pub(crate) struct Groups {
    pub directories: Vec<PathBuf>,
}

/// A place where groups of sandboxes can be made, and what they limit there.
#[derive(Debug)]
struct Place {
    version: Version,
    directory: PathBuf,
    controllers: Vec<Controller>,
}

/// What this host was found to limit. Shared by all clones of a driver, and only grows: what a check
/// has told that is enforced, every sandbox gets from then on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Promise(Arc<Mutex<Option<BTreeSet<Controller>>>>);

impl Promise {
    /// Tells what can be limited now, and promises that.
    pub fn renew(&self) -> BTreeSet<Controller> {
        let now = enforceable();
        self.lock().get_or_insert_default().extend(&now);
        now
    }

    /// What is promised. A driver that was never checked finds out.
    fn given(&self) -> BTreeSet<Controller> {
        let given = self.lock().clone();
        given.unwrap_or_else(|| self.renew())
    }

    fn lock(&self) -> MutexGuard<'_, Option<BTreeSet<Controller>>> {
        self.0.lock().expect("nobody panics while holding it")
    }
}

/// What this host can limit for a sandbox, found out by trying.
fn enforceable() -> BTreeSet<Controller> {
    static N_TRIALS: AtomicU32 = AtomicU32::new(0);
    let limits = Limits { cpu_milli: 1000, memory_mib: 64, disk_mib: 1, n_pids: 16 };
    let mut enforced = BTreeSet::new();
    // Several may try at once, and none may remove the group of another.
    let trial = N_TRIALS.fetch_add(1, Ordering::Relaxed);
    for place in places() {
        let directory = place.directory.join(format!("trial-{}-{trial}", std::process::id()));
        if place.make(&directory, &limits).is_ok() {
            enforced.extend(place.controllers);
        }
        // Nothing was ever in it, so it goes at once if it is there.
        let _ = fs::remove_dir(&directory);
    }
    enforced
}

impl Groups {
    /// The groups that a sandbox has or may get, as seen from the group of this server.
    pub fn planned(name: &str) -> Self {
        let bases = hierarchies().into_iter().flat_map(|one| [one.own, one.top]);
        let directories = bases.map(|base| base.join(SHARED_GROUP).join(name)).collect();
        Self { directories }
    }

    /// These and others, each once.
    #[must_use]
    pub fn and(mut self, others: &[PathBuf]) -> Self {
        self.directories.extend_from_slice(others);
        self.directories.sort_unstable();
        self.directories.dedup();
        self
    }

    /// Makes the groups of a sandbox wherever the host allows it. Where it does not, that is a failure
    /// if something is promised that no other group limits.
    #[tracing::instrument(name = "make_groups", level = "debug", skip_all)]
    pub fn make(name: &str, limits: &Limits, promise: &Promise) -> Result<Self> {
        let (mut unlimited, mut refusals) = (promise.given(), String::new());
        let mut directories = Vec::new();
        for place in places() {
            let directory = place.directory.join(name);
            match place.make(&directory, limits) {
                Ok(()) => {
                    unlimited.retain(|one| !place.controllers.contains(one));
                    directories.push(directory);
                }
                Err(error) if is_refusal(&error) => {
                    refusals.push_str(&format!("; {}: {error}", directory.display()));
                }
                Err(error) => return Err(error).doing("limit", &directory),
            }
        }
        if unlimited.is_empty() {
            return Ok(Self { directories });
        }
        let names: Vec<_> = unlimited.into_iter().map(Controller::name).collect();
        let names = names.join(", ");
        Err(Failure::host(format!("the host does not let {names} be limited any more{refusals}")))
    }

    /// Gives what is in the groups another share of the processors, where they limit that.
    pub fn limit_cpu(&self, limits: &Limits) -> Result<()> {
        for directory in &self.directories {
            for version in [Version::One, Version::Two] {
                let settings = settings(version, Controller::Cpu, limits);
                // A group is of one version, and has the files of that.
                if !settings.iter().all(|(file, ..)| directory.join(file).exists()) {
                    continue;
                }
                for (file, value, _) in settings {
                    let path = directory.join(file);
                    fs::write(&path, value).doing("limit", &path)?;
                }
            }
        }
        Ok(())
    }

    /// Puts a process, and all that it will start, into the groups.
    pub fn join(&self, pid: i32) -> Result<()> {
        for directory in &self.directories {
            let path = directory.join("cgroup.procs");
            fs::write(&path, pid.to_string()).doing("join", &path)?;
        }
        Ok(())
    }

    /// The processes in any of the groups.
    pub fn pids(&self) -> Vec<i32> {
        self.directories.iter().flat_map(|directory| members(directory)).collect()
    }

    /// Removes the groups, for which the kernel takes a moment after the last process is gone.
    pub async fn remove(&self, deadline: Duration) -> Result<()> {
        let give_up_at = tokio::time::Instant::now() + deadline;
        for directory in &self.directories {
            loop {
                match fs::remove_dir(directory) {
                    Ok(()) => break,
                    // Whatever the error: where all is read-only now, what is missing is so, too.
                    Err(_) if !directory.exists() => break,
                    Err(error) if tokio::time::Instant::now() >= give_up_at => {
                        return Err(error).doing("remove", directory);
                    }
                    Err(_) => tokio::time::sleep(REMOVE_RETRY).await,
                }
            }
        }
        Ok(())
    }
}

impl Place {
    /// Makes a group with limits, or nothing at all.
    fn make(&self, directory: &Path, limits: &Limits) -> io::Result<()> {
        match fs::create_dir(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        self.limit(directory, limits).inspect_err(|_| {
            // If it stays, it is an empty group without limits, and the error says why.
            let _ = fs::remove_dir(directory);
        })
    }

    fn limit(&self, directory: &Path, limits: &Limits) -> io::Result<()> {
        for controller in &self.controllers {
            for (file, value, need) in settings(self.version, *controller, limits) {
                match fs::write(directory.join(file), value) {
                    // Such as the limit of swap on a kernel without swap accounting.
                    Err(error) if need == Need::IfThere && is_missing(&error) => {}
                    written => written?,
                }
            }
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Always,
    IfThere,
}

/// The files of a group that limit something, in the order in which they must be written.
fn settings(
    version: Version,
    controller: Controller,
    limits: &Limits,
) -> Vec<(&'static str, String, Need)> {
    let quota = (u64::from(limits.cpu_milli) * u64::from(CPU_PERIOD_MICROS) / 1000).max(1000);
    let memory = u64::from(limits.memory_mib) << 20;
    match (version, controller) {
        (Version::One, Controller::Cpu) => vec![
            ("cpu.cfs_period_us", CPU_PERIOD_MICROS.to_string(), Need::Always),
            ("cpu.cfs_quota_us", quota.to_string(), Need::Always),
        ],
        (Version::Two, Controller::Cpu) => {
            vec![("cpu.max", format!("{quota} {CPU_PERIOD_MICROS}"), Need::Always)]
        }
        (Version::One, Controller::Memory) => vec![
            ("memory.limit_in_bytes", memory.to_string(), Need::Always),
            ("memory.memsw.limit_in_bytes", memory.to_string(), Need::IfThere),
            ("memory.swappiness", "0".to_owned(), Need::IfThere),
        ],
        (Version::Two, Controller::Memory) => vec![
            ("memory.max", memory.to_string(), Need::Always),
            ("memory.swap.max", "0".to_owned(), Need::IfThere),
        ],
        (_, Controller::Pids) => vec![("pids.max", limits.n_pids.to_string(), Need::Always)],
    }
}

/// The places of this host, made ready. Those that cannot be are left out.
fn places() -> Vec<Place> {
    hierarchies().into_iter().filter_map(prepare).collect()
}

fn hierarchies() -> Vec<Hierarchy> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    detect::hierarchies(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"))
}

fn prepare(hierarchy: Hierarchy) -> Option<Place> {
    let Hierarchy { version, own, top, controllers } = hierarchy;
    match version {
        Version::One => {
            let directory = shared_group(&own)?;
            Some(Place { version, directory, controllers })
        }
        Version::Two => {
            // Inside of its own group the server keeps to what it was given itself. Where others
            // are in that group, only root may go elsewhere.
            let base = if is_delegated(&own) { own } else { top };
            if !delegate(&base) {
                return None;
            }
            let directory = shared_group(&base)?;
            delegate(&directory);
            let controllers = names(&directory.join("cgroup.subtree_control"));
            (!controllers.is_empty()).then_some(Place { version, directory, controllers })
        }
    }
}

fn shared_group(base: &Path) -> Option<PathBuf> {
    let directory = base.join(SHARED_GROUP);
    if !directory.is_dir() {
        fs::create_dir(&directory).ok()?;
    }
    Some(directory)
}

/// Makes the controllers of the server's own group available to groups in it. Version 2 lets a group
/// have processes or children with limits, not both, so what is in it has to move into a child, as a
/// delegated unit is meant to. Root does that only if nobody else is in it: to root everything looks
/// delegated.
fn is_delegated(own: &Path) -> bool {
    if delegate(own) {
        return true;
    }
    let members = members(own);
    let server = i32::try_from(std::process::id()).unwrap_or_default();
    let is_root = rustix::process::geteuid().is_root();
    if is_root && members.iter().any(|member| *member != server) {
        return false;
    }
    let child = own.join(OWN_GROUP);
    if !child.is_dir() && fs::create_dir(&child).is_err() {
        return false;
    }
    for member in members {
        // One that has ended meanwhile is no longer in the way, and one that stays shows below.
        let _ = fs::write(child.join("cgroup.procs"), member.to_string());
    }
    delegate(own)
}

/// Hands the controllers of a group on to its children; false if it has none to hand on, or has
/// processes. The kernel would let some go even then, and the children would be of no use.
fn delegate(group: &Path) -> bool {
    let path = group.join("cgroup.subtree_control");
    let missing: Vec<_> = names(&group.join("cgroup.controllers"))
        .into_iter()
        .filter(|one| !names(&path).contains(one))
        .map(|one| format!("+{}", one.name()))
        .collect();
    // Only the root of all has no type, and only it may have both.
    let is_root = !group.join("cgroup.type").exists();
    if !missing.is_empty() && (is_root || members(group).is_empty()) {
        // What counts is what is there in the end.
        let _ = fs::write(&path, missing.join(" "));
    }
    !names(&path).is_empty()
}

fn members(group: &Path) -> Vec<i32> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

fn names(path: &Path) -> Vec<Controller> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let has = |one: &Controller| text.split_whitespace().any(|name| name == one.name());
    Controller::ALL.into_iter().filter(has).collect()
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
}

/// Whether the host does not let this server make groups here, as opposed to something being broken.
fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::NotFound
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_written_in_the_words_of_each_version() {
        let limits = Limits { cpu_milli: 1500, memory_mib: 2, disk_mib: 0, n_pids: 7 };
        let shown = |version| {
            let settings =
                Controller::ALL.into_iter().flat_map(|one| settings(version, one, &limits));
            settings.map(|(file, value, _)| format!("{file}={value}")).collect::<Vec<_>>()
        };
        assert_eq!(
            shown(Version::One),
            [
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=150000",
                "memory.limit_in_bytes=2097152",
                "memory.memsw.limit_in_bytes=2097152",
                "memory.swappiness=0",
                "pids.max=7",
            ]
        );
        assert_eq!(
            shown(Version::Two),
            ["cpu.max=150000 100000", "memory.max=2097152", "memory.swap.max=0", "pids.max=7"]
        );
    }
}
