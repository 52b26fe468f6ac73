//! What a story's servers log, kept so that a warning nobody expected fails the story, and so that a
//! failed story can show what happened.

use std::{
    cell::RefCell,
    fmt::{self, Write as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tracing::{
    Dispatch, Event, Level, Subscriber,
    dispatcher::{self, DefaultGuard},
    field::{Field, Visit},
};
use tracing_subscriber::{
    Layer,
    filter::LevelFilter,
    layer::{Context, SubscriberExt},
    registry::{LookupSpan, Registry},
};

/// Our own crates: what others warn about, such as a slow machine, is theirs to decide.
const OURS: [&str; 7] = ["api", "billing", "crownest", "domain", "drivers", "migrations", "store"];
/// Names what is kept of a log, such as `debug`, to look closer at a story that fails.
const LEVEL: &str = "TEST_LOG";
/// Lines of a failed story's log that are shown.
const SHOWN: usize = 80;

thread_local! {
    static CAPTURING: RefCell<Option<DefaultGuard>> = const { RefCell::new(None) };
    static HERE: RefCell<Option<Logs>> = const { RefCell::new(None) };
}

/// The log of one story. A clone is another handle on it.
#[derive(Debug, Clone)]
pub(crate) struct Logs {
    lines: Lines,
    /// One for all threads: a span lives in the registry of its dispatch, whichever thread ends it.
    dispatch: Dispatch,
}

#[derive(Debug, Clone, Default)]
struct Lines(Arc<Mutex<Vec<Line>>>);

#[derive(Debug, Clone)]
struct Line {
    level: Level,
    target: String,
    text: String,
}

/// Ends the capture on the thread of the test.
pub(crate) struct Capture;

impl Drop for Capture {
    fn drop(&mut self) {
        Logs::release_this_thread();
    }
}

impl Logs {
    /// An empty log.
    pub fn new() -> Self {
        let lines = Lines::default();
        let level = std::env::var(LEVEL).ok().and_then(|level| level.parse().ok());
        let layer = lines.clone().with_filter(level.unwrap_or(LevelFilter::INFO));
        Self { lines, dispatch: Dispatch::new(Registry::default().with(layer)) }
    }

    /// Captures on this thread until the guard is dropped.
    pub fn capture(&self) -> Capture {
        self.capture_on_this_thread();
        Capture
    }

    pub fn capture_on_this_thread(&self) {
        let guard = dispatcher::set_default(&self.dispatch);
        CAPTURING.with(|slot| slot.replace(Some(guard)));
        HERE.with(|slot| slot.replace(Some(self.clone())));
    }

    pub fn release_this_thread() {
        CAPTURING.with(|slot| drop(slot.take()));
        HERE.with(|slot| drop(slot.take()));
    }

    /// The log that this thread writes to.
    pub fn here() -> Self {
        HERE.with(|slot| slot.borrow().clone()).expect("worlds are made inside of stories")
    }

    /// The warnings and errors of our crates so far.
    pub fn warnings(&self) -> Vec<String> {
        let lines = self.lines();
        let ours = |line: &&Line| line.level <= Level::WARN && line.is_ours();
        lines.iter().filter(ours).map(ToString::to_string).collect()
    }

    /// Every line, also of other crates.
    pub fn text(&self) -> String {
        self.lines().iter().map(|line| format!("{line}\n")).collect()
    }

    /// The last lines; those that differ only in how long something took are shown once.
    pub fn tail(&self) -> String {
        let mut shown: Vec<String> = Vec::new();
        for line in self.lines().iter() {
            let text = line.to_string();
            let same = |last: &String| last.split(" ms=").next() == text.split(" ms=").next();
            if (line.is_ours() || line.level <= Level::INFO) && !shown.last().is_some_and(same) {
                shown.push(text);
            }
        }
        shown[shown.len().saturating_sub(SHOWN)..].join("\n")
    }

    fn lines(&self) -> MutexGuard<'_, Vec<Line>> {
        self.lines.lines()
    }
}

impl Lines {
    fn lines(&self) -> MutexGuard<'_, Vec<Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn is_ours(&self) -> bool {
        OURS.contains(&self.target.split("::").next().unwrap_or(""))
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>5} {}: {}", self.level, self.target, self.text)
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let metadata = event.metadata();
        let line = Line {
            level: *metadata.level(),
            target: metadata.target().to_owned(),
            text: format!("{}{}", text.message, text.fields),
        };
        self.lines().push(line);
    }
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            let _ = write!(self.fields, " {}={value:?}", field.name());
        }
    }
}
