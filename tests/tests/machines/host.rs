//! What an operator of the host can see of one machine: processes, its user, control groups, a network card,
//! a directory. Knows nothing that the server or its driver says about it.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::Value;

use crate::wait::until;

/// Where servers that are root note which users machines have.
const USERS: &str = "/run/crownest/uids";

/// What there is of a machine that runs, to be looked for again.
#[derive(Debug)]
pub struct Traces {
    id: String,
    /// What its VMM is called: by itself, or by what it was started as before there was this sandbox.
    name: String,
    directory: PathBuf,
    groups: Vec<PathBuf>,
    /// Absent where the server is not root.
    user: Option<String>,
    vmm: i32,
}

/// Whether everything that a host can do for machines is done for these.
pub fn is_root() -> bool {
    geteuid().is_root()
}

impl Traces {
    /// Of a machine that runs: exactly one VMM, and on a host of root's all that belongs to it.
    pub fn of(state: &Path, id: &str) -> Self {
        let directory = state.join("sandboxes").join(id);
        let record = fs::read(directory.join("record.json")).unwrap();
        let record: Value = serde_json::from_slice(&record).unwrap();
        let groups = record["groups"].as_array().unwrap().iter();
        let groups = groups.map(|path| PathBuf::from(path.as_str().unwrap())).collect();
        let name = started_as(&record);
        let vmms = vmms(&name);
        let [vmm] = vmms[..] else { panic!("{id} has one VMM, not {vmms:?}") };
        let (id, user) = (id.to_owned(), user(&directory));
        let traces = Self { id, name, user, directory, groups, vmm };
        if is_root() {
            let left = traces.left();
            for what in ["process", "directory", "group", "user", "card"] {
                assert!(left.iter().any(|one| one.starts_with(what)), "no {what}: {left:#?}");
            }
        }
        traces
    }

    /// Its VMM is the one that it was.
    pub fn go_on(&self) {
        assert_eq!(vmms(&self.name), [self.vmm], "{} has the VMM that it had", self.id);
    }

    /// Ends its VMM as an accident would.
    pub fn crash(&self) {
        kill_process(Pid::from_raw(self.vmm).unwrap(), Signal::KILL).unwrap();
    }

    /// Waits until nothing of it is left.
    pub async fn vanish(&self) {
        let gone = async || self.left().is_empty().then_some(());
        until(&format!("nothing is left of {}: {:#?}", self.id, self.left()), gone).await;
    }

    /// What is there of it.
    pub fn left(&self) -> Vec<String> {
        let mut left = processes(&self.id);
        left.extend(processes(&self.name));
        let locks = self.directory.parent().and_then(Path::parent).unwrap().join("locks");
        for path in [self.directory.clone(), locks.join(&self.id)] {
            left.extend(path.exists().then(|| format!("directory or lock {}", path.display())));
        }
        let groups = self.groups.iter().filter(|group| group.exists());
        left.extend(groups.map(|group| format!("group {}", group.display())));
        if let Some(uid) = &self.user {
            // In this order: another machine has the user first, and a card then.
            let has_card = has_card(uid);
            let holder = fs::read_link(Path::new(USERS).join(uid)).ok();
            let is_ours = holder.as_ref() == Some(&self.directory);
            left.extend(is_ours.then(|| format!("user {uid}")));
            left.extend(
                (has_card && (is_ours || holder.is_none())).then(|| format!("card of {uid}")),
            );
        }
        left
    }

    /// The address by which the host sends to it.
    pub fn address(&self) -> Ipv4Addr {
        let card = card(self.user.as_ref().unwrap());
        let told =
            Command::new("ip").args(["-json", "-4", "address", "show", "dev", &card]).output();
        let told: Value = serde_json::from_slice(&told.unwrap().stdout).unwrap();
        let host: Ipv4Addr = told[0]["addr_info"][0]["local"].as_str().unwrap().parse().unwrap();
        // The two ends of the link are all that there is in its network.
        Ipv4Addr::from_bits(host.to_bits() ^ 1)
    }
}

/// What the VMM on a record was started as.
fn started_as(record: &Value) -> String {
    let line = fs::read(format!("/proc/{}/cmdline", record["agent"]["pid"])).unwrap();
    let line = String::from_utf8(line).unwrap();
    let name = line.strip_prefix("/opt/crownest/").and_then(|rest| rest.split('/').next());
    name.unwrap_or_else(|| panic!("{line} is no VMM")).to_owned()
}

/// The VMMs of a machine, as their command lines name it.
fn vmms(id: &str) -> Vec<i32> {
    let name = format!("/opt/crownest/{id}/vmm\0");
    all().filter(|(_, line)| line.starts_with(&name)).map(|(pid, _)| pid).collect()
}

/// Everything that runs in or around a machine.
fn processes(id: &str) -> Vec<String> {
    let mark = format!("/{id}/");
    let found = all().filter(|(_, line)| line.contains(&mark));
    found.map(|(pid, line)| format!("process {pid}: {}", line.replace('\0', " "))).collect()
}

/// Every process with its command line; one that has ended has none.
fn all() -> impl Iterator<Item = (i32, String)> {
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        Some((pid, String::from_utf8_lossy(&line).into_owned()))
    })
}

/// The user that is noted for a run directory.
fn user(directory: &Path) -> Option<String> {
    let entries = fs::read_dir(USERS).into_iter().flatten().flatten();
    let mut ours =
        entries.filter(|entry| fs::read_link(entry.path()).is_ok_and(|holder| holder == directory));
    ours.next().map(|entry| entry.file_name().into_string().unwrap())
}

fn card(uid: &str) -> String {
    format!("crow{uid}")
}

fn has_card(uid: &str) -> bool {
    let mut command = Command::new("ip");
    command.args(["link", "show", "dev", &card(uid)]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().unwrap().success()
}

/// The names in a folder; none if it is not there.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
}
