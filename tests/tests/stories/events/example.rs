//! The example for billing pipelines, `examples/usage_by_organization`, against a real broker: its sums
//! of a day are those of the platform's books, to the last unit, whatever comes twice.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use rust_decimal::Decimal;
use tests::{Database, Value, World, json, operator::says, program::done, run::skipped, stories};
use tokio::process::Command;

use super::mailbox;

stories![the_example_sums_a_day_as_the_books_do];

/// Kills itself between the commit of the 9th message and its acknowledgement.
const DIES: &str = "
import os, signal, sys, usage
from pika.adapters.blocking_connection import BlockingChannel
acknowledge, left = BlockingChannel.basic_ack, [9]
def die(*arguments):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    acknowledge(*arguments)
BlockingChannel.basic_ack = die
usage.main()
";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn folder() -> PathBuf {
    root().join("examples/usage_by_organization")
}

/// A Python that has what the example names; none, and said so, where it cannot be had.
async fn python() -> Option<PathBuf> {
    let mut venv = Command::new(root().join("scripts/venv"));
    venv.arg(folder().join("requirements.txt"));
    let made = venv.output().await.unwrap();
    if made.status.code() == Some(77) {
        skipped("example", "its requirements could not be installed");
        return None;
    }
    assert!(made.status.success(), "{made:?}");
    Some(Path::new(String::from_utf8(made.stdout).unwrap().trim()).join("bin/python"))
}

/// Quantity and credits by organization and metric.
type Sums = BTreeMap<(String, String), (Decimal, Decimal)>;

/// What the books say of an organization's day.
async fn booked(world: &World, name: &str, org: &str, day: [&str; 2]) -> Sums {
    let [from, until] = day;
    let line = format!("windows --organization {name} --from {from} --until {until}");
    let mut sums = Sums::new();
    for window in says(world, &line).await.is_done().lines() {
        let window: Value = window.parse().unwrap();
        let text = |name: &str| window[name].as_str().unwrap();
        let number = |name: &str| text(name).parse::<Decimal>().unwrap();
        let sum = sums.entry((org.to_owned(), text("metric").to_owned())).or_default();
        sum.0 += number("quantity");
        sum.1 += number("credits");
    }
    sums
}

/// What the example says.
fn printed(out: &str, day: &str) -> Sums {
    let line = |line: &str| {
        let fields: Vec<_> = line.split('\t').collect();
        let [at, org, metric, quantity, credits] = fields[..] else { panic!("{line:?}") };
        assert_eq!(at, day);
        let key = (org.to_owned(), metric.to_owned());
        (key, (quantity.parse().unwrap(), credits.parse().unwrap()))
    };
    out.lines().map(line).collect()
}

async fn the_example_sums_a_day_as_the_books_do(database: Database) {
    let mut mailbox = mailbox!();
    let Some(python) = python().await else { return };
    mailbox.declares().await;
    let queue = mailbox.adds_queue().await;
    let world = World::on(database).at("2031-03-10T23:50:00Z").with(mailbox.settings()).await;
    let (acme, rival) = (world.team("acme").await, world.team("rival").await);
    let first = acme.starts(json!({})).await;
    acme.starts(json!({})).await;
    acme.runs(&first, "true").await;
    let theirs = rival.starts(json!({})).await;
    world.advance("7m").await;
    rival.kills(&theirs).await;
    acme.runs(&first, "true").await;
    // Over midnight: what comes then is another day's.
    world.advance("8m").await;
    let correct = format!(
        "correct --organization acme --sandbox {first} --start 2031-03-10T23:52:00Z --quantity 17 \
         --reason 'a window that was wrong'"
    );
    let _ = says(&world, &correct).await.is_done();
    mailbox.has_everything(&world).await;

    let file = std::env::temp_dir().join(format!(
        "crownest-example-{}-{}.db",
        std::process::id(),
        database.name()
    ));
    let url = mailbox.url.clone();
    let run = |start: &[&str], arguments: &[&str]| {
        let mut command = Command::new(&python);
        command.arg("-B").args(start).arg("--database").arg(&file).args(arguments);
        command.env("PYTHONPATH", folder()).env("CROWNEST_AMQP_URL", &url);
        done(command)
    };
    let program = folder().join("usage.py");
    let program = [program.to_str().unwrap()];
    let consume = ["consume", "--queue", &*queue, "--until-idle", "1"];

    let (code, _, told) = run(&["-c", DIES], &consume).await;
    assert_eq!(code, None, "a signal ended it: {told}");
    let repeats = mailbox.messages.clone();
    mailbox.repeats(&repeats).await;
    let empties = async || {
        let (code, _, told) = run(&program, &consume).await;
        assert_eq!((code, &*told), (Some(0), ""));
        (mailbox.n_waiting_in(&queue).await == 0).then_some(())
    };
    world.until("an empty queue", empties).await;

    for day in [["2031-03-10", "2031-03-11"], ["2031-03-11", "2031-03-12"]] {
        let mut wanted = booked(&world, "acme", &acme.org_id, day).await;
        wanted.extend(booked(&world, "rival", &rival.org_id, day).await);
        let (code, out, told) = run(&program, &["sums", day[0]]).await;
        assert_eq!((code, &*told), (Some(0), ""));
        assert_eq!(printed(&out, day[0]), wanted);
        assert!(!wanted.is_empty());
    }
    for name in ["", "-wal", "-shm"] {
        std::fs::remove_file(format!("{}{name}", file.display())).ok();
    }
    world.close().await;
    mailbox.deletes(&queue).await;
    mailbox.close().await;
}
