//! What commands do inside a sandbox, in the few words of shell that every driver understands.

use std::{collections::BTreeMap, time::Duration};

use futures_util::StreamExt as _;

use super::{
    Subject,
    sandbox::{Sandbox, command},
};
use crate::guest::{
    CancelMode, ExitCause, Guest, OutputStream, Parents, Reason, StartCommand, Started,
    TerminationSignal, WatchItem,
};

const SECOND: Duration = Duration::from_secs(1);

/// Seqs have no gaps, both streams share them, and the exit names the last one.
pub async fn output_comes_in_order_and_then_the_exit(subject: &dyn Subject) {
    let sandbox = Sandbox::new(subject).await;
    let id = sandbox.start("echo a; sleep 0.3; echo b >&2; sleep 0.3; echo c").await;
    subject.pass(SECOND);
    let ended = sandbox.end_of(id).await;
    let pieces: Vec<_> =
        ended.output.iter().map(|piece| (piece.seq, piece.stream, piece.data.as_str())).collect();
    let (out, err) = (OutputStream::Stdout, OutputStream::Stderr);
    assert_eq!(pieces, [(1, out, "a\n"), (2, err, "b\n"), (3, out, "c\n")]);
    assert_eq!(ended.exit.last_seq, 3);
    assert_eq!(ended.exit.cause, ExitCause::Exited);
    assert_eq!(ended.exit.signal, None);
    assert!(ended.exit.started_at <= ended.output[0].at);
    assert!(ended.output[2].at - ended.output[0].at >= chrono::TimeDelta::milliseconds(500));
    assert!(ended.exit.finished_at - ended.exit.started_at >= chrono::TimeDelta::milliseconds(600));
    sandbox.remove().await;
}

/// Whatever the shell returns.
pub async fn an_exit_code_is_reported(subject: &dyn Subject) {
    let sandbox = Sandbox::new(subject).await;
    for (line, wanted) in [
        ("true", 0),
        ("false", 1),
        ("exit 42", 42),
        ("false || echo x", 0),
        ("false && echo x", 1),
        ("no-such-program", 127),
        ("cat no-such-file", 1),
    ] {
        let ended = sandbox.run(line).await;
        assert_eq!(ended.exit.cause, ExitCause::Exited, "{line}");
        assert_eq!(ended.exit.exit_code, wanted, "{line}");
    }
    let unknown = sandbox.run("no-such-program").await;
    assert!(unknown.text(OutputStream::Stderr).contains("not found"));
    assert_eq!(unknown.text(OutputStream::Stdout), "");
    sandbox.remove().await;
}

/// A second start with the same id starts nothing, also after the end.
pub async fn a_command_is_started_once(subject: &dyn Subject) {
    let sandbox = Sandbox::new(subject).await;
    let command = command("echo x >> runs");
    assert_eq!(sandbox.guest.start(command.clone()).await.unwrap(), Started::Now);
    assert_eq!(sandbox.guest.start(command.clone()).await.unwrap(), Started::Already);
    sandbox.end_of(command.id).await;
    assert_eq!(sandbox.guest.start(command).await.unwrap(), Started::Already);
    assert_eq!(sandbox.read("runs").await.unwrap(), "x\n");
    sandbox.remove().await;
}

/// By every call that needs one; forgetting it is no error.
pub async fn an_unknown_command_is_refused(subject: &dyn Subject) {
    let sandbox = Sandbox::new(subject).await;
    let (guest, id) = (&sandbox.guest, command("").id);
    let reasons = [
        guest.watch(id, 0).await.err().unwrap().reason(),
        guest.acknowledge(id, 1).await.unwrap_err().reason(),
        guest.cancel(id, CancelMode::Force, SECOND).await.unwrap_err().reason(),
    ];
    assert_eq!(reasons, [Some(Reason::UnknownCommand); 3]);
    guest.forget(id).await.unwrap();
    sandbox.remove().await;
}

/// The command's variables win.
pub async fn the_environment_is_the_sandboxs_and_the_commands(subject: &dyn Subject) {
    let sandbox = Sandbox::new(subject).await;
    assert_eq!(sandbox.printed("echo $GREETING").await, "hello from the spec\n");
    let env = [("GREETING", "mine"), ("OWN", "a b\n'c'")];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let command = StartCommand {
        env: BTreeMap::from(env),
        ..command("echo \"$GREETING\"; echo \"$OWN\"; echo \"$HOME\"")
    };
    let id = command.id;
    sandbox.guest.start(command).await.unwrap();
    let ended = sandbox.end_of(id).await;
    assert_eq!(ended.text(OutputStream::Stdout), "mine\na b\n'c'\n/home/user\n");
    assert_eq!(sandbox.printed("echo $OWN").await, "\n", "it was for that command only");
    sandbox.remove().await;
}

