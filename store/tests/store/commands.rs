//! Commands: rows, steps, ends.

use domain::{
    command::{CancelMode, Command, Inline, Status, TerminationSignal},
    id::CommandId,
};
use store::{Error, commands::End};

use crate::fixtures::{
    Tenant, append, at, command, err, everyone, exited, inline, on_each, out, put_command, running,
};

#[tokio::test]
async fn a_command_is_read_as_it_was_written() {
    on_each(async |db| {
        let sandbox = Tenant::new(db, "acme").await.stored(db).await;
        let mut full = command(&sandbox);
        full.timeout_ms = Some(600_000);
        full.cancel_mode = Some(CancelMode::Force);
        full.canceled_at = Some(at(8));
        full.termination_signal = Some(TerminationSignal::Sigkill);
        full.exit_code = Some(-1);
        full.background = false;
        put_command(db, &full).await;
        let commands = store::commands(everyone());
        assert_eq!(commands.get(db.read(), full.id).await.unwrap(), full);
        let mut over = command(&sandbox);
        over.status = Status::Exited;
        put_command(db, &over).await;
        let active = commands.active_of(db.read(), sandbox.id).await.unwrap();
        assert_eq!(active, [full], "only what is not over");
    })
    .await;
}

#[tokio::test]
async fn a_step_is_taken_from_where_it_starts_and_nowhere_else() {
    on_each(async |db| {
        let sandbox = Tenant::new(db, "acme").await.stored(db).await;
        let queued = Command { status: Status::Queued, started_at: None, ..command(&sandbox) };
        put_command(db, &queued).await;
        let commands = store::commands(everyone());
        let mark = async |from: &[Status], to, started| {
            commands.mark(db.write(), queued.id, from, to, started).await.unwrap()
        };
        assert!(!mark(&[Status::Starting, Status::Running], Status::Running, None).await);
        assert!(!mark(&[], Status::Running, None).await);
        assert!(mark(&[Status::Queued], Status::Starting, None).await);
        assert!(!mark(&[Status::Queued], Status::Starting, None).await);
        assert!(mark(&[Status::Queued, Status::Starting], Status::Running, Some(at(5))).await);
        assert!(mark(&[Status::Running], Status::Running, Some(at(6))).await);
        let read = commands.get(db.read(), queued.id).await.unwrap();
        assert_eq!((read.status, read.started_at), (Status::Running, Some(at(5))));
    })
    .await;
}

#[tokio::test]
async fn the_first_end_wins() {
    on_each(async |db| {
        let command = running(db).await;
        let commands = store::commands(everyone());
        let first = End {
            status: Status::Canceled,
            exit_code: None,
            started_at: Some(at(4)),
            cancel_mode: Some(CancelMode::Graceful),
            canceled_at: Some(at(8)),
            termination_signal: Some(TerminationSignal::Sigterm),
            stderr: Inline { text: "bye".to_owned(), truncated: true },
            ..exited("hello")
        };
        let tx = db.begin().await.unwrap();
        assert!(commands.finish(&tx, command.id, &first).await.unwrap());
        assert!(!commands.finish(&tx, command.id, &exited("late")).await.unwrap());
        tx.commit().await.unwrap();
        let wanted = Command {
            status: Status::Canceled,
            finished_at: Some(at(9)),
            cancel_mode: Some(CancelMode::Graceful),
            canceled_at: Some(at(8)),
            termination_signal: Some(TerminationSignal::Sigterm),
            stdout: Some(inline("hello")),
            stderr: Some(first.stderr.clone()),
            started_at: Some(at(4)), // by the clock of the end, not by that of whoever saw it start
            ..command
        };
        assert_eq!(commands.get(db.read(), wanted.id).await.unwrap(), wanted);
        assert!(!append(db, &wanted, &[out(1, "late")]).await, "nothing is logged after the end");
        assert_eq!(commands.logs(db.read(), wanted.id, 0, 10).await.unwrap(), []);
        let heads = commands.heads(db.read(), wanted.id).await.unwrap();
        assert_eq!(heads, (inline("hello"), first.stderr));
    })
    .await;
}

