//! The first moments of a command's shell: the agent starts itself anew as `exec-child`, which makes
//! its own session, puts limits back and becomes the shell. This stands in for code between fork and
//! exec, which cannot be written without `unsafe`. Decides nothing about the command.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Write as _},
    os::{fd::AsFd as _, unix::process::CommandExt as _},
    process::{Command, Stdio},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, setsid};

/// The first argument that makes the binary a child instead of the agent.
pub const VERB: &str = "exec-child";

/// Becomes the shell: `<soft limit of open files> <shell> <command line>`. Standard input is a pipe
/// to the agent that closes by itself when this succeeds. Returns only the error that prevented it,
/// after having written it to that pipe.
pub fn exec(arguments: impl Iterator<Item = OsString>) -> io::Error {
    // The copy closes on exec; the original is replaced by /dev/null then.
    let report = io::stdin().as_fd().try_clone_to_owned();
    let error = become_shell(arguments);
    if let Ok(report) = report {
        // If the agent is gone there is nobody to tell.
        let _ = File::from(report).write_all(error.to_string().as_bytes());
    }
    error
}

fn become_shell(mut arguments: impl Iterator<Item = OsString>) -> io::Error {
    let (Some(limit), Some(shell), Some(line)) =
        (arguments.next(), arguments.next(), arguments.next())
    else {
        return io::Error::new(io::ErrorKind::InvalidInput, "arguments are missing");
    };
    if let Err(error) = prepare(limit.to_str().and_then(|limit| limit.parse().ok())) {
        return error;
    }
    Command::new(shell).arg("-c").arg(line).stdin(Stdio::null()).exec()
}

/// `n_files`: `None` leaves the limit of open files as the agent has it.
fn prepare(n_files: Option<u64>) -> io::Result<()> {
    setsid()?;
    // When memory runs out, a command goes and not the agent. Without it things are as they were.
    let _ = fs::write("/proc/self/oom_score_adj", "500");
    if let Some(current) = n_files {
        let maximum = getrlimit(Resource::Nofile).maximum;
        setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum })?;
    }
    Ok(())
}