/// In the workspace, unless another directory in it is named.
pub async fn a_command_runs_where_it_is_told_to(subject: &dyn Subject) {
    let sandbox = Sandbox::new(subject).await;
    sandbox.guest.make_directory("a/b", Parents::Make).await.unwrap();
    sandbox.write("file", b"x").await.unwrap();
    assert_eq!(sandbox.printed("pwd").await, "/workspace\n");
    for (cwd, wanted) in [
        ("/workspace/a/b", Ok("/workspace/a/b\n")),
        ("a", Ok("/workspace/a\n")),
        ("missing", Err(Some(Reason::FileNotFound))),
        ("file", Err(Some(Reason::NotDirectory))),
        ("/tmp", Err(Some(Reason::OutsideWorkspace))),
        ("a/../../tmp", Err(Some(Reason::OutsideWorkspace))),
    ] {
        let command = StartCommand { cwd: Some(cwd.to_owned()), ..command("pwd") };
        let id = command.id;
        let ran = match sandbox.guest.start(command).await {
            Ok(_) => Ok(sandbox.end_of(id).await.text(OutputStream::Stdout)),
            Err(error) => Err(error.reason()),
        };
        assert_eq!(ran.as_deref(), wanted.as_ref().map(|path| *path), "{cwd}");
    }
    sandbox.remove().await;
}

/// SIGTERM is enough for most.
pub async fn a_graceful_cancel_terminates(subject: &dyn Subject) {
    let sandbox = Sandbox::new(subject).await;
    let id = sandbox.start("echo ready; sleep 1000; echo never").await;
    sandbox.has_printed(id).await;
    assert!(sandbox.guest.cancel(id, CancelMode::Graceful, 60 * SECOND).await.unwrap());
    let ended = sandbox.end_of(id).await;
    assert_eq!(ended.exit.cause, ExitCause::Canceled(CancelMode::Graceful));
    assert_eq!(ended.exit.signal, Some(TerminationSignal::Terminate));
    assert_eq!(ended.text(OutputStream::Stdout), "ready\n");
    sandbox.remove().await;
}

/// SIGKILL is for the rest.
pub async fn a_command_that_ignores_it_is_killed_after_the_grace(subject: &dyn Subject) {
    let sandbox = Sandbox::new(subject).await;
    let id = sandbox.start("trap '' TERM; echo ready; sleep 1000").await;
    sandbox.has_printed(id).await;
    sandbox.guest.cancel(id, CancelMode::Graceful, SECOND / 5).await.unwrap();
    subject.pass(SECOND);
    let exit = sandbox.end_of(id).await.exit;
    assert_eq!(exit.cause, ExitCause::Canceled(CancelMode::Graceful));
    assert_eq!(exit.signal, Some(TerminationSignal::Kill));
    sandbox.remove().await;
}

/// Without any grace, also when a graceful cancel came before.
pub async fn a_forced_cancel_kills_at_once(subject: &dyn Subject) {
    let sandbox = Sandbox::new(subject).await;
    let id = sandbox.start("trap '' TERM; echo ready; sleep 1000").await;
    sandbox.has_printed(id).await;
    sandbox.guest.cancel(id, CancelMode::Graceful, 1000 * SECOND).await.unwrap();
    assert!(sandbox.guest.cancel(id, CancelMode::Force, SECOND).await.unwrap());
    let exit = sandbox.end_of(id).await.exit;
    assert_eq!(exit.cause, ExitCause::Canceled(CancelMode::Force));
    assert_eq!(exit.signal, Some(TerminationSignal::Kill));
    sandbox.remove().await;
}

/// It was over before.
pub async fn canceling_an_ended_command_changes_nothing(subject: &dyn Subject) {
    let sandbox = Sandbox::new(subject).await;
    let id = sandbox.start("exit 3").await;
    let before = sandbox.end_of(id).await.exit;
    assert!(!sandbox.guest.cancel(id, CancelMode::Force, SECOND).await.unwrap());
    assert_eq!(sandbox.end_of(id).await.exit, before);
    sandbox.remove().await;
}

/// With SIGTERM first, and what was printed is kept.
pub async fn a_timeout_ends_a_command(subject: &dyn Subject) {
    let sandbox = Sandbox::new(subject).await;
    // A machine on an emulated host takes its time to print.
    let timeout = 4 * SECOND;
    let command =
        StartCommand { timeout: Some(timeout), ..command("echo early; sleep 1000; echo late") };
    let id = command.id;
    sandbox.guest.start(command).await.unwrap();
    subject.pass(2 * timeout);
    let ended = sandbox.end_of(id).await;
    assert_eq!(ended.exit.cause, ExitCause::TimedOut);
    assert_eq!(ended.exit.signal, Some(TerminationSignal::Terminate));
    assert_eq!(ended.text(OutputStream::Stdout), "early\n");
    sandbox.remove().await;
}

