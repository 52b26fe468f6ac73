//! Finds processes of the host and ends them. Never trusts a process id alone: ids are used again,
//! so a process is its id and the instant at which it started.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use serde::{Deserialize, Serialize};

use super::failure::{Doing, Failure, Result};

/// One process, and none that gets its id later in the same boot of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Process {
    pub pid: i32,
    /// Clock ticks since the host booted.
    started: u64,
}

#[derive(Debug)]
struct Stat {
    process: Process,
    parent: i32,
    is_dead: bool,
}

impl Process {
    /// The process that has this id now, unless it is dead already.
    pub fn now(pid: i32) -> Option<Self> {
        stat(pid).filter(|stat| !stat.is_dead).map(|stat| stat.process)
    }

    pub fn is_alive(self) -> bool {
        Self::now(self.pid) == Some(self)
    }

    /// Sends SIGKILL, and waits until it is dead or `deadline` has passed. Blocks the thread.
    fn kill(self, deadline: Instant) -> Result<()> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(()) };
        let Ok(descriptor) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(()) };
        // The descriptor holds on to whoever has the id now; only then it is safe to compare.
        if !self.is_alive() {
            return Ok(());
        }
        pidfd_send_signal(&descriptor, Signal::KILL)
            .map_err(|errno| Failure::host(format!("cannot kill process {}: {errno}", self.pid)))?;
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).ok();
        let mut ended = [PollFd::new(&descriptor, PollFlags::IN)];
        match poll(&mut ended, left.as_ref()) {
            Ok(0) => Err(Failure::timed_out(format!("process {} does not die", self.pid))),
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(Failure::host(format!("cannot wait for {}: {errno}", self.pid))),
        }
    }
}

/// How to recognize the processes of one sandbox from outside.
#[derive(Debug, Clone)]
pub(crate) struct Marks {
    /// Processes that are known, and their children.
    pub known: Vec<Process>,
    /// A user id that no other process of the host has.
    pub uid: Option<u32>,
    /// The program inside that no other sandbox has, as its first argument or that of the launcher
    /// after `--`. Unlike its environment, everybody may look at a process's arguments.
    pub program: String,
}

/// Ends every process that has one of the marks or is one of the members, which are the ids that the
/// control groups of the sandbox hold at the time, until none is left.
pub(crate) async fn kill_all(
    marks: Marks,
    members: impl Fn() -> Vec<i32> + Send + 'static,
    deadline: Duration,
) -> Result<()> {
    let deadline = Instant::now() + deadline;
    let killing = tokio::task::spawn_blocking(move || {
        // Twice, because a process may start another that a look at the list has missed, and end
        // before it is looked at itself. None of those that are looked for does so twice in a row.
        let mut n_looks_in_vain = 0;
        while n_looks_in_vain < 2 {
            let found = find(&marks, &members).doing("look at", Path::new("/proc"))?;
            n_looks_in_vain = if found.is_empty() { n_looks_in_vain + 1 } else { 0 };
            found.into_iter().try_for_each(|process| process.kill(deadline))?;
        }
        Ok(())
    });
    killing.await.unwrap_or_else(|error| Err(Failure::host(format!("killing broke off: {error}"))))
}

/// The user ids that some process has.
pub(crate) fn uids_in_use() -> io::Result<BTreeSet<u32>> {
    Ok(pids()?.into_iter().flat_map(uids).collect())
}

/// The processes that look like those of a sandbox. Each was read before what it was recognized by,
/// and `Process::kill` reads it once more: if it is the same then, it was the same in between.
fn find(marks: &Marks, members: &impl Fn() -> Vec<i32>) -> io::Result<Vec<Process>> {
    let grouped = grouped(members);
    let mut found = Vec::new();
    for pid in pids()? {
        // A process may end while it is looked at; then it is none of ours any more.
        let Some(stat) = stat(pid).filter(|stat| !stat.is_dead) else { continue };
        let known = marks
            .known
            .iter()
            .any(|known| *known == stat.process || (known.pid == stat.parent && known.is_alive()));
        if known
            || grouped.contains(&stat.process)
            || marks.uid.is_some_and(|uid| uids(pid).contains(&uid))
            || runs(pid, &marks.program)
        {
            found.push(stat.process);
        }
    }
    Ok(found)
}

/// The processes in a group. An id in it may be another process's by the time it is looked at; only
/// what the group still holds after that was in it.
fn grouped(members: &impl Fn() -> Vec<i32>) -> BTreeSet<Process> {
    let looked_at: Vec<_> = members().into_iter().filter_map(Process::now).collect();
    let still: BTreeSet<_> = members().into_iter().collect();
    looked_at.into_iter().filter(|process| still.contains(&process.pid)).collect()
}

fn pids() -> io::Result<Vec<i32>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        pids.extend(entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    Ok(pids)
}

fn stat(pid: i32) -> Option<Stat> {
    // Not always text: the name in it may be anything.
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(&String::from_utf8_lossy(&stat))
}

/// Reads `pid (name) state parent ... threads ... started ...`; the name may hold spaces and parentheses.
fn parse_stat(text: &str) -> Option<Stat> {
    let pid = text.split_once(' ')?.0.parse().ok()?;
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let n_threads: u64 = fields.nth(15)?.parse().ok()?;
    let started = fields.nth(1)?.parse().ok()?;
    let is_dead = match state {
        "X" | "x" => true,
        // The main thread may end before the others, and looks the same as a whole process then.
        "Z" => n_threads <= 1,
        _ => false,
    };
    Some(Stat { process: Process { pid, started }, parent, is_dead })
}

