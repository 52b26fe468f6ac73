//! Runs the host's own programs for networks, each with a deadline, and says what they complain about.

use std::{
    io,
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};

use tokio::{io::AsyncWriteExt as _, process::Command, time::timeout};

use crate::{
    driver::ErrorKind,
    jail::{
        failure::{Failure, Result},
        program,
    },
};

/// The first program on a host reads what it needs from its disk.
const DEADLINE: Duration = Duration::from_secs(30);
const PLACES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
/// How much of a complaint is kept: one about rules repeats them.
const MAX_COMPLAINT: usize = 1 << 10;

/// The programs that networks take, and the packages they are in.
pub(super) const NEEDED: [(&str, &str); 3] =
    [("ip", "iproute2"), ("nft", "nftables"), ("nsenter", "util-linux")];

/// Says which program is missing.
pub(super) fn check() -> Result<()> {
    for (name, package) in NEEDED {
        if !PLACES.iter().any(|place| program::is_executable(&Path::new(place).join(name))) {
            return Err(missing(name, package));
        }
    }
    Ok(())
}

fn missing(name: &str, package: &str) -> Failure {
    Failure::unsupported(format!(
        "there is no {name}, which the network of sandboxes takes; install {package}, or do without by \
         machine_network = \"off\""
    ))
}

/// Runs a program with something to read, and returns what it says.
#[tracing::instrument(name = "run", level = "debug", skip_all, fields(what = program))]
pub(super) async fn run<A: AsRef<std::ffi::OsStr>>(
    program: &str,
    arguments: impl IntoIterator<Item = A>,
    input: &str,
) -> Result<String> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", PLACES.join(":"))
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let running = async {
        let mut child = command.spawn()?;
        let mut stdin = child.stdin.take();
        let writing = async {
            if let Some(mut stdin) = stdin.take() {
                // Whoever does not read it all says why.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
        };
        let (output, ()) = tokio::join!(child.wait_with_output(), writing);
        output
    };
    match timeout(DEADLINE, running).await {
        Ok(ended) => judge(program, ended),
        Err(_) => Err(Failure::timed_out(format!(
            "{program} did not end within {} s",
            DEADLINE.as_secs()
        ))),
    }
}

fn judge(program: &str, ended: io::Result<Output>) -> Result<String> {
    let output = ended.map_err(|error| match NEEDED.iter().find(|(name, _)| *name == program) {
        Some((name, package)) if error.kind() == io::ErrorKind::NotFound => missing(name, package),
        _ => Failure::host(format!("cannot start {program}: {error}")),
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let mut complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    complaint.truncate(complaint.floor_char_boundary(MAX_COMPLAINT));
    let no_room = ["Cannot allocate memory", "No space left", "Too many open", "No buffer space"];
    let kind = if no_room.iter().any(|words| complaint.contains(words)) {
        ErrorKind::NoCapacity
    } else {
        ErrorKind::Host
    };
    let text = format!("{program} failed ({}): {complaint}", output.status);
    Err(Failure::new(kind, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_program_says_is_returned_and_its_complaint_told() {
        let large = "x".repeat(1 << 20);
        assert_eq!(run("cat", ["-"], &large).await.unwrap(), large);
        // One that reads nothing of what it is given.
        assert_eq!(run("echo", ["it"], &large).await.unwrap(), "it\n");
        for (script, kind) in [
            ("echo no such thing >&2; exit 3", ErrorKind::Host),
            ("echo RTNETLINK answers: Cannot allocate memory >&2; exit 3", ErrorKind::NoCapacity),
        ] {
            let failure = run("sh", ["-c", script], "").await.unwrap_err();
            assert_eq!(failure.kind, kind);
            let complaint = script.trim_start_matches("echo ").split(" >").next().unwrap();
            assert!(failure.to_string().contains(complaint), "{failure}");
        }
    }

    #[test]
    fn a_missing_program_is_named_with_its_package() {
        let ended = || Err(io::Error::from(io::ErrorKind::NotFound));
        let failure = judge("nft", ended()).unwrap_err();
        assert_eq!(failure.kind, ErrorKind::Unsupported);
        assert!(failure.to_string().contains("install nftables"), "{failure}");
        assert_eq!(judge("mystery", ended()).unwrap_err().kind, ErrorKind::Host);
    }
}
