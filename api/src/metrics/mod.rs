//! What operators watch, as Prometheus reads it. One recorder for each application, not one for the
//! process: servers in one process count apart. Handles are made once, so that counting neither looks
//! anything up nor allocates. Labels are words of ours, never ids: metrics name no tenant.
//!
//! Knows no queries: what is read from the database at a scrape is in `store`.

mod driver;
mod requests;
mod scrape;
pub mod serve;
mod table;

use std::{sync::Arc, time::Duration};

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};

pub use driver::Measured;
pub use requests::{InFlight, Requests};

use crate::http::operations::OPERATIONS;
use table::{BUCKETS, TABLE};

/// How often samples of histograms are put into their buckets when nobody scrapes.
pub const UPKEEP: Duration = Duration::from_secs(5);

/// Every handle that is counted with.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Requests by operation.
    pub requests: Requests,
    /// What the relay does.
    pub publisher: Publisher,
    /// Verifying keys.
    pub keys: Keys,
    /// Failures of background work.
    pub failures: Failures,
    scrapes: scrape::Scrapes,
}

/// What the relay does.
#[derive(Debug, Clone)]
pub struct Publisher {
    /// Events that the broker took into a queue and confirmed.
    pub confirms: Counter,
    /// Events that it refused to take.
    pub nacks: Counter,
    /// Events that came back because no queue takes them.
    pub returns: Counter,
    /// Connections that could not be made or were lost.
    pub connection_failures: Counter,
    /// 1 while there is a connection.
    pub connected: Gauge,
    /// From a publish to its confirm.
    pub confirm_seconds: Histogram,
}

/// Verifying keys.
#[derive(Debug, Clone)]
pub struct Keys {
    /// From the wish for an argon2 computation to its end.
    pub verification_seconds: Histogram,
    /// Requests that were turned away because too many keys wait to be verified.
    pub refusals: Counter,
}

/// Failures of background work, each of which is tried again.
#[derive(Debug, Clone)]
pub struct Failures {
    /// Booting, ending and removing sandboxes.
    pub reconcile: Counter,
    /// Looking who is alive.
    pub liveness: Counter,
    /// Settling accounts.
    pub billing: Counter,
    /// Reading and marking the outbox.
    pub relay: Counter,
    /// Following commands.
    pub commands: Counter,
    /// Keeping house.
    pub housekeeping: Counter,
    /// Ending what runs of suspended organizations.
    pub cleanup: Counter,
    /// Counting the minutes of previews, and closing what is open of ended ones.
    pub previews: Counter,
}

impl Metrics {
    /// Counts for whoever scrapes.
    #[must_use]
    pub fn on() -> Arc<Self> {
        Self::with(Registry::new())
    }

    /// Counts nothing: every handle is an empty one.
    #[must_use]
    pub fn off() -> Arc<Self> {
        Self::with(Registry(None))
    }

    fn with(registry: Registry) -> Arc<Self> {
        let failed = |work| registry.counter(table::WORK_FAILURES, &[("work", work)]);
        let metrics = Self {
            requests: Requests::new(
                registry.clone(),
                OPERATIONS.iter().map(|operation| operation.id),
            ),
            publisher: Publisher {
                confirms: registry.counter(table::CONFIRMS, &[]),
                nacks: registry.counter(table::NACKS, &[]),
                returns: registry.counter(table::RETURNS, &[]),
                connection_failures: registry.counter(table::CONNECTION_FAILURES, &[]),
                connected: registry.gauge(table::CONNECTED, &[]),
                confirm_seconds: registry.histogram(table::CONFIRM_SECONDS, &[]),
            },
            keys: Keys {
                verification_seconds: registry.histogram(table::VERIFICATION_SECONDS, &[]),
                refusals: registry.counter(table::VERIFICATION_REFUSALS, &[]),
            },
            failures: Failures {
                reconcile: failed("reconcile"),
                liveness: failed("liveness"),
                billing: failed("billing"),
                relay: failed("relay"),
                commands: failed("commands"),
                housekeeping: failed("housekeeping"),
                cleanup: failed("cleanup"),
                previews: failed("previews"),
            },
            scrapes: scrape::Scrapes::default(),
            registry,
        };
        Arc::new(metrics)
    }

    /// Puts samples into their buckets; whoever scrapes does so, too.
    pub fn keep_up(&self) {
        if let Some(recorder) = &self.registry.0 {
            recorder.handle().run_upkeep();
        }
    }
}

/// Makes handles; empty ones when nothing is counted.
#[derive(Debug, Clone)]
struct Registry(Option<Arc<PrometheusRecorder>>);

impl Registry {
    fn new() -> Self {
        let builder = PrometheusBuilder::new().set_buckets(&BUCKETS);
        let recorder = builder.expect("there are buckets").build_recorder();
        for (name, help) in TABLE {
            // The kind of a description is of no account here: it is kept by name.
            recorder.describe_gauge((*name).into(), None, (*help).into());
        }
        Self(Some(Arc::new(recorder)))
    }

    fn counter(&self, name: &'static str, labels: &[(&'static str, &'static str)]) -> Counter {
        let key = key(name, labels);
        self.0.as_ref().map_or_else(Counter::noop, |to| to.register_counter(&key, &METADATA))
    }

    fn gauge(&self, name: &'static str, labels: &[(&'static str, &'static str)]) -> Gauge {
        let key = key(name, labels);
        self.0.as_ref().map_or_else(Gauge::noop, |to| to.register_gauge(&key, &METADATA))
    }

    fn histogram(&self, name: &'static str, labels: &[(&'static str, &'static str)]) -> Histogram {
        let key = key(name, labels);
        self.0.as_ref().map_or_else(Histogram::noop, |to| to.register_histogram(&key, &METADATA))
    }

    fn render(&self) -> String {
        self.0.as_ref().map(|recorder| recorder.handle().render()).unwrap_or_default()
    }
}

const METADATA: Metadata<'static> = Metadata::new("crownest", Level::INFO, None);

fn key(name: &'static str, labels: &[(&'static str, &'static str)]) -> Key {
    let label = |(name, value): &(&'static str, &'static str)| Label::new(*name, *value);
    Key::from_parts(name, labels.iter().map(label).collect::<Vec<_>>())
}

/// Counts what gave up half way: a future that is dropped says nothing else.
#[derive(Debug)]
struct Unfinished<'a>(Option<&'a Counter>);

impl<'a> Unfinished<'a> {
    const fn new(counter: &'a Counter) -> Self {
        Self(Some(counter))
    }

    const fn finish(&mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Some(counter) = self.0 {
            counter.increment(1);
        }
    }
}
