//! Which trace work belongs to, from the request that wants it to the events that tell of it. A client's
//! `traceparent` is carried whether or not this server exports spans; where it does, what is carried on
//! is the span of the moment.
//!
//! Carries no `tracestate`: it is for the systems that wrote it, and none of ours reads it.

mod export;
mod parent;

use std::future::Future;

use opentelemetry::{
    Context, KeyValue,
    trace::{SpanContext, SpanId, Status, TraceContextExt, TraceFlags, TraceId, TraceState},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

pub use export::{Exporter, export};
pub use parent::Parent;

tokio::task_local! {
    /// What the client said, for work that has no exported span.
    static CARRIED: Option<Parent>;
}

/// Does work as a part of a trace.
pub async fn within<F: Future>(parent: Option<Parent>, work: F) -> F::Output {
    CARRIED.scope(parent, work).await
}

/// Takes what is carried into a new task.
pub fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    within(CARRIED.try_with(|parent| *parent).ok().flatten(), work)
}

/// Where in which trace the current work is.
#[must_use]
pub fn current() -> Option<Parent> {
    let context = Span::current().context();
    let span = context.span().span_context().clone();
    if span.is_valid() {
        return Some(Parent {
            trace: span.trace_id().to_bytes(),
            span: span.span_id().to_bytes(),
            flags: span.trace_flags().to_u8(),
        });
    }
    CARRIED.try_with(|parent| *parent).ok().flatten()
}

/// Makes a new span, which nobody has entered yet, a part of a trace. Nothing to do where none is exported.
pub fn adopt(span: &Span, parent: Option<Parent>) {
    let Some(parent) = parent else { return };
    let remote = SpanContext::new(
        TraceId::from_bytes(parent.trace),
        SpanId::from_bytes(parent.span),
        TraceFlags::new(parent.flags),
        true,
        TraceState::default(),
    );
    // It fails where spans are not exported, and there is nothing to be done about it.
    let _ = span.set_parent(Context::new().with_remote_span_context(remote));
}

/// What a request turned out to be.
#[derive(Debug, Clone, Copy)]
pub struct Answered<'a> {
    /// The operation; `None` = there is none.
    pub operation: Option<&'static str>,
    /// The method.
    pub method: &'a str,
    /// The template of the path, if there is one.
    pub route: Option<&'static str>,
    /// The status.
    pub status: u16,
}

/// Tells the exported span of a request what it turned out to be, in the words of OpenTelemetry's
/// conventions. These are no fields of the span, so that log lines do not repeat them.
pub fn describe(span: &Span, answered: Answered<'_>) {
    let context = span.context();
    let exported = context.span();
    if !exported.is_recording() {
        return;
    }
    exported.update_name(answered.operation.unwrap_or("request"));
    exported.set_attribute(KeyValue::new("http.request.method", answered.method.to_owned()));
    let status = i64::from(answered.status);
    exported.set_attribute(KeyValue::new("http.response.status_code", status));
    if let Some(route) = answered.route {
        exported.set_attribute(KeyValue::new("http.route", route));
    }
    if answered.status >= 500 {
        exported.set_status(Status::error(""));
    }
}
