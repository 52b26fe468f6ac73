//! What is true of a whole run: the host, its load, and how much CPU time processes took.

use std::{fs, time::Duration};

/// The kernel tells CPU time in ticks of this many to the second, whatever its own clock does.
const TICKS_PER_SECOND: u64 = 100;

/// What to know before reading the figures; `sharers` are all who work on this host meanwhile.
pub fn host(sharers: &str) -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let version = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{cores} cores, shared by {sharers}; Linux {}; at the beginning: {}",
        version.trim(),
        load()
    )
}

/// The load averages.
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!("load {}", text.split(' ').take(3).collect::<Vec<_>>().join(" "))
}

/// CPU time of a process, its threads included.
pub fn cpu(pid: u32) -> Duration {
    times(pid).map_or(Duration::ZERO, |(_, own, _)| own)
}

/// CPU time of a process and all its children, those that have ended included.
pub fn cpu_of_family(pid: u32) -> Duration {
    let Some((_, own, ended)) = times(pid) else { return Duration::ZERO };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let children = pids.filter_map(times).filter(|(parent, ..)| *parent == pid);
    own + ended + children.map(|(_, own, _)| own).sum::<Duration>()
}

/// The parent of a process, its own CPU time and that of its ended children.
fn times(pid: u32) -> Option<(u32, Duration, Duration)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<_> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    let time = |at: usize| {
        Some(Duration::from_millis((ticks(at)? + ticks(at + 1)?) * 1000 / TICKS_PER_SECOND))
    };
    Some((fields.get(1)?.parse().ok()?, time(11)?, time(13)?))
}
