//! Commands that are ended, what becomes of the processes they started, and orphans.

use std::{
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use drivers::guest::{
    CancelMode, Exit, ExitCause, OutputStream, StartCommand, TerminationSignal, WatchItem,
};
use futures_util::future::join_all;
use rustix::process::geteuid;

use crate::fixture::{Death, Sandbox, binary, command, finish, next, next_text, text};

const SHORT: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(1000);

/// Starts a command with a timeout and follows it to the end.
async fn timed(sandbox: &Sandbox, line: &str, timeout: Duration, grace: Duration) -> Exit {
    let order = StartCommand { timeout: Some(timeout), grace, ..command(line) };
    let id = order.id;
    sandbox.guest.start(order).await.unwrap();
    finish(sandbox.watch(id).await).await.1
}

#[tokio::test]
async fn a_command_that_is_too_slow_is_timed_out() {
    let sandbox = Sandbox::start().await;
    for (line, timeout, grace, signal, why) in [
        ("sleep 1000", SHORT, LONG, TerminationSignal::Terminate, "obeys"),
        // Long enough for the trap to be set; if it is not, the answer is the same.
        (
            "trap 'exit 0' TERM; while :; do sleep 0.01; done",
            Duration::from_millis(500),
            LONG,
            TerminationSignal::Terminate,
            "exits with 0 all the same",
        ),
        (
            "trap '' TERM; while :; do sleep 0.01; done",
            Duration::from_millis(500),
            SHORT,
            TerminationSignal::Kill,
            "has to be killed",
        ),
    ] {
        let exit = timed(&sandbox, line, timeout, grace).await;
        assert_eq!((exit.cause, exit.signal), (ExitCause::TimedOut, Some(signal)), "{why}");
    }
    let exit = timed(&sandbox, "exit 5", LONG, LONG).await;
    assert_eq!((exit.cause, exit.exit_code), (ExitCause::Exited, 5));
}

#[tokio::test]
async fn a_command_is_canceled_as_asked() {
    let sandbox = Sandbox::start().await;
    let obeys = "echo ready; exec sleep 1000";
    let stays = "trap '' TERM; echo ready; while :; do sleep 0.01; done";
    let says = "trap 'echo bye; exit 9' TERM; echo ready; while :; do sleep 0.01; done";
    use CancelMode::{Force, Graceful};
    use TerminationSignal::{Kill, Terminate};
    for (line, wishes, mode, signal, exit_code) in [
        (obeys, vec![(Graceful, LONG)], Graceful, Terminate, 143),
        (obeys, vec![(Force, LONG)], Force, Kill, 137),
        (says, vec![(Graceful, LONG)], Graceful, Terminate, 9),
        (stays, vec![(Graceful, SHORT)], Graceful, Kill, 137),
        (stays, vec![(Graceful, LONG), (Force, LONG)], Force, Kill, 137),
        (stays, vec![(Graceful, LONG), (Graceful, SHORT)], Graceful, Kill, 137),
    ] {
        let id = sandbox.start_line(line).await;
        let mut watch = sandbox.watch(id).await;
        assert_eq!(next_text(&mut watch).await, "ready\n");
        for (mode, grace) in &wishes {
            assert!(sandbox.guest.cancel(id, *mode, *grace).await.unwrap());
        }
        let (_, exit) = finish(watch).await;
        let wanted = (ExitCause::Canceled(mode), Some(signal), exit_code);
        assert_eq!((exit.cause, exit.signal, exit.exit_code), wanted, "{line} {wishes:?}");
        assert!(!sandbox.guest.cancel(id, Force, LONG).await.unwrap(), "it has ended");
    }
}

/// Whether or not a command has got as far as its shell, an early cancel ends it.
#[tokio::test]
async fn a_cancel_may_come_at_once() {
    let sandbox = Sandbox::start().await;
    let ended = join_all((0..32).map(async |i| {
        let order = command("sleep 1000");
        let mode = if i % 2 == 0 { CancelMode::Force } else { CancelMode::Graceful };
        let (_, _) = tokio::join!(sandbox.guest.start(order.clone()), async {
            // Until the start has entered the command there is nothing to cancel.
            while sandbox.guest.cancel(order.id, mode, SHORT).await.is_err() {}
        });
        finish(sandbox.watch(order.id).await).await.1.cause
    }));
    for cause in ended.await {
        assert!(matches!(cause, ExitCause::Canceled(_)), "{cause:?}");
    }
}

#[tokio::test]
async fn a_cancel_reaches_everything_that_was_started() {
    let sandbox = Sandbox::start().await;
    for (start, why) in [
        ("sleep 1000 &", "a child"),
        ("(sleep 1000 & echo $! > pid) ; true", "an orphan in the session"),
        ("setsid sleep 1000 &", "in a session of its own"),
        ("setsid sh -c 'setsid sleep 1000 & echo $! > pid' ; true", "an orphan in its own session"),
        ("(trap '' TERM; exec sleep 1000) &", "that does not obey"),
        ("env -i setsid sleep 1000 &", "a child without the mark"),
    ] {
        let line =
            format!("rm -f pid; {start} [ -s pid ] || echo $! > pid; cat pid; wait; read _ < pipe");
        sandbox.run("rm -f pipe; mkfifo pipe").await;
        let id = sandbox.start_line(&line).await;
        let mut watch = sandbox.watch(id).await;
        let death = Death::of(&next_text(&mut watch).await);
        assert!(!death.has_come());
        // Without a pause only for the leader, which ends at once.
        sandbox.guest.cancel(id, CancelMode::Graceful, LONG).await.unwrap();
        let (_, exit) = finish(watch).await;
        assert_eq!(exit.cause, ExitCause::Canceled(CancelMode::Graceful), "{why}");
        death.comes().await;
    }
}

#[tokio::test]
async fn processes_in_the_background_do_not_hold_up_the_exit() {
    let sandbox = Sandbox::start().await;
    for (line, why) in [
        ("sleep 1000 & echo $!", "silent"),
        ("(while :; do echo noise; done) & echo $!; sleep 0.01", "noisy"),
    ] {
        let id = sandbox.start_line(line).await;
        let mut watch = sandbox.watch(id).await;
        let (mut said, mut last_seq) = (String::new(), 0);
        let exit = loop {
            match next(&mut watch).await {
                WatchItem::Output(output) => {
                    last_seq = output.seq;
                    said.push_str(&output.data);
                    sandbox.guest.acknowledge(id, output.seq).await.unwrap();
                }
                WatchItem::Exit(exit) => break exit,
            }
        };
        assert_eq!((exit.cause, exit.exit_code, exit.last_seq), (ExitCause::Exited, 0, last_seq));
        let pid = said.lines().find(|line| line.parse::<u32>().is_ok()).unwrap();
        let death = Death::of(pid);
        // It goes on, and its later output neither blocks nor ends it: it can still be told to end.
        assert!(!death.has_come(), "{why}");
        let (outputs, _) = sandbox.run(&format!("kill {pid} && echo alive")).await;
        assert_eq!(text(&outputs, OutputStream::Stdout), "alive\n", "{why}");
        death.comes().await;
    }
}

/// All of a large output arrives though its end was long before it was read.
#[tokio::test]
async fn output_in_the_pipe_is_not_lost_by_the_exit() {
    let sandbox = Sandbox::start().await;
    let line = "sleep 1000 & head -c 60000 /dev/zero | tr '\\0' x; echo end";
    let (outputs, _) = sandbox.run(line).await;
    assert_eq!(text(&outputs, OutputStream::Stdout), format!("{}end\n", "x".repeat(60000)));
}

#[tokio::test]
async fn orphans_are_reaped() {
    let sandbox = Sandbox::start().await;
    // Each orphan writes its number and ends after its parent.
    let line = "for i in $(seq 20); do (sh -c 'echo $$; sleep 0.01' &); done";
    let (outputs, _) = sandbox.run(line).await;
    let orphans = text(&outputs, OutputStream::Stdout);
    assert_eq!(orphans.lines().count(), 20);
    for pid in orphans.lines() {
        // A zombie would stay for ever.
        while Path::new(&format!("/proc/{pid}")).exists() {
            tokio::task::yield_now().await;
        }
    }
}

/// An agent that cannot make a thread any more still ends commands and reaps them.
#[tokio::test]
async fn a_sandbox_full_of_processes_is_ended() {
    let limit = "--nproc=48:48";
    let perl = [limit, "perl", "-e", "1"];
    let can = Command::new("prlimit").args(perl).stderr(Stdio::null()).status();
    let can = can.is_ok_and(|status| status.success());
    if !geteuid().is_root() || !can {
        eprintln!("skipped: only the superuser can give an agent a user of its own");
        return;
    }
    let mut agent = Command::new("prlimit");
    agent.args([limit, binary()]).uid(54_321).gid(54_321);
    let sandbox = Sandbox::start_as(agent).await;
    // A shell would wait longer and longer between its attempts.
    let line = r#"exec perl -e '$| = 1; print "$$\n"; while (1) {
        my $pid = fork; if (defined $pid && !$pid) { sleep 1000; exit }
        select(undef, undef, undef, 0.01) unless defined $pid }'"#;
    // Longer than a runtime keeps threads that have nothing to do, unless it is told to.
    let patience = Duration::from_secs(12);
    let order = StartCommand { timeout: Some(patience), grace: SHORT, ..command(line) };
    let id = order.id;
    sandbox.guest.start(order).await.unwrap();
    let mut watch = sandbox.watch(id).await;
    let death = Death::of(&next_text(&mut watch).await);
    let (_, exit) = finish(watch).await;
    assert_eq!(exit.cause, ExitCause::TimedOut);
    death.comes().await;
    let (outputs, _) = sandbox.run("echo again").await;
    assert_eq!(text(&outputs, OutputStream::Stdout), "again\n");
    sandbox.guest.list_directory(".").await.unwrap();
}

/// Ends of children are never lost or mixed up, however many there are at once.
#[tokio::test]
async fn many_short_commands_end_as_they_should() {
    let sandbox = Sandbox::start().await;
    let codes = join_all((0..200).map(async |i| {
        let (outputs, exit) = sandbox.run(&format!("(true &); echo {i}; exit {i}")).await;
        (text(&outputs, OutputStream::Stdout), exit.exit_code)
    }));
    for (i, (said, code)) in codes.await.into_iter().enumerate() {
        assert_eq!((said, usize::try_from(code).unwrap()), (format!("{i}\n"), i));
    }
}
