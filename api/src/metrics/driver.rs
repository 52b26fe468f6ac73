//! Counts and traces what a driver is asked, in one place for all drivers. Changes nothing of what it
//! answers.

use std::{sync::Arc, time::Instant};

use async_trait::async_trait;
use domain::id::SandboxId;
use drivers::{
    BoxedStream, Driver, DriverError, ErrorKind, Limitation, Observed, Spec, Suspend, Verb,
};
use metrics::{Counter, Histogram};
use tracing::Instrument;

use super::{Metrics, Registry, Unfinished, table};

/// A driver whose verbs are counted.
#[derive(Debug)]
pub struct Measured {
    driver: Arc<dyn Driver>,
    verbs: [Handles; Verb::ALL.len()],
}

#[derive(Debug)]
struct Handles {
    seconds: Histogram,
    errors: [Counter; ErrorKind::ALL.len()],
    abandoned: Counter,
}

impl Handles {
    fn new(registry: &Registry, driver: &'static str, verb: Verb) -> Self {
        let of_verb = [("driver", driver), ("verb", verb.as_str())];
        let errors = |kind| {
            let labels = [of_verb[0], of_verb[1], ("kind", kind)];
            registry.counter(table::DRIVER_ERRORS, &labels)
        };
        Self {
            seconds: registry.histogram(table::DRIVER_SECONDS, &of_verb),
            errors: ErrorKind::ALL.map(|kind| errors(kind.as_str())),
            abandoned: errors("abandoned"),
        }
    }
}

impl Measured {
    /// Counts what this driver is asked.
    #[must_use]
    pub fn around(driver: Arc<dyn Driver>, metrics: &Metrics) -> Arc<dyn Driver> {
        let name = driver.name();
        let verbs = Verb::ALL.map(|verb| Handles::new(&metrics.registry, name, verb));
        Arc::new(Self { driver, verbs })
    }

    async fn measure<T>(
        &self,
        verb: Verb,
        id: Option<SandboxId>,
        call: impl Future<Output = Result<T, DriverError>>,
    ) -> Result<T, DriverError> {
        let handles = &self.verbs[verb as usize];
        let span = tracing::debug_span!(
            "driver",
            driver = self.driver.name(),
            verb = verb.as_str(),
            sandbox = id.map(tracing::field::display),
            error = tracing::field::Empty,
        );
        let (began, mut unfinished) = (Instant::now(), Unfinished::new(&handles.abandoned));
        let result = call.instrument(span.clone()).await;
        unfinished.finish();
        handles.seconds.record(began.elapsed());
        if let Err(error) = &result {
            handles.errors[error.kind as usize].increment(1);
            span.record("error", error.kind.as_str());
        }
        result
    }
}

#[async_trait]
impl Driver for Measured {
    fn name(&self) -> &'static str {
        self.driver.name()
    }

    async fn check(&self) -> Result<Vec<Limitation>, DriverError> {
        self.measure(Verb::Check, None, self.driver.check()).await
    }

    async fn ensure(&self, id: SandboxId, spec: &Spec) -> Result<Observed, DriverError> {
        self.measure(Verb::Ensure, Some(id), self.driver.ensure(id, spec)).await
    }

    async fn remove(&self, id: SandboxId) -> Result<(), DriverError> {
        self.measure(Verb::Remove, Some(id), self.driver.remove(id)).await
    }

    async fn observe(&self, id: SandboxId) -> Result<Option<Observed>, DriverError> {
        self.measure(Verb::Observe, Some(id), self.driver.observe(id)).await
    }

    async fn list(&self) -> Result<Vec<Observed>, DriverError> {
        self.measure(Verb::List, None, self.driver.list()).await
    }

    async fn connect(&self, id: SandboxId) -> Result<BoxedStream, DriverError> {
        self.measure(Verb::Connect, Some(id), self.driver.connect(id)).await
    }

    async fn close(&self) {
        self.driver.close().await;
    }

    fn as_suspend(&self) -> Option<&dyn Suspend> {
        self.driver.as_suspend().map(|_| self as &dyn Suspend)
    }
}

impl Measured {
    /// The driver's, asked only where it was seen to have it.
    fn suspending(&self, verb: Verb) -> Result<&dyn Suspend, DriverError> {
        self.driver.as_suspend().ok_or_else(|| {
            DriverError::new(ErrorKind::Unsupported, verb, "this driver suspends nothing")
        })
    }
}

#[async_trait]
impl Suspend for Measured {
    async fn suspend(&self, id: SandboxId) -> Result<(), DriverError> {
        let driver = self.suspending(Verb::Suspend)?;
        self.measure(Verb::Suspend, Some(id), driver.suspend(id)).await
    }

    async fn resume(&self, id: SandboxId) -> Result<Observed, DriverError> {
        let driver = self.suspending(Verb::Resume)?;
        self.measure(Verb::Resume, Some(id), driver.resume(id)).await
    }

    async fn suspended(&self) -> Result<Vec<SandboxId>, DriverError> {
        let driver = self.suspending(Verb::Suspended)?;
        self.measure(Verb::Suspended, None, driver.suspended()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_and_kinds_are_in_the_order_of_their_lists() {
        for (at, verb) in Verb::ALL.into_iter().enumerate() {
            assert_eq!(verb as usize, at, "{verb:?}");
        }
        for (at, kind) in ErrorKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, at, "{kind:?}");
        }
    }
}
