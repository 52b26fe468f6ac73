//! Where the time goes: the driver's own spans, by when they begin and how long they take, while something
//! is measured. Those that overlap are each told in full.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Result;
use tracing::{
    Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span::{Attributes, Id},
};
use tracing_subscriber::{
    Layer,
    filter::Targets,
    fmt::layer,
    layer::{Context, SubscriberExt as _},
    registry,
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

use crate::table::{median, millis};

/// The field that tells apart spans of one name.
const WHAT: &str = "what";

/// Keeps spans that have ended. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Recorder(Arc<Mutex<Vec<Seen>>>);

/// A span that has ended.
#[derive(Debug)]
struct Seen {
    name: String,
    depth: usize,
    began: Instant,
    ended: Instant,
}

/// What happened while something was measured, and how long that took.
#[derive(Debug)]
pub struct Timeline {
    pub took: Duration,
    began: Instant,
    seen: Vec<Seen>,
}

impl Recorder {
    /// Has it keep the spans of this process from now on; warnings and what is done are printed.
    pub fn install() -> Self {
        let recorder = Self::default();
        const OURS: [&str; 2] = ["drivers", env!("CARGO_CRATE_NAME")];
        let ours = |level| Targets::new().with_targets(OURS.map(|target| (target, level)));
        let kept = recorder.clone().with_filter(ours(LevelFilter::TRACE));
        let told = ours(LevelFilter::INFO).with_default(LevelFilter::WARN);
        let told = layer().with_ansi(false).with_writer(std::io::stderr).with_filter(told);
        registry().with(kept).with(told).init();
        recorder
    }

    /// Does something and tells what happened meanwhile.
    pub async fn record<T>(&self, work: impl Future<Output = Result<T>>) -> Result<(T, Timeline)> {
        self.lock().clear();
        let began = Instant::now();
        let done = work.await?;
        let took = began.elapsed();
        Ok((done, Timeline { took, began, seen: std::mem::take(&mut *self.lock()) }))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known of a span that has not ended.
struct Open {
    name: String,
    began: Instant,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorder {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut name = attributes.metadata().name().to_owned();
        attributes.record(&mut What(&mut name));
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(Open { name, began: Instant::now() });
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        if let Some(Open { name, began }) = span.extensions_mut().remove() {
            let depth = span.scope().count() - 1;
            self.lock().push(Seen { name, depth, began, ended: Instant::now() });
        }
    }
}

/// Adds the telling field to a name.
struct What<'a>(&'a mut String);

impl Visit for What<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == WHAT {
            // Writing to a text does not fail.
            let _ = write!(self.0, " {value:?}");
        }
    }
}

impl Timeline {
    /// From the start of a VMM to its API's first answer, with whatever is put around it.
    pub fn api(&self) -> Option<Duration> {
        let find = |names: [&str; 2]| self.seen.iter().find(|seen| names.contains(&&*seen.name));
        let (first, last) =
            (find(["spawn", "start_vmm"])?, find(["spawn", "answers_in_a_version"])?);
        Some(last.ended.saturating_duration_since(first.began))
    }

    /// The medians of several, a line for each name: when it began, and how long all of that name took.
    pub fn lines(timelines: &[Self]) -> Vec<String> {
        let mut by_name: BTreeMap<&str, Vec<Part>> = BTreeMap::new();
        for timeline in timelines {
            for (name, part) in timeline.parts() {
                by_name.entry(name).or_default().push(part);
            }
        }
        let mut rows: Vec<_> = by_name.into_iter().map(|(name, parts)| row(name, &parts)).collect();
        rows.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        let header = format!("{:>9} {:>9} {:>5}", "begins at", "takes", "times");
        std::iter::once(header).chain(rows.into_iter().map(|(_, line)| line)).collect()
    }

    fn parts(&self) -> BTreeMap<&str, Part> {
        let mut parts: BTreeMap<&str, Part> = BTreeMap::new();
        for seen in &self.seen {
            let began = seen.began.saturating_duration_since(self.began);
            let part = parts.entry(&seen.name).or_insert(Part { began, ..Part::default() });
            part.began = part.began.min(began);
            part.took += seen.ended.saturating_duration_since(seen.began);
            part.depth = seen.depth;
            part.n += 1.0;
        }
        parts
    }
}

/// All spans of one name.
#[derive(Debug, Default)]
struct Part {
    began: Duration,
    took: Duration,
    depth: usize,
    n: f64,
}

fn row(name: &str, parts: &[Part]) -> (f64, String) {
    let began = median(parts.iter().map(|part| millis(part.began)));
    let took = median(parts.iter().map(|part| millis(part.took)));
    let n = median(parts.iter().map(|part| part.n));
    let depth = parts.first().map_or(0, |part| part.depth);
    (began, format!("{began:>9.2} {took:>9.2} {n:>5.0}  {:indent$}{name}", "", indent = 2 * depth))
}
