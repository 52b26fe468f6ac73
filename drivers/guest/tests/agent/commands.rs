//! Commands that end by themselves: output, watching, starting once, limits.

use std::{collections::BTreeMap, time::Duration};

use drivers::guest::{
    CancelMode, ExitCause, GuestErrorKind, OutputStream, Reason, Started, WatchItem,
};
use futures_util::{StreamExt as _, future::join_all};
use tokio::time::timeout;

use crate::fixture::{Sandbox, command, finish, next, next_text, refused, text};

#[tokio::test]
async fn output_is_one_sequence_over_both_streams() {
    let sandbox = Sandbox::start().await;
    let line =
        "mkfifo go1 go2; echo one; read _ < go1; echo two >&2; read _ < go2; echo three; exit 3";
    let id = sandbox.start_line(line).await;
    let mut watch = sandbox.watch(id).await;
    let mut seen = Vec::new();
    for i in 1..=2 {
        let WatchItem::Output(output) = next(&mut watch).await else { panic!("ended early") };
        seen.push((output.seq, output.stream, output.data));
        sandbox.run(&format!("echo > go{i}")).await;
    }
    let (rest, exit) = finish(watch).await;
    seen.extend(rest.into_iter().map(|output| (output.seq, output.stream, output.data)));
    let wanted = [
        (1, OutputStream::Stdout, "one\n".to_owned()),
        (2, OutputStream::Stderr, "two\n".to_owned()),
        (3, OutputStream::Stdout, "three\n".to_owned()),
    ];
    assert_eq!(seen, wanted);
    assert_eq!((exit.cause, exit.exit_code, exit.last_seq), (ExitCause::Exited, 3, 3));
    assert_eq!(exit.signal, None);
}

#[tokio::test]
async fn characters_are_never_split() {
    let sandbox = Sandbox::start().await;
    // The first byte is in the pipe when stderr says so; the rest follows when told to.
    let line = r"mkfifo go; printf '\xe6'; echo waiting >&2; read _ < go; printf '\xbc\xa2'";
    let id = sandbox.start_line(line).await;
    let mut watch = sandbox.watch(id).await;
    assert_eq!(next_text(&mut watch).await, "waiting\n");
    sandbox.run("echo > go").await;
    let (outputs, _) = finish(watch).await;
    assert_eq!(text(&outputs, OutputStream::Stdout), "漢");

    for (line, wanted, why) in [
        (r"printf 'a\xff\xfeb'", "a\u{fffd}\u{fffd}b", "invalid bytes"),
        (r"printf 'end\xf0\x9f'", "end\u{fffd}", "incomplete at the end"),
        (r"printf '\xe6'; printf '\xc3\xa9' >&2; exec >&-", "\u{fffd}", "streams do not mix"),
    ] {
        let (outputs, _) = sandbox.run(line).await;
        assert_eq!(text(&outputs, OutputStream::Stdout), wanted, "{why}");
    }
}

/// 20 MiB with nobody acknowledging stop at the buffer; with acknowledgement all of them arrive.
#[tokio::test]
async fn unacknowledged_output_holds_the_command_back() {
    const TOTAL: usize = 20 << 20;
    const BUFFER: usize = 4 << 20;
    let sandbox = Sandbox::start().await;
    let id = sandbox.start_line(&format!("head -c {TOTAL} /dev/zero | tr '\\0' x")).await;
    let mut watch = sandbox.watch(id).await;
    let (mut n_bytes, mut last_seq) = (0, 0);
    // More must not come; a wrong agent sends it long before this.
    while let Ok(Some(item)) = timeout(Duration::from_millis(500), watch.next()).await {
        let WatchItem::Output(output) = item.unwrap() else { panic!("ended early") };
        n_bytes += output.data.len();
        last_seq = output.seq;
    }
    assert!((BUFFER / 2..=BUFFER + (64 << 10)).contains(&n_bytes), "{n_bytes} bytes");
    loop {
        sandbox.guest.acknowledge(id, last_seq).await.unwrap();
        match next(&mut watch).await {
            WatchItem::Output(output) => {
                assert_eq!(output.seq, last_seq + 1);
                assert!(output.data.len() <= 64 << 10);
                n_bytes += output.data.len();
                last_seq = output.seq;
            }
            WatchItem::Exit(exit) => {
                assert_eq!((exit.last_seq, exit.exit_code), (last_seq, 0));
                break;
            }
        }
    }
    assert_eq!(n_bytes, TOTAL);
}