#[tokio::test]
async fn an_end_is_an_end() {
    on_each(async |db| {
        let command = running(db).await;
        let tx = db.begin().await.unwrap();
        let end = End { status: Status::Running, ..exited("") };
        let finished = store::commands(everyone()).finish(&tx, command.id, &end).await;
        assert!(matches!(finished, Err(Error::Corrupt(_))));
        let from = [Status::Running];
        let commands = store::commands(everyone());
        let marked = commands.mark(&tx, command.id, &from, Status::Exited, None).await;
        assert!(matches!(marked, Err(Error::Corrupt(_))));
    })
    .await;
}

#[tokio::test]
async fn only_one_of_many_ends_at_once_is_stored() {
    on_each(async |db| {
        let command = running(db).await;
        let finish = async |status| {
            let tx = db.begin().await.unwrap();
            let end = End { status, ..exited(status.as_str()) };
            let won = store::commands(everyone()).finish(&tx, command.id, &end).await.unwrap();
            tx.commit().await.unwrap();
            won
        };
        let ends = [Status::Exited, Status::Failed, Status::TimedOut, Status::Killed].map(finish);
        let won = futures_util::future::join_all(ends).await;
        assert_eq!(won.iter().filter(|won| **won).count(), 1);
        let read = store::commands(everyone()).get(db.read(), command.id).await.unwrap();
        assert_eq!(
            read.stdout,
            Some(inline(read.status.as_str())),
            "status and output go together"
        );
    })
    .await;
}

#[tokio::test]
async fn only_what_nobody_starts_is_canceled_in_the_queue() {
    on_each(async |db| {
        let running = running(db).await;
        let id = CommandId::generate(at(2));
        let queued = Command { id, status: Status::Queued, started_at: None, ..running.clone() };
        put_command(db, &queued).await;
        let commands = store::commands(everyone());
        let tx = db.begin().await.unwrap();
        let force = CancelMode::Force;
        assert!(!commands.cancel_queued(&tx, running.id, force, at(7)).await.unwrap());
        assert!(commands.cancel_queued(&tx, queued.id, force, at(7)).await.unwrap());
        tx.commit().await.unwrap();
        let read = commands.get(db.read(), queued.id).await.unwrap();
        assert_eq!((read.status, read.cancel_mode), (Status::Canceled, Some(force)));
        assert_eq!((read.canceled_at, read.finished_at), (Some(at(7)), Some(at(7))));
        assert_eq!((read.stdout, read.stderr), (Some(inline("")), Some(inline(""))));
    })
    .await;
}

#[tokio::test]
async fn a_sandbox_takes_its_commands_with_it() {
    on_each(async |db| {
        let running = running(db).await;
        append(db, &running, &[out(1, "one "), err(2, "oops"), out(3, "two")]).await;
        let late =
            Command { id: CommandId::generate(at(2)), started_at: Some(at(50)), ..running.clone() };
        put_command(db, &late).await;
        let mut over = running.clone();
        over.id = CommandId::generate(at(2));
        over.status = Status::Exited;
        put_command(db, &over).await;
        let commands = store::commands(everyone());
        let tx = db.begin().await.unwrap();
        let killed = commands.kill_of_sandbox(&tx, running.sandbox_id, at(20)).await.unwrap();
        let again = commands.kill_of_sandbox(&tx, running.sandbox_id, at(21)).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(again, []);
        let wanted = |id, finished, stdout: &str, stderr: &str| {
            (id, Status::Killed, Some(at(finished)), Some(inline(stdout)), Some(inline(stderr)))
        };
        let got = killed.iter().map(|command| {
            let (stdout, stderr) = (command.stdout.clone(), command.stderr.clone());
            (command.id, command.status, command.finished_at, stdout, stderr)
        });
        let mut got: Vec<_> = got.collect();
        got.sort_by_key(|(id, ..)| *id != running.id);
        assert_eq!(
            got,
            [
                wanted(running.id, 20, "one two", "oops"),
                wanted(late.id, 50, "", ""), // never before it started
            ]
        );
        for command in &killed {
            assert_eq!(commands.get(db.read(), command.id).await.unwrap(), *command);
        }
        let kept = commands.get(db.read(), over.id).await.unwrap();
        assert_eq!(kept.status, Status::Exited);
    })
    .await;
}
