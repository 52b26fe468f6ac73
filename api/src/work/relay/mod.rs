//! Publishes the outbox to an AMQP broker: at least once, in order per subject, and marked only when the
//! broker has confirmed. Without a broker configured it does nothing, and events stay where they are.
//!
//! A relay leases partitions, publishes what waits in them with many confirms in flight but only one per
//! subject, marks what was confirmed in one statement, and gives the partitions back. Any number of
//! relays may run; a relay that dies is replaced when its leases end.

mod batch;
mod broker;
mod message;

use std::{sync::Arc, time::Duration};

use rand::RngExt;
use store::Everyone;
use tokio::time::Instant;

use crate::app::{App, error::Result};
use batch::Batch;
use broker::Broker;

/// Looked for again after this even without a nudge: other processes write events, too. The shorter
/// one comes after something was found, for where one was there are more; it doubles up to the longer.
const SHORTEST_PAUSE: Duration = Duration::from_millis(4);
const LONGEST_PAUSE: Duration = Duration::from_millis(256);
/// After an event that no queue takes.
const UNROUTABLE_PAUSE: Duration = Duration::from_secs(1);
/// Partitions that one relay takes at a time.
const PARTITIONS: u32 = 16;
/// Events that are read and marked at a time.
const BATCH: u32 = 1_000;
/// A round begins nothing new after this.
const ROUND: Duration = Duration::from_secs(10);
/// A relay that died is replaced after this; longer than a round and its last confirm.
const LEASE: Duration = Duration::from_secs(40);
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
const LONGEST_BACKOFF: Duration = Duration::from_secs(15);

/// Relays for ever, if a broker is configured.
pub async fn run(app: Arc<App>) {
    let Some(url) = app.config.amqp_url.clone() else {
        return;
    };
    let owner = format!("{}:{}", app.config.host, uuid::Uuid::new_v4().simple());
    let mut backoff = FIRST_BACKOFF;
    let mut told = false;
    let metrics = &app.metrics.publisher;
    loop {
        match Broker::connect(&app.config, &url, metrics.clone()).await {
            Ok(broker) => {
                metrics.connected.set(1);
                tracing::info!("connected to the broker");
                (backoff, told) = (FIRST_BACKOFF, false);
                let error = relay(&app, &owner, &broker).await;
                metrics.connected.set(0);
                tracing::warn!(%error, "the broker is lost; connecting again");
                broker.close().await;
            }
            Err(error) => {
                if !told {
                    tracing::warn!(%error, "no connection to the broker; trying again");
                }
                told = true;
            }
        }
        metrics.connection_failures.increment(1);
        // With jitter, so that many servers do not come back at the same moment.
        let millis = u64::try_from(backoff.as_millis()).unwrap_or(u64::MAX);
        let jitter = rand::rng().random_range(millis / 2..=millis);
        tokio::time::sleep(Duration::from_millis(jitter)).await;
        backoff = (backoff * 2).min(LONGEST_BACKOFF);
    }
}

/// Relays until the broker fails; a database that fails is waited for.
async fn relay(app: &Arc<App>, owner: &str, broker: &Broker) -> broker::Error {
    let mut nudges = app.bus.subscribe();
    let mut turn = Turn { last: -1, is_complete: true };
    let mut database_told = false;
    let mut pause = LONGEST_PAUSE;
    loop {
        let mut waiting = std::mem::replace(&mut nudges, app.bus.subscribe());
        match round(app, owner, broker, &mut turn).await {
            Ok(Ok(Progress::More)) => pause = SHORTEST_PAUSE,
            Ok(Ok(Progress::Idle)) => {
                if let Err(error) = broker.is_alive() {
                    return error;
                }
                waiting.wait(pause, |_| true).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            Ok(Ok(Progress::Unroutable)) => tokio::time::sleep(UNROUTABLE_PAUSE).await,
            Ok(Err(error)) => return error,
            Err(error) => {
                if !database_told {
                    tracing::warn!(%error, "the outbox cannot be read; trying again");
                }
                database_told = true;
                app.metrics.failures.relay.increment(1);
                tokio::time::sleep(UNROUTABLE_PAUSE).await;
                continue;
            }
        }
        database_told = false;
    }
}

/// What a round came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Something was published, and there may be more.
    More,
    /// Nothing waits.
    Idle,
    /// Something waits that no queue takes.
    Unroutable,
}

/// One round. The outer error is the database's, the inner one the broker's; what was confirmed before
/// either is marked, or published once more.
async fn round(
    app: &Arc<App>,
    owner: &str,
    broker: &Broker,
    turn: &mut Turn,
) -> Result<std::result::Result<Progress, broker::Error>> {
    let outbox = store::outbox(Everyone::for_worker("relay"));
    let (db, now) = (app.db.write(), app.clock.now());
    let partitions = outbox.lease(db, owner, now, LEASE, (turn.last, PARTITIONS)).await?;
    if partitions.is_empty() {
        return Ok(Ok(Progress::Idle));
    }
    turn.took(&partitions);
    let mut batch = Batch::new(broker, Instant::now() + ROUND);
    let mut after = 0;
    let outcome = loop {
        // What was read is published, or of a subject that waits, before more is read: so events of a
        // subject keep their order, and those that no queue takes do not hide what is behind them.
        let events = outbox.unpublished(db, &partitions, after, BATCH).await?;
        let full = u32::try_from(events.len()).is_ok_and(|n| n >= BATCH);
        after = events.last().map_or(after, |event| event.position);
        let result = batch.publish(events).await;
        outbox.mark_published(db, &batch.take_confirmed(), app.clock.now()).await?;
        if result.is_err() || !full || batch.is_over() {
            break result;
        }
    };
    outbox.release(db, owner, &partitions).await?;
    Ok(outcome.map(|()| match (batch.has_unroutable() && !batch.progressed, turn.is_complete) {
        (true, true) => Progress::Unroutable,
        (true, false) | (false, _) => Progress::More,
    }))
}

/// Where a relay is on its way round the partitions.
#[derive(Debug)]
struct Turn {
    last: i64,
    /// Whether the partitions that were leased last were those at the end.
    is_complete: bool,
}

impl Turn {
    fn took(&mut self, partitions: &[i64]) {
        let around = partitions.iter().filter(|partition| **partition <= self.last).max();
        let few = u32::try_from(partitions.len()).is_ok_and(|n| n < PARTITIONS);
        self.is_complete = around.is_some() || few;
        self.last = around.or(partitions.iter().max()).copied().unwrap_or(self.last);
    }
}
