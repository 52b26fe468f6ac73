//! Finds and signals all processes of a command: its process group, its session, what they started,
//! and whoever carries its mark in the environment, which survives leaving both. Keeps no state.

use std::{collections::HashSet, fs, path::PathBuf};

use rustix::process::{
    Pid, PidfdFlags, Signal, getpid, kill_process_group, pidfd_open, pidfd_send_signal,
};

/// The environment variable that marks the processes of a command.
pub const MARK: &str = "CROWNEST_COMMAND_ID";

/// Processes that fork while they are being killed are found in the next round.
const MAX_ROUNDS: usize = 64;
/// Which of the fields after the name says how many threads there are.
const N_THREADS: usize = 17;

/// Sends SIGTERM to all processes of a command. Its leader must not have been reaped yet.
pub fn terminate(leader: Pid, command_id: &str) {
    let members = held(leader, command_id);
    // To each, too: one may have left the group in the last moment. What is stopped takes it once.
    for signal in [Signal::TERM, Signal::CONT] {
        let _ = kill_process_group(leader, signal);
        members.iter().for_each(|member| send(member, signal));
    }
}

/// Looks the members up while their group is stopped. Of one that goes on, what it started could leave
/// the group unseen between the look and the signal, and with its starter gone nothing tells whose it is.
fn held(leader: Pid, command_id: &str) -> Vec<Process> {
    let _ = kill_process_group(leader, Signal::STOP);
    members(leader, command_id)
}

/// Sends SIGKILL to all processes of a command until there are no new ones.
pub fn kill(leader: Pid, command_id: &str) {
    let mut killed = HashSet::new();
    for _ in 0..MAX_ROUNDS {
        let members = held(leader, command_id);
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
    // One that makes a session of its own keeps its parent meanwhile.
    let is_same = |now: &Process| now.session == process.session || now.parent == process.parent;
    if read_process(process.pid).as_ref().is_some_and(is_same) {
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
    // Not always text: the name in it may be anything.
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    living(pid, &String::from_utf8_lossy(&stat))
}

/// Reads "pid (name) state parent group session ...", where the name may contain anything.
fn living(pid: Pid, stat: &str) -> Option<Process> {
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let n_threads = || fields.get(N_THREADS)?.parse::<u64>().ok();
    match *fields.first()? {
        "X" => return None,
        // The main thread may end before the others, and looks the same as a whole process then.
        "Z" if n_threads().is_none_or(|n| n <= 1) => return None,
        _ => {}
    }
    let number = |at: usize| Some(Pid::from_raw(fields.get(at)?.parse().ok()?));
    Some(Process { pid, parent: number(1)?, group: number(2)?, session: number(3)? })
}

fn is_marked(pid: Pid, mark: &str) -> bool {
    let has_mark = |path: PathBuf| {
        let environment = fs::read(path).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes())
    };
    // A main thread that has ended shows no environment, while the other threads still do.
    let threads = || fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    has_mark(format!("/proc/{pid}/environ").into())
        || threads().any(|thread| has_mark(thread.path().join("environ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_lives_as_long_as_one_of_its_threads() {
        let rest = "0 -1 4194560 1 0 0 0 0 0 0 0 20 0";
        for (name, state, n_threads, lives, why) in [
            ("sleep", "S", "1", true, "a usual one"),
            ("a) Z 1 (b", "R", "1", true, "the name is noise"),
            ("main", "Z", "1", false, "nobody has waited for it"),
            ("main", "Z", "2", true, "another thread goes on"),
            ("main", "X", "2", false, "dead"),
            ("main", "Z", "", false, "cut off"),
        ] {
            let stat = format!("7 ({name}) {state} 3 5 6 {rest} {n_threads} 0 0");
            let stat = if n_threads.is_empty() { "7 (main) Z 3 5 6" } else { &stat };
            let found = living(Pid::INIT, stat);
            assert_eq!(found.is_some(), lives, "{why}");
            if let Some(found) = found {
                let read = [found.parent, found.group, found.session];
                assert_eq!(read.map(|pid| pid.map(Pid::as_raw_pid)), [Some(3), Some(5), Some(6)]);
            }
        }
    }
}
