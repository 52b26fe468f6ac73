//! Publishes the outbox to an AMQP broker: at least once, in order per subject, and marked only when the
//! broker has confirmed. Without a broker configured it does nothing, and events stay where they are.
//!
//! A relay leases partitions, publishes what waits in them with many confirms in flight but only one per
//! subject, marks what was confirmed in one statement, and gives the partitions back. Any number of
//! relays may run; a relay that dies is replaced when its leases end.

mod broker;
mod message;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use migrations::rows::EventRow;
use rand::RngExt;
use store::{Everyone, outbox::Outbox};
use tokio::time::Instant;

use crate::app::{App, error::Result};
use broker::{Broker, Outcome};

/// Looked for again after this even without a nudge.
const PAUSE: Duration = Duration::from_millis(250);
/// After an event that no queue takes.
const UNROUTABLE_PAUSE: Duration = Duration::from_secs(1);
/// Partitions that one relay takes at a time.
const PARTITIONS: u32 = 16;
/// Events that one round publishes.
const BATCH: u32 = 1_000;
/// Confirms in flight: more is no faster and only waits longer.
const IN_FLIGHT: usize = 100;
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
    loop {
        match Broker::connect(&app.config, &url).await {
            Ok(broker) => {
                tracing::info!("connected to the broker");
                (backoff, told) = (FIRST_BACKOFF, false);
                let error = relay(&app, &owner, &broker).await;
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
    let mut database_told = false;
    loop {
        let mut waiting = std::mem::replace(&mut nudges, app.bus.subscribe());
        match round(app, owner, broker).await {
            Ok(Ok(Progress::More)) => {}
            Ok(Ok(Progress::Idle)) => {
                if let Err(error) = broker.is_alive() {
                    return error;
                }
                waiting.wait(PAUSE, |_| true).await;
            }
            Ok(Ok(Progress::Unroutable)) => tokio::time::sleep(UNROUTABLE_PAUSE).await,
            Ok(Err(error)) => return error,
            Err(error) => {
                if !database_told {
                    tracing::warn!(%error, "the outbox cannot be read; trying again");
                }
                database_told = true;
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
) -> Result<std::result::Result<Progress, broker::Error>> {
    let outbox = store::outbox(Everyone::for_worker("relay"));
    let (db, now) = (app.db.write(), app.clock.now());
    let partitions = outbox.lease(db, owner, now, LEASE, PARTITIONS).await?;
    if partitions.is_empty() {
        return Ok(Ok(Progress::Idle));
    }
    let deadline = Instant::now() + ROUND;
    let events = outbox.unpublished(app.db.write(), &partitions, BATCH).await?;
    let (confirmed, outcome) = publish(broker, events, deadline).await;
    finish(app, &outbox, owner, &partitions, &confirmed).await?;
    Ok(outcome.map(|unroutable| match (unroutable, confirmed.is_empty()) {
        (true, true) => Progress::Unroutable,
        (true | false, _) => Progress::More,
    }))
}

async fn finish(
    app: &App,
    outbox: &Outbox,
    owner: &str,
    partitions: &[i64],
    confirmed: &[i64],
) -> Result<()> {
    let db = app.db.write();
    outbox.mark_published(db, confirmed, app.clock.now()).await?;
    Ok(outbox.release(db, owner, partitions).await?)
}

/// Publishes events, of each subject one after the other. Returns the positions of those that were
/// confirmed, and whether some found no queue; or why the broker failed.
async fn publish(
    broker: &Broker,
    events: Vec<EventRow>,
    deadline: Instant,
) -> (Vec<i64>, std::result::Result<bool, broker::Error>) {
    let mut subjects: BTreeMap<String, VecDeque<EventRow>> = BTreeMap::new();
    let mut order = Vec::new();
    for event in events {
        let queue = subjects.entry(event.subject.clone()).or_default();
        if queue.is_empty() {
            order.push(event.subject.clone());
        }
        queue.push_back(event);
    }
    let mut waiting: VecDeque<VecDeque<EventRow>> =
        order.iter().filter_map(|subject| subjects.remove(subject)).collect();
    let (mut confirmed, mut unroutable) = (Vec::new(), false);
    let mut in_flight = FuturesUnordered::new();
    loop {
        while in_flight.len() < IN_FLIGHT
            && Instant::now() < deadline
            && let Some(mut queue) = waiting.pop_front()
        {
            let Some(event) = queue.pop_front() else { continue };
            in_flight.push(async move { (broker.publish(&event).await, event.position, queue) });
        }
        let Some((outcome, position, queue)) = in_flight.next().await else {
            return (confirmed, Ok(unroutable));
        };
        match outcome {
            Ok(Outcome::Confirmed) => {
                confirmed.push(position);
                waiting.push_back(queue);
            }
            // What comes after it in its subject waits, too.
            Ok(Outcome::Unroutable) => unroutable = true,
            Err(error) => {
                // Others that are in flight may be confirmed all the same.
                while let Some((outcome, position, _)) = in_flight.next().await {
                    if matches!(outcome, Ok(Outcome::Confirmed)) {
                        confirmed.push(position);
                    }
                }
                return (confirmed, Err(error));
            }
        }
    }
}
