//! Requests by operation and class of status. The operation is a row of the table of operations, never a
//! path: what nobody serves is counted together.

use std::{
    collections::HashMap,
    sync::OnceLock,
    time::{Duration, Instant},
};

use metrics::{Counter, Gauge, Histogram};

use super::{Registry, Unfinished, table};

/// What is counted as an operation when no route was found.
const NO_OPERATION: &str = "none";

/// A class of statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// 1xx and 2xx.
    Success,
    /// 3xx.
    Redirection,
    /// 4xx.
    ClientError,
    /// 5xx.
    ServerError,
}

impl Class {
    const ALL: [Self; 4] = [Self::Success, Self::Redirection, Self::ClientError, Self::ServerError];

    /// The class of a status.
    const fn of(status: u16) -> Self {
        match status {
            500.. => Self::ServerError,
            400.. => Self::ClientError,
            300.. => Self::Redirection,
            _ => Self::Success,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "2xx",
            Self::Redirection => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
        }
    }
}

/// The counted requests.
#[derive(Debug)]
pub struct Requests {
    registry: Registry,
    rows: HashMap<&'static str, Row>,
    none: Row,
    in_flight: Gauge,
    abandoned: Counter,
}

/// The histograms of an operation. Made when they are first needed: most of them never are.
#[derive(Debug, Default)]
struct Row([OnceLock<Histogram>; Class::ALL.len()]);

impl Requests {
    pub(super) fn new(registry: Registry, operations: impl Iterator<Item = &'static str>) -> Self {
        Self {
            rows: operations.map(|operation| (operation, Row::default())).collect(),
            none: Row::default(),
            in_flight: registry.gauge(table::REQUESTS_IN_FLIGHT, &[]),
            abandoned: registry.counter(table::REQUESTS_ABANDONED, &[]),
            registry,
        }
    }

    /// Begins to count a request.
    #[must_use]
    pub fn begin(&self) -> InFlight<'_> {
        self.in_flight.increment(1);
        InFlight {
            requests: self,
            began: Instant::now(),
            unfinished: Unfinished::new(&self.abandoned),
        }
    }

    fn histogram(&self, operation: Option<&'static str>, class: Class) -> &Histogram {
        let known = operation.and_then(|name| Some((name, self.rows.get(name)?)));
        let (name, row) = known.unwrap_or((NO_OPERATION, &self.none));
        row.0[class as usize].get_or_init(|| {
            let labels = [("operation", name), ("status", class.as_str())];
            self.registry.histogram(table::REQUEST_SECONDS, &labels)
        })
    }
}

/// A request without an answer yet. Dropped without one, it counts as abandoned.
#[derive(Debug)]
pub struct InFlight<'a> {
    requests: &'a Requests,
    began: Instant,
    unfinished: Unfinished<'a>,
}

impl InFlight<'_> {
    /// Counts the answer and says how long it took.
    pub fn answered(mut self, operation: Option<&'static str>, status: u16) -> Duration {
        let took = self.began.elapsed();
        self.unfinished.finish();
        self.requests.histogram(operation, Class::of(status)).record(took);
        took
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.requests.in_flight.decrement(1);
    }
}
