//! What an operator of the host can see of sandboxes: processes, directories, control groups, user
//! ids. Knows nothing that the server or its driver says about them.

use std::{
    collections::BTreeSet,
    fmt, fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use tests::serving::Installation;

/// Where servers that are root note which user ids sandboxes have.
const USER_IDS: &str = "/run/crownest/uids";

const SANDBOX_ID_LEN: usize = "sbx_".len() + 32;

/// A process, and none that gets its id later.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    pub sandbox: String,
    pub pid: i32,
    /// Clock ticks since the host booted.
    pub started: u64,
    pub command_line: String,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.command_line[..self.command_line.floor_char_boundary(80)];
        write!(f, "{} of {}: {shown}", self.pid, self.sandbox)
    }
}

impl Process {
    /// Bubblewrap or the agent: one of those that live as long as the sandbox.
    pub fn is_frame(&self) -> bool {
        self.command_line.contains("--listen-stdin")
    }
}

/// Every process of an organization's sandboxes, recognized by what it was started with.
pub fn processes(org: &str) -> BTreeSet<Process> {
    let numbers = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        entry.unwrap().file_name().to_str().and_then(|name| name.parse::<i32>().ok())
    });
    numbers.filter_map(|pid| process(pid, org)).collect()
}

/// `None` also for a process that ends while it is looked at.
fn process(pid: i32, org: &str) -> Option<Process> {
    let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let (arguments, environment) = (text(read("cmdline")), text(read("environ")));
    if !(arguments.contains(org) || environment.contains(org)) {
        return None;
    }
    let stat = text(read("stat"));
    let mut rest = stat.rsplit_once(") ")?.1.split(' ');
    if matches!(rest.next()?, "Z" | "X") {
        return None;
    }
    let told = environment + &arguments;
    let sandbox = told.find("sbx_").and_then(|at| told.get(at..at + SANDBOX_ID_LEN));
    Some(Process {
        sandbox: sandbox.unwrap_or("unknown").to_owned(),
        pid,
        started: rest.nth(18)?.parse().ok()?,
        command_line: arguments.replace('\0', " "),
    })
}

/// Ends every process of an organization's sandboxes, for a story that failed.
pub fn kill_all(org: &str) {
    for process in processes(org) {
        if let Some(pid) = rustix::process::Pid::from_raw(process.pid) {
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
        }
    }
}

/// The sandboxes that have a run directory.
pub fn run_directories(installation: &Installation) -> BTreeSet<String> {
    names(&installation.state().join("sandboxes"))
}

/// The control groups that the run directories know of at present.
pub fn control_groups(installation: &Installation) -> BTreeSet<PathBuf> {
    let folder = installation.state().join("sandboxes");
    let records = names(&folder).into_iter().filter_map(|id| {
        let text = fs::read(folder.join(id).join("record.json")).ok()?;
        serde_json::from_slice::<Value>(&text).ok()
    });
    records
        .flat_map(|record| record["groups"].as_array().cloned().unwrap_or_default())
        .filter_map(|path| path.as_str().map(PathBuf::from))
        .collect()
}

/// What is left of sandboxes that are gone, in the server's folders and elsewhere.
pub fn left_over(installation: &Installation, groups: &BTreeSet<PathBuf>) -> Vec<String> {
    let state = installation.state();
    let mut left: Vec<_> = ["sandboxes", "locks"]
        .into_iter()
        .flat_map(|folder| names(&state.join(folder)).into_iter().map(move |name| (folder, name)))
        .map(|(folder, name)| format!("{folder}/{name}"))
        .collect();
    let groups = groups.iter().filter(|group| group.exists());
    left.extend(groups.map(|group| group.display().to_string()));
    for uid in names(Path::new(USER_IDS)) {
        let holder = fs::read_link(Path::new(USER_IDS).join(&uid)).unwrap_or_default();
        if holder.starts_with(&state) {
            left.push(format!("user id {uid} of {}", holder.display()));
        }
    }
    left
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}