#[tokio::test]
async fn a_watch_resumes_where_it_was_and_several_may_watch() {
    let sandbox = Sandbox::start().await;
    let line = "mkfifo go1 go2 go3 go4; for i in 1 2 3 4; do echo $i; read _ < go$i; done";
    let id = sandbox.start_line(line).await;
    let (mut early, mut other) = (sandbox.watch(id).await, sandbox.watch(id).await);
    for i in 1..=2 {
        assert_eq!(next_text(&mut early).await, format!("{i}\n"));
        assert_eq!(next_text(&mut other).await, format!("{i}\n"));
        sandbox.run(&format!("echo > go{i}")).await;
    }
    drop(early);
    let mut resumed = sandbox.guest.watch(id, 2).await.unwrap();
    for i in 3..=4 {
        assert_eq!(next_text(&mut resumed).await, format!("{i}\n"));
        sandbox.run(&format!("echo > go{i}")).await;
    }
    let ((rest, resumed), (outputs, other)) = tokio::join!(finish(resumed), finish(other));
    assert!(rest.is_empty());
    assert_eq!(text(&outputs, OutputStream::Stdout), "3\n4\n");
    assert_eq!(resumed, other);

    // What nobody has cannot be acknowledged.
    let unseen = sandbox.start_line("echo unseen; echo done > written").await;
    while sandbox.guest.stat("written").await.is_err() {}
    sandbox.guest.acknowledge(unseen, u64::MAX).await.unwrap();
    let (outputs, _) = finish(sandbox.watch(unseen).await).await;
    assert_eq!(text(&outputs, OutputStream::Stdout), "unseen\n");

    // What is acknowledged is gone; what is not can be read again, as can the exit.
    sandbox.guest.acknowledge(id, 3).await.unwrap();
    for after_seq in [0, 3] {
        let again = finish(sandbox.guest.watch(id, after_seq).await.unwrap()).await;
        assert_eq!(text(&again.0, OutputStream::Stdout), "4\n");
    }
    for after_seq in [4, u64::MAX] {
        let again = finish(sandbox.guest.watch(id, after_seq).await.unwrap()).await;
        assert!(again.0.is_empty());
    }
}

#[tokio::test]
async fn a_command_is_started_once() {
    let sandbox = Sandbox::start().await;
    let order = command("echo ran >> log");
    let starts = join_all((0..8).map(|_| sandbox.guest.start(order.clone()))).await;
    let n_now = starts.into_iter().filter(|it| *it.as_ref().unwrap() == Started::Now).count();
    assert_eq!(n_now, 1);
    finish(sandbox.watch(order.id).await).await;
    assert_eq!(sandbox.guest.start(order.clone()).await.unwrap(), Started::Already);
    assert_eq!(sandbox.read("log").await.unwrap(), "ran\n");

    let listed = sandbox.guest.list_commands().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].id, listed[0].running, listed[0].last_seq), (order.id, false, 0));
    sandbox.guest.forget(order.id).await.unwrap();
    assert!(sandbox.guest.list_commands().await.unwrap().is_empty());
    refused(sandbox.guest.watch(order.id, 0).await.map(drop), Reason::UnknownCommand, "forgotten");
    refused(sandbox.guest.acknowledge(order.id, 1).await, Reason::UnknownCommand, "forgotten");
    let canceled = sandbox.guest.cancel(order.id, CancelMode::Force, Duration::ZERO).await;
    refused(canceled, Reason::UnknownCommand, "forgotten");
    sandbox.guest.forget(order.id).await.unwrap();
}

