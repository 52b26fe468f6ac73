//! Events a second: an outbox that is full, emptied by the relay of a server.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use api::clock::{Clock, SystemClock};
use domain::id::SandboxId;
use store::{Everyone, outbox::NewEvent};
use tests::serving::Installation;

use super::{
    EXCHANGE, QUEUE, Stage,
    bare::{Bare, Sample},
    empty, usage,
};
use crate::table::Table;

const ROUNDS: usize = 5;
const SUBJECTS: u32 = 1_000;
const EACH: i64 = 20;
const EVENTS: usize = 20_000;
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// An outbox that is not empty after this never will be.
const PATIENCE: Duration = Duration::from_secs(300);

pub async fn measure(
    table: &mut Table,
    programs: &Path,
    stage: &Stage,
    folder: &Path,
) -> Result<()> {
    let folder = folder.join("events");
    std::fs::create_dir_all(&folder)?;
    let settings = vec![
        ("CROWNEST_DRIVER", "simulated".to_owned()),
        ("CROWNEST_DATABASE_URL", stage.database_url.clone()),
        ("CROWNEST_HOST", "bench".to_owned()),
        ("CROWNEST_AMQP_URL", stage.amqp_url.clone()),
        ("CROWNEST_AMQP_EXCHANGE", EXCHANGE.to_owned()),
        ("CROWNEST_AMQP_QUEUE", QUEUE.to_owned()),
    ];
    let installation = Installation::new(programs, &folder, settings);
    // Declares the queue and publishes what making the organization told of.
    relayed(stage, &installation).await?;
    let connection = stage.connect().await?;
    let channel = connection.create_channel().await?;
    let mut sizes = 0;
    for _ in 0..ROUNDS {
        empty(&channel).await?;
        fill(stage).await?;
        let (n, took) = relayed(stage, &installation).await?;
        let here = f64::from(n) / took.as_secs_f64();
        let sample = Sample::take(&channel).await?.context("a message")?;
        sizes = sample.body.len();
        let came = empty(&channel).await?;
        ensure!(usize::try_from(came)? == EVENTS - 1, "{came} and one came of {EVENTS}");

        let bare = Bare::new(stage, sample).await?;
        let begin = Instant::now();
        bare.publish_all(EVENTS).await?;
        let there = f64::from(u32::try_from(EVENTS)?) / begin.elapsed().as_secs_f64();
        let (what, against) =
            ("events through the relay", "bare publisher, 100 confirms in flight");
        table.add(what, against, "1/s", EVENTS, (here, there));
    }
    empty(&channel).await?;
    table.note(format!("events: persistent, to a quorum queue of one node, {sizes} bytes of data"));
    Ok(())
}

/// Events as of a tick of many sandboxes, again and again.
async fn fill(stage: &Stage) -> Result<()> {
    let now = SystemClock.now();
    let sandboxes: Vec<_> = (0..SUBJECTS).map(|_| SandboxId::generate(now)).collect();
    for round in 0..EACH {
        let events = sandboxes.iter().map(|sandbox| {
            let payload = usage(round, *sandbox, now);
            Ok(NewEvent {
                id: domain::id::EventId::generate(now),
                org: stage.org,
                subject: sandbox.to_string(),
                spread: sandbox.uuid().into_bytes()[15],
                kind: payload.kind(),
                data: payload.json()?,
                trace_parent: None,
                occurred_at: now,
            })
        });
        let events: Vec<_> = events.collect::<Result<_>>()?;
        let tx = stage.db.begin().await?;
        store::outbox(Everyone::for_worker("bench")).append(&tx, &events, now).await?;
        tx.commit().await?;
    }
    tests::tables::execute(&stage.db, "vacuum analyze outbox_events").await;
    Ok(())
}

/// Runs a server until its outbox is empty: how many events it published from the first that is seen
/// to be, and how long that took.
async fn relayed(stage: &Stage, installation: &Installation) -> Result<(u32, Duration)> {
    let waiting = async || -> Result<u32> {
        let sql = "select count(*) from outbox_events where published_at is null";
        Ok(u32::try_from(tests::tables::number(&stage.db, sql).await)?)
    };
    let all = waiting().await?;
    let deadline = Instant::now() + PATIENCE;
    let server = installation.start()?;
    let mut first = None;
    let measured = loop {
        let (now, left) = (Instant::now(), waiting().await?);
        if left < all && first.is_none() {
            first = Some((now, left));
        }
        if let Some((begin, left_then)) = first
            && left == 0
        {
            break (left_then, begin.elapsed());
        }
        ensure!(now < deadline, "{left} of {all} events wait");
        tokio::time::sleep(LOOK_AGAIN).await;
    };
    server.stop().await?;
    Ok(measured)
}
