//! Runs one of the scripts that this program carries: what they do is for operators to read, and is done
//! by the system's own tools. What they print goes to standard error.

use std::{ffi::OsStr, io, process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    process::{Child, Command},
    time::{sleep, timeout},
};

use super::{Failure, interrupts::Interrupts};

/// How long a script may take to clean up once it is to end.
const GRACE: Duration = Duration::from_secs(60);

/// A script.
#[derive(Debug, Clone, Copy)]
pub(super) struct Script {
    pub name: &'static str,
    pub text: &'static str,
    /// How long it may take.
    pub deadline: Duration,
}

impl Script {
    /// Runs it to its end. A signal, or the deadline, ends it and all that it started.
    pub async fn run(
        &self,
        arguments: &[&OsStr],
        settings: &[(&str, &OsStr)],
    ) -> Result<(), Failure> {
        let undone = |text: String| Failure::Undone(anyhow::Error::msg(text));
        let name = self.name;
        let mut interrupts = Interrupts::new()?;
        let mut command = Command::new("bash");
        command.args(["-c", self.text, name]).args(arguments).envs(settings.iter().copied());
        command.stdin(Stdio::null()).stdout(io::stderr()).process_group(0).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| undone(format!("bash: {error}")))?;
        let ended = tokio::select! {
            biased;
            status = child.wait() => Ok(status?),
            code = interrupts.next() => Err(Failure::Interrupted(code)),
            () = sleep(self.deadline) => Err(undone(format!("{name} does not end"))),
        };
        match ended {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(undone(format!("{name} failed ({status}); what it said is above"))),
            Err(failure) => {
                end(&mut child).await;
                Err(failure)
            }
        }
    }
}

async fn end(child: &mut Child) {
    let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let Some(group) = group else { return };
    // One that is gone needs no signal.
    let _ = kill_process_group(group, Signal::TERM);
    if timeout(GRACE, child.wait()).await.is_err() {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(text: &'static str, deadline: Duration) -> Script {
        Script { name: "test.sh", text, deadline }
    }

    #[tokio::test]
    async fn a_script_gets_its_arguments_and_settings() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a file");
        let one = script("printf '%s %s' \"$2\" \"$SAID\" >\"$1\"", GRACE);
        one.run(&[file.as_ref(), "a b".as_ref()], &[("SAID", "so".as_ref())]).await.unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "a b so");
    }

    #[tokio::test]
    async fn one_that_fails_or_does_not_end_is_named() {
        let failed = script("exit 3", GRACE).run(&[], &[]).await.unwrap_err().to_string();
        assert!(failed.contains("test.sh failed (exit status: 3)"), "{failed}");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cleaned");
        let endless = "trap 'echo >\"$1\"; exit 1' TERM; while true; do sleep 0.01; done";
        let stuck = script(endless, Duration::from_millis(500)).run(&[file.as_ref()], &[]).await;
        let stuck = stuck.unwrap_err().to_string();
        assert!(stuck.contains("test.sh does not end"), "{stuck}");
        assert!(file.exists(), "it could clean up");
    }
}