#[tokio::test]
async fn a_command_outlives_its_client() {
    let sandbox = Sandbox::start().await;
    let first = sandbox.another_guest().await;
    let order = command("mkfifo go; echo before; read _ < go; echo after");
    first.start(order.clone()).await.unwrap();
    let mut watch = first.watch(order.id, 0).await.unwrap();
    assert_eq!(next_text(&mut watch).await, "before\n");
    drop((first, watch));
    // Running commands cannot be forgotten.
    sandbox.guest.forget(order.id).await.unwrap();
    sandbox.run("echo > go").await;
    let (outputs, _) = finish(sandbox.watch(order.id).await).await;
    assert_eq!(text(&outputs, OutputStream::Stdout), "before\nafter\n");
}

#[tokio::test]
async fn environment_and_directory_are_as_ordered() {
    let sandbox = Sandbox::start().await;
    sandbox.run("mkdir -p app; touch file; ln -s app link; ln -s / out").await;
    let mut order =
        command("echo $FROM_AGENT $HOME $MINE; basename \"$PWD\"; cat; ls /proc/self/fd");
    order.cwd = Some("/workspace/link".to_owned());
    order.env =
        BTreeMap::from([("MINE".to_owned(), "a b".to_owned()), ("HOME".into(), "/h".into())]);
    sandbox.guest.start(order.clone()).await.unwrap();
    let (outputs, exit) = finish(sandbox.watch(order.id).await).await;
    // Standard input is empty, and of the agent's descriptors none is there: 3 is that of `ls`.
    let wanted = "inherited /h a b\napp\n0\n1\n2\n3\n";
    assert_eq!(text(&outputs, OutputStream::Stdout), wanted);
    assert_eq!(exit.exit_code, 0);

    for (cwd, reason) in [
        ("missing", Reason::FileNotFound),
        ("missing/deeper", Reason::FileNotFound),
        ("file", Reason::NotDirectory),
        ("out", Reason::OutsideWorkspace),
        ("..", Reason::OutsideWorkspace),
        ("/etc", Reason::OutsideWorkspace),
    ] {
        let order = drivers::guest::StartCommand { cwd: Some(cwd.to_owned()), ..command("true") };
        let id = order.id;
        refused(sandbox.guest.start(order).await, reason, cwd);
        refused(sandbox.guest.watch(id, 0).await.map(drop), Reason::UnknownCommand, cwd);
    }
}

#[tokio::test]
async fn what_cannot_be_started_says_so() {
    let sandbox = Sandbox::start().await;
    // The kernel takes no single argument of 128 KiB or more.
    let id = sandbox.start_line(&format!("echo {}", "x".repeat(140 << 10))).await;
    let (outputs, exit) = finish(sandbox.watch(id).await).await;
    assert!(outputs.is_empty());
    assert!(matches!(exit.cause, ExitCause::FailedToStart(_)), "{exit:?}");

    let mut order = command("true");
    order.env.insert("A=B".to_owned(), String::new());
    let error = sandbox.guest.start(order).await.unwrap_err();
    assert_eq!(error.kind, GuestErrorKind::Protocol);
    let error = sandbox.guest.start(command("echo \0")).await.unwrap_err();
    assert_eq!(error.kind, GuestErrorKind::Protocol);

    // Neither harms the agent.
    assert_eq!(sandbox.run("exit 7").await.1.exit_code, 7);
    assert_eq!(sandbox.run("no-such-program").await.1.exit_code, 127);
    assert_eq!(sandbox.run("kill -9 $$").await.1.exit_code, 137);
}

#[tokio::test]
async fn running_commands_are_limited() {
    let sandbox = Sandbox::start().await;
    let orders: Vec<_> = (0..256).map(|_| command("exec sleep 1000")).collect();
    for started in join_all(orders.iter().map(|it| sandbox.guest.start(it.clone()))).await {
        assert_eq!(started.unwrap(), Started::Now);
    }
    let one_more = command("echo fits");
    refused(sandbox.guest.start(one_more.clone()).await, Reason::TooManyCommands, "the 257th");
    let first = orders[0].id;
    sandbox.guest.cancel(first, CancelMode::Force, Duration::ZERO).await.unwrap();
    finish(sandbox.watch(first).await).await;
    assert_eq!(sandbox.guest.start(one_more).await.unwrap(), Started::Now);
}