/// The real, effective, saved and file system user id.
fn uids(pid: i32) -> Vec<u32> {
    let status = fs::read(format!("/proc/{pid}/status")).unwrap_or_default();
    let status = String::from_utf8_lossy(&status);
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    line.split_whitespace().filter_map(|uid| uid.parse().ok()).collect()
}

fn runs(pid: i32, program: &str) -> bool {
    let is_so = |path: PathBuf| {
        let arguments = fs::read(path).unwrap_or_default();
        let mut before = &b"--"[..];
        arguments.split(|byte| *byte == 0).any(|argument| {
            let is_program = before == b"--" && argument == program.as_bytes();
            before = argument;
            is_program
        })
    };
    // A main thread that has ended shows no arguments, while the other threads still do.
    let threads = || fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    is_so(format!("/proc/{pid}/cmdline").into())
        || threads().any(|thread| is_so(thread.path().join("cmdline")))
}

#[cfg(test)]
mod tests {
    use std::{
        ffi::OsStr,
        os::unix::ffi::OsStrExt,
        process::Stdio,
        sync::atomic::{AtomicU32, Ordering},
    };

    use super::*;

    fn marks(program: String) -> Marks {
        Marks { known: Vec::new(), uid: None, program }
    }

    #[test]
    fn a_process_lives_as_long_as_one_of_its_threads() {
        let rest = "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0";
        for (name, state, n_threads, is_dead, why) in [
            ("sleep", "S", 1, false, "a usual one"),
            ("a) Z 1 (b", "R", 1, false, "the name is noise"),
            ("main", "Z", 1, true, "nobody has waited for it"),
            ("main", "Z", 2, false, "another thread goes on"),
            ("main", "X", 2, true, "dead"),
        ] {
            let text = format!("12 ({name}) {state} 1 {rest} {n_threads} 0 777 1 2");
            let stat = parse_stat(&text).unwrap();
            assert_eq!(stat.process, Process { pid: 12, started: 777 }, "{why}");
            assert_eq!((stat.parent, stat.is_dead), (1, is_dead), "{why}");
        }
        assert!(parse_stat("12 (a) S").is_none());
    }

    /// A sandbox that lets its main threads end must not outlive its removal by that.
    #[tokio::test]
    async fn a_process_without_its_main_thread_is_found_and_killed() {
        let program = format!("/opt/test-threads-{}", std::process::id());
        // Only the calling thread ends by it.
        let exit = if cfg!(target_arch = "x86_64") { 60 } else { 93 };
        let script = format!("threads->create(sub {{ sleep 1000 }}); syscall({exit}, 0)");
        let mut command = tokio::process::Command::new("perl");
        command.args(["-Mthreads", "-e", &script, "--", &program]).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let stat_path = format!("/proc/{}/stat", child.id().unwrap());
        while !fs::read_to_string(&stat_path).unwrap().contains(") Z ") {
            tokio::task::yield_now().await;
        }
        kill_all(marks(program), Vec::new, Duration::from_secs(10)).await.unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(10), child.wait()).await;
        assert!(!ended.expect("it was killed").unwrap().success());
    }

    #[tokio::test]
    async fn marked_processes_die_and_others_do_not() {
        let program = format!("/opt/test-{}", std::process::id());
        let spawn = |arguments: [&str; 3]| {
            let mut command = tokio::process::Command::new("sh");
            // It waits by itself, so that nothing is left when it is killed.
            command.args(["-c", "read line"]).args(arguments).stdin(Stdio::piped());
            command.kill_on_drop(true).spawn().unwrap()
        };
        let (mut marked, mut other) = (spawn(["sh", "--", &program]), spawn(["sh", "-", &program]));
        kill_all(marks(program), Vec::new, Duration::from_secs(10)).await.unwrap();
        assert!(!marked.wait().await.unwrap().success());
        assert!(other.try_wait().unwrap().is_none());
    }

    #[tokio::test]
    async fn a_process_may_call_itself_what_it_likes() {
        let directory = tempfile::tempdir().unwrap();
        let sleep = directory.path().join(OsStr::from_bytes(b"\xff"));
        fs::copy("/bin/sleep", &sleep).unwrap();
        let mut child =
            tokio::process::Command::new(sleep).arg("1000").kill_on_drop(true).spawn().unwrap();
        let pid = i32::try_from(child.id().unwrap()).unwrap();
        assert!(Process::now(pid).is_some());
        assert!(uids(pid).contains(&rustix::process::geteuid().as_raw()));
        child.kill().await.unwrap();
    }

    #[tokio::test]
    async fn an_id_that_leaves_the_group_is_not_killed() {
        let spawn = || {
            let mut command = tokio::process::Command::new("sleep");
            command.arg("1000").kill_on_drop(true).spawn().unwrap()
        };
        let (mut member, mut bystander) = (spawn(), spawn());
        let id = |child: &tokio::process::Child| i32::try_from(child.id().unwrap()).unwrap();
        let (member_id, bystander_id) = (id(&member), id(&bystander));
        // As if a second member had died after the first look, and its id were the bystander's now.
        let n_looks = AtomicU32::new(0);
        let members = move || match n_looks.fetch_add(1, Ordering::Relaxed) {
            0 => vec![member_id, bystander_id],
            _ => vec![member_id],
        };
        let program = format!("/opt/test-group-{}", std::process::id());
        kill_all(marks(program), members, Duration::from_secs(10)).await.unwrap();
        assert!(!member.wait().await.unwrap().success());
        assert!(bystander.try_wait().unwrap().is_none());
    }

    #[test]
    fn the_id_alone_is_not_the_process() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let me = Process::now(pid).unwrap();
        assert!(me.is_alive());
        assert!(!Process { started: me.started + 1, ..me }.is_alive());
    }
}