/// From any seq on, by several watchers, during the command and after it.
pub async fn a_watch_can_be_resumed(subject: &dyn Subject) {
    let sandbox = Sandbox::new(subject).await;
    let id = sandbox.start("echo a; sleep 0.3; echo b; sleep 0.3; echo c").await;
    subject.pass(SECOND);
    let watch = async |after_seq| {
        let items = sandbox.guest.watch(id, after_seq).await.unwrap();
        let seqs = items.map(|item| match item.unwrap() {
            WatchItem::Output(piece) => piece.seq,
            WatchItem::Exit(_) => 0,
        });
        seqs.collect::<Vec<_>>().await
    };
    let (first, second) = tokio::join!(watch(0), watch(1));
    assert_eq!((first, second), (vec![1, 2, 3, 0], vec![2, 3, 0]));
    assert_eq!(watch(2).await, [3, 0], "after its end");
    assert_eq!(watch(3).await, [0]);
    assert_eq!(watch(1000).await, [0], "a seq that was never there");
    sandbox.guest.acknowledge(id, 2).await.unwrap();
    assert_eq!(watch(2).await, [3, 0], "what is not acknowledged stays");
    sandbox.remove().await;
}

/// More than the agent holds arrives whole, in order, and only as fast as it is stored.
pub async fn output_beyond_the_buffer_waits_for_acknowledgement(subject: &dyn Subject) {
    const LINES: usize = 1_000_000;
    let sandbox = Sandbox::new(subject).await;
    let id = sandbox.start(&format!("seq {LINES}; echo done >&2")).await;
    let ended = sandbox.end_of(id).await;
    let text = ended.text(OutputStream::Stdout);
    assert!(text.len() > 6 << 20);
    assert!(text.lines().map(str::parse).eq((1..=LINES).map(Ok)), "every line, in order");
    assert!(ended.output.iter().map(|piece| piece.seq).eq(1..=ended.exit.last_seq));
    assert!(ended.output.iter().all(|piece| piece.data.len() <= 64 << 10));
    assert_eq!(ended.text(OutputStream::Stderr), "done\n");
    sandbox.remove().await;
}

/// Characters stay whole, and bytes that are none are replaced.
pub async fn text_stays_text(subject: &dyn Subject) {
    let sandbox = Sandbox::new(subject).await;
    let line = r"printf 'a\342'; sleep 0.2; printf '\202\254b\377c'; printf '\303'";
    let id = sandbox.start(line).await;
    subject.pass(SECOND);
    let text = sandbox.end_of(id).await.text(OutputStream::Stdout);
    assert_eq!(text, "a\u{20ac}b\u{fffd}c\u{fffd}");
    sandbox.remove().await;
}

/// It goes on when the connection is lost, and is found again over another one.
pub async fn a_command_outlives_its_client(subject: &dyn Subject) {
    let sandbox = Sandbox::new(subject).await;
    let guest = Guest::connect(&*sandbox.driver, sandbox.id).await.unwrap();
    let command = command("echo before; sleep 0.5; echo after; exit 7");
    let id = command.id;
    guest.start(command).await.unwrap();
    drop(guest);
    subject.pass(SECOND);
    let ended = sandbox.end_of(id).await;
    assert_eq!(ended.text(OutputStream::Stdout), "before\nafter\n");
    assert_eq!(ended.exit.exit_code, 7);
    sandbox.remove().await;
}

/// One that runs cannot.
pub async fn an_ended_command_can_be_forgotten(subject: &dyn Subject) {
    let sandbox = Sandbox::new(subject).await;
    let ended = sandbox.start("echo x").await;
    sandbox.end_of(ended).await;
    let running = sandbox.start("sleep 1000").await;
    let remembered = async || {
        let commands = sandbox.guest.list_commands().await.unwrap();
        commands.iter().map(|one| (one.id, one.running, one.last_seq)).collect::<Vec<_>>()
    };
    let mut wanted = vec![(ended, false, 1), (running, true, 0)];
    wanted.sort_unstable();
    assert_eq!(remembered().await, wanted);
    sandbox.guest.forget(ended).await.unwrap();
    sandbox.guest.forget(running).await.unwrap();
    assert_eq!(remembered().await, [(running, true, 0)]);
    sandbox.remove().await;
}

/// Dialing it says so.
pub async fn nobody_listens_on_a_port(subject: &dyn Subject) {
    let sandbox = Sandbox::new(subject).await;
    let error = sandbox.guest.dial(8000).await.err().unwrap();
    assert_eq!(error.reason(), Some(Reason::ConnectionRefused));
    sandbox.remove().await;
}
