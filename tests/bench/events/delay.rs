//! From a commit to a consumer: a relay in the process that writes events, as in a server, at a steady
//! rate; against a bare publisher at the same rate, whose delay is the broker's own.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use api::{
    app::{
        App,
        events::{Event, Subject, emit},
    },
    bus::Nudge,
    clock::{Clock, SystemClock},
    config::Config,
};
use domain::id::SandboxId;
use drivers::simulated::Simulated;
use futures_util::{StreamExt, future::join_all};
use lapin::options::BasicConsumeOptions;
use tokio::{
    task::JoinHandle,
    time::{Instant, interval, timeout},
};

use super::{
    EXCHANGE, QUEUE, Stage,
    bare::{Bare, Sample},
    empty, usage,
};
use crate::{
    http::quantile,
    table::{Table, millis},
};

const ROUNDS: usize = 3;
/// Events of a transaction, and how often there is one: 500 a second.
const BATCH: usize = 10;
const EVERY: Duration = Duration::from_millis(20);
const BATCHES: usize = 500;
const SANDBOXES: usize = 1_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// Median and 99th percentile, of us and the baseline.
pub type Delays = Vec<[(Duration, Duration); 2]>;

pub async fn measure(stage: &Stage) -> Result<Delays> {
    let config = Config {
        amqp_url: Some(stage.amqp_url.clone()),
        amqp_exchange: EXCHANGE.to_owned(),
        amqp_queue: QUEUE.to_owned(),
        ..Config::default()
    };
    let driver = Arc::new(Simulated::default());
    let app = App::new(config, stage.db.clone(), driver, Arc::new(SystemClock));
    let relay = tokio::spawn(api::work::relay::run(Arc::clone(&app)));
    let mut delays = Vec::new();
    for _ in 0..ROUNDS {
        delays.push(round(stage, &app).await?);
    }
    relay.abort();
    Ok(delays)
}

pub fn report(table: &mut Table, delays: &Delays) {
    for [here, there] in delays {
        let against = "bare publisher at 500/s, send to receipt";
        let mut add = |what, pair| table.add(what, against, "ms", BATCH * BATCHES, pair);
        add("commit to receipt at 500/s: median", (millis(here.0), millis(there.0)));
        add("commit to receipt at 500/s: p99", (millis(here.1), millis(there.1)));
    }
}

/// When each message was sent.
type Sent = Arc<Mutex<Vec<Option<Instant>>>>;

async fn round(stage: &Stage, app: &Arc<App>) -> Result<[(Duration, Duration); 2]> {
    let sandboxes: Vec<_> =
        (0..SANDBOXES).map(|_| SandboxId::generate(SystemClock.now())).collect();
    // Once before, so that every part is warm, and for a sample.
    write(stage, app, &sandboxes, 0).await?;
    let connection = stage.connect().await?;
    let channel = connection.create_channel().await?;
    let sample = async {
        loop {
            match Sample::take(&channel).await? {
                Some(sample) => return Ok::<_, anyhow::Error>(sample),
                None => tokio::time::sleep(EVERY).await,
            }
        }
    };
    let sample = timeout(PATIENCE, sample).await.context("a sample")??;
    tokio::time::sleep(Duration::from_secs(1)).await;
    empty(&channel).await?;

    let (sent, received) = consume(stage).await?;
    let mut pace = interval(EVERY);
    for batch in 0..BATCHES {
        pace.tick().await;
        write(stage, app, &sandboxes, batch).await?;
        note(&sent, batch);
    }
    let here = received.await??;

    let bare = Bare::new(stage, sample).await?;
    let (sent, received) = consume(stage).await?;
    let mut pace = interval(EVERY);
    for batch in 0..BATCHES {
        pace.tick().await;
        note(&sent, batch);
        let bodies = (0..BATCH).map(|n| {
            let payload = usage(number(batch, n), sandboxes[n], SystemClock.now());
            Ok(payload.json()?)
        });
        let bodies: Vec<String> = bodies.collect::<Result<_>>()?;
        let all = join_all(bodies.iter().map(|body| bare.publish(body.as_bytes()))).await;
        all.into_iter().collect::<Result<()>>()?;
    }
    Ok([here, received.await??])
}

fn number(batch: usize, n: usize) -> i64 {
    i64::try_from(batch * BATCH + n).unwrap_or(i64::MAX)
}

fn note(sent: &Sent, batch: usize) {
    let now = Instant::now();
    let mut sent = sent.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    sent[batch * BATCH..][..BATCH].fill(Some(now));
}

/// What a server does: a transaction that ends with its events, then a nudge.
async fn write(stage: &Stage, app: &App, sandboxes: &[SandboxId], batch: usize) -> Result<()> {
    let now = SystemClock.now();
    let events = (0..BATCH).map(|n| {
        let sandbox = sandboxes[(batch * BATCH + n) % SANDBOXES];
        let payload = usage(number(batch, n), sandbox, now);
        Event { org: stage.org, subject: Subject::of(sandbox), payload, at: now }
    });
    let events: Vec<_> = events.collect();
    let tx = stage.db.begin().await?;
    emit(&tx, &events, now).await?;
    tx.commit().await?;
    app.bus.publish(Nudge::Billing);
    Ok(())
}

/// Starts a consumer that gets every message and says how long they took.
async fn consume(stage: &Stage) -> Result<(Sent, JoinHandle<Result<(Duration, Duration)>>)> {
    let sent: Sent = Arc::new(Mutex::new(vec![None; BATCH * BATCHES]));
    let times = Arc::clone(&sent);
    let connection = stage.connect().await?;
    let channel = connection.create_channel().await?;
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let none = lapin::types::FieldTable::default();
    let mut consumer = channel.basic_consume(QUEUE.into(), "".into(), options, none).await?;
    let receiving = tokio::spawn(async move {
        let mut received = vec![None; BATCH * BATCHES];
        let mut left = received.len();
        while left > 0 {
            let next = timeout(PATIENCE, consumer.next()).await.context("a message in time")?;
            let delivery = next.context("the broker went away")??;
            let now = Instant::now();
            let data: serde_json::Value = serde_json::from_slice(&delivery.data)?;
            let number = data["part"].as_i64().and_then(|n| usize::try_from(n).ok());
            let place = received.get_mut(number.context("a number")?).context("a known number")?;
            ensure!(place.replace(now).is_none(), "a message came twice");
            left -= 1;
        }
        connection.close(200, "measured".into()).await?;
        let sent = times.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let mut delays = Vec::new();
        for (sent, received) in sent.into_iter().zip(received) {
            // A message may overtake the note of its commit.
            let (sent, received) = (sent.context("a time")?, received.context("a time")?);
            delays.push(received.saturating_duration_since(sent));
        }
        delays.sort_unstable();
        Ok((quantile(&delays, 0.5), quantile(&delays, 0.99)))
    });
    Ok((sent, receiving))
}
