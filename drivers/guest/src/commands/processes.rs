//! Finds and signals all processes of a command: its process group, its session, what they started,
//! and whoever carries its mark in the environment, which survives leaving both. Keeps no state.

use std::{collections::HashSet, fs};

use rustix::process::{
    Pid, PidfdFlags, Signal, getpid, kill_process_group, pidfd_open, pidfd_send_signal,
};

/// The environment variable that marks the processes of a command.
pub const MARK: &str = "CROWNEST_COMMAND_ID";

/// Processes that fork while they are being killed are found in the next round.
const MAX_ROUNDS: usize = 64;

/// Sends SIGTERM to all processes of a command. Its leader must not have been reaped yet.
pub fn terminate(leader: Pid, command_id: &str) {
    // Looked up before any signal: what a process started is found only while it lives.
    let members = members(leader, command_id);
    // The group at once, so that none of it can fork away in between.
    let _ = kill_process_group(leader, Signal::TERM);
    for member in members.iter().filter(|member| member.group != Some(leader)) {
        send(member, Signal::TERM);
    }
}

/// Sends SIGKILL to all processes of a command until there are no new ones.
pub fn kill(leader: Pid, command_id: &str) {
    let mut killed = HashSet::new();
    for _ in 0..MAX_ROUNDS {
        let members = members(leader, command_id);
        let _ = kill_process_group(leader, Signal::KILL);
        let before = killed.len();
        for member in members {
            send(&member, Signal::KILL);
            killed.insert(member.pid);
        }
        if killed.len() == before {
            return;
        }
    }
}

struct Process {
    pid: Pid,
    parent: Option<Pid>,
    group: Option<Pid>,
    session: Option<Pid>,
}

fn send(process: &Process, signal: Signal) {
    // The process may end and its number be given to another: a descriptor is of one process only,
    // and it is the wanted one if its description is still the same.
    let Ok(fd) = pidfd_open(process.pid, PidfdFlags::empty()) else { return };
    if read_process(process.pid).is_some_and(|now| now.session == process.session) {
        let _ = pidfd_send_signal(fd, signal);
    }
}

/// The living processes of a command.
fn members(leader: Pid, command_id: &str) -> Vec<Process> {
    let all = all_processes();
    let mark = format!("{MARK}={command_id}");
    let is_own = |process: &Process| {
        process.pid == leader
            || process.group == Some(leader)
            || process.session == Some(leader)
            || is_marked(process.pid, &mark)
    };
    let mut own: HashSet<Pid> = all.iter().filter(|it| is_own(it)).map(|it| it.pid).collect();
    // Children of members are members, and so on down; a chain is no longer than there are processes.
    loop {
        let is_child = |it: &&Process| {
            !own.contains(&it.pid) && it.parent.is_some_and(|parent| own.contains(&parent))
        };
        let children: Vec<Pid> = all.iter().filter(is_child).map(|it| it.pid).collect();
        if children.is_empty() {
            break;
        }
        own.extend(children);
    }
    all.into_iter().filter(|it| own.contains(&it.pid)).collect()
}

fn all_processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids =
        entries.filter_map(|entry| Pid::from_raw(entry.ok()?.file_name().to_str()?.parse().ok()?));
    // Never the agent itself, nor the first process of the sandbox.
    let others = pids.filter(|pid| *pid != getpid() && !pid.is_init());
    others.filter_map(read_process).collect()
}

/// Reads one process; `None` if it is gone or a zombie.
fn read_process(pid: Pid) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // "pid (name) state parent group session ...", where the name may contain anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    let mut next = || Some(Pid::from_raw(fields.next()?.parse().ok()?));
    Some(Process { pid, parent: next()?, group: next()?, session: next()? })
}

fn is_marked(pid: Pid, mark: &str) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes())
}
