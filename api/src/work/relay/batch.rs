//! Publishes the events of one round: many confirms in flight, but only one per subject. Remembers which
//! subjects wait for a queue, and which routing keys have none.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use futures_util::{StreamExt, stream::FuturesUnordered};
use migrations::rows::EventRow;
use tokio::time::Instant;
use uuid::Uuid;

use super::broker::{Broker, Error, Outcome};

/// Confirms in flight: more is no faster and only waits longer.
const IN_FLIGHT: usize = 100;

/// What is published in a round.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    broker: &'a Broker,
    /// Nothing new begins after it.
    deadline: Instant,
    confirmed: Vec<i64>,
    /// Whether anything was confirmed.
    pub progressed: bool,
    /// Subjects whose next event found no queue: what comes after it waits, too.
    waiting: BTreeSet<String>,
    /// Types and organizations, which routing keys are made of, that found no queue.
    unroutable: BTreeSet<(String, Uuid)>,
}

impl<'a> Batch<'a> {
    pub const fn new(broker: &'a Broker, deadline: Instant) -> Self {
        Self {
            broker,
            deadline,
            confirmed: Vec::new(),
            progressed: false,
            waiting: BTreeSet::new(),
            unroutable: BTreeSet::new(),
        }
    }

    /// Whether nothing new may begin.
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    pub fn has_unroutable(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The positions of the events that were confirmed since this was asked last.
    pub fn take_confirmed(&mut self) -> Vec<i64> {
        std::mem::take(&mut self.confirmed)
    }

    /// Publishes events, of each subject one after the other, until the deadline.
    ///
    /// # Errors
    /// When the broker fails; what was confirmed before is known.
    pub async fn publish(&mut self, events: Vec<EventRow>) -> Result<(), Error> {
        let mut queues = by_subject(events);
        let broker = self.broker;
        let mut in_flight = FuturesUnordered::new();
        let mut failure = None;
        loop {
            while failure.is_none()
                && in_flight.len() < IN_FLIGHT
                && !self.is_over()
                && let Some(mut queue) = queues.pop_front()
            {
                let Some(event) = queue.pop_front() else { continue };
                if self.must_wait(&event) {
                    continue;
                }
                in_flight.push(async move { (broker.publish(&event).await, event, queue) });
            }
            match in_flight.next().await {
                None => return failure.map_or(Ok(()), Err),
                Some((Ok(Outcome::Confirmed), event, queue)) => {
                    self.confirmed.push(event.position);
                    self.progressed = true;
                    queues.push_back(queue);
                }
                Some((Ok(Outcome::Unroutable), event, _)) => {
                    self.unroutable.insert((event.kind, event.org_id));
                    self.waiting.insert(event.subject);
                }
                // Others that are in flight may be confirmed all the same.
                Some((Err(error), ..)) => failure = failure.or(Some(error)),
            }
        }
    }

    /// Whether an event has to wait for a queue, or for one of its subject that does. One try per
    /// routing key and round tells.
    fn must_wait(&mut self, event: &EventRow) -> bool {
        if self.waiting.contains(&event.subject) {
            return true;
        }
        let waits = self.unroutable.contains(&(event.kind.clone(), event.org_id));
        if waits {
            self.waiting.insert(event.subject.clone());
        }
        waits
    }
}

/// The events of each subject, in the order in which the subjects come.
fn by_subject(events: Vec<EventRow>) -> VecDeque<VecDeque<EventRow>> {
    let mut places = BTreeMap::new();
    let mut queues: VecDeque<VecDeque<EventRow>> = VecDeque::new();
    for event in events {
        let place = *places.entry(event.subject.clone()).or_insert(queues.len());
        match queues.get_mut(place) {
            Some(queue) => queue.push_back(event),
            None => queues.push_back(VecDeque::from([event])),
        }
    }
    queues
}
