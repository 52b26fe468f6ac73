//! Prints events: a line for people, or a line of JSON for programs.

use std::{
    io::{self, Write},
    ops::ControlFlow,
};

use crate::app::events::CloudEvent;

/// What a line looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// For people.
    Line,
    /// The event in CloudEvents' structured form.
    Json,
}

/// Prints events, so many at most.
#[derive(Debug)]
pub(super) struct Printer<'w, W> {
    out: &'w mut W,
    form: Form,
    left: Option<u64>,
}

impl<'w, W: Write> Printer<'w, W> {
    pub(super) const fn new(out: &'w mut W, form: Form, limit: Option<u64>) -> Self {
        Self { out, form, left: limit }
    }

    /// Prints an event, and says whether another one may follow.
    pub(super) fn print(&mut self, event: &CloudEvent) -> io::Result<ControlFlow<()>> {
        match self.form {
            Form::Line => writeln!(self.out, "{}", line(event))?,
            Form::Json => writeln!(self.out, "{}", event.json())?,
        }
        self.left = self.left.map(|left| left.saturating_sub(1));
        Ok(if self.left == Some(0) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    /// Hands what was printed to whoever reads.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn line(event: &CloudEvent) -> String {
    let position = event.position.map(|position| format!("{position}  ")).unwrap_or_default();
    let part = |name| event.attribute(name);
    let text = format!(
        "{position}{}  {}  {} {}  {}",
        part("time"),
        part("type"),
        part("subject"),
        part("sequence"),
        event.data
    );
    // What comes from a broker may be anybody's, and terminals obey control characters.
    let harmless = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().map(harmless).collect()
}
