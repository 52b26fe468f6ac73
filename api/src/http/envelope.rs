//! The outermost layer: every request gets an id, a span and one log line; every failure, panics
//! included, becomes the envelope; every answer gets the headers that all answers have.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt;
use poem::{
    Endpoint, IntoResponse, PathPattern, Request, Response, Result,
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
};
use poem_openapi::OperationId;
use tracing::Instrument;

use super::{
    context::{Context, Seen},
    error::{self, ApiError},
    operations::{self, Operation},
};
use crate::{
    app::App,
    trace::{self, Answered},
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const RATE_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const RATE_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const DEPRECATION: HeaderName = HeaderName::from_static("deprecation");
const SUNSET: HeaderName = HeaderName::from_static("sunset");

/// When the aliases were deprecated and when they may go (contract, section 6).
const DEPRECATED_SINCE: HeaderValue = HeaderValue::from_static("@1783641600");
const SUNSET_AT: HeaderValue = HeaderValue::from_static("Sat, 10 Jul 2027 23:59:59 GMT");

/// Bytes of a path without a route that are logged.
const MAX_LOGGED: usize = 200;

/// The outermost layer round the routes.
#[derive(Debug)]
pub struct Envelope<E> {
    app: Arc<App>,
    routes: E,
}

impl<E> Envelope<E> {
    /// Wraps the routes.
    pub const fn new(app: Arc<App>, routes: E) -> Self {
        Self { app, routes }
    }
}

impl<E: Endpoint> Endpoint for Envelope<E> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> Result<Response> {
        let counted = self.app.metrics.requests.begin();
        let context = Context::new(Arc::clone(&self.app));
        request.set_data(context.clone());
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        let parent = traceparent(&request);
        let span = tracing::info_span!(
            "request",
            request = context.request_id(),
            org = tracing::field::Empty,
            otel.kind = self.app.config.otlp_endpoint.as_ref().map(|_| "server"),
        );
        trace::adopt(&span, parent);
        let answering = trace::within(parent, self.answer(&context, request));
        let mut response = answering.instrument(span.clone()).await;
        let (seen, operation) = (context.seen(), operation(&response));
        add_headers(&mut response, context.request_id(), seen, operation, &path);
        let (id, status) = (operation.map(|operation| operation.id), response.status().as_u16());
        let took = counted.answered(id, status);
        let template = response.data().and_then(operations::path);
        let answered = Answered { operation: id, method: method.as_str(), route: template, status };
        trace::describe(&span, answered);
        let _entered = span.enter();
        tracing::info!(
            method = method.as_str(),
            route = route(template, &path),
            operation = id.unwrap_or("-"),
            status,
            ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "answered"
        );
        Ok(response)
    }
}

impl<E: Endpoint> Envelope<E> {
    async fn answer(&self, context: &Context, request: Request) -> Response {
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        if method == Method::OPTIONS
            && let Some(methods) = operations::allowed(&path)
        {
            let answer = Response::builder().status(StatusCode::NO_CONTENT);
            return answer.header(header::ALLOW, methods).finish();
        }
        // The routes hold no state that a panic in a handler could leave half changed.
        let answered = AssertUnwindSafe(self.routes.call(request)).catch_unwind().await;
        let error = match answered {
            Ok(Ok(response)) => return response.into_response(),
            Ok(Err(error)) if error.is_from_response() => return error.into_response(),
            Ok(Err(error)) => error,
            Err(_) => return error::panicked(context.request_id()),
        };
        let data = (error.data::<OperationId>().copied(), error.data::<PathPattern>().cloned());
        let mut response = ApiError::from(error).answer(context.request_id());
        if let Some(operation) = data.0 {
            response.set_data(operation);
        }
        if let Some(pattern) = data.1 {
            response.set_data(pattern);
        }
        if response.status() == StatusCode::METHOD_NOT_ALLOWED
            && let Some(methods) = operations::allowed(&path)
        {
            response.headers_mut().insert(header::ALLOW, methods);
        }
        response
    }
}

fn operation(response: &Response) -> Option<&'static Operation> {
    response.data::<OperationId>().and_then(|id| operations::by_id(id.0))
}

/// The route's template, so that lines can be grouped; a path without a route only as far as it may
/// help, and never the query, which can hold a token.
fn route<'r>(template: Option<&'static str>, path: &'r str) -> &'r str {
    template.unwrap_or_else(|| &path[..path.floor_char_boundary(MAX_LOGGED)])
}

/// The trace that the client is in; more than one is none.
fn traceparent(request: &Request) -> Option<trace::Parent> {
    let mut headers = request.headers().get_all(TRACEPARENT).iter();
    let (first, more) = (headers.next()?, headers.next().is_some());
    trace::Parent::parse(first.to_str().ok().filter(|_| !more)?)
}

fn add_headers(
    response: &mut Response,
    request_id: &str,
    seen: Seen,
    operation: Option<&Operation>,
    path: &str,
) {
    let headers = response.headers_mut();
    let id = HeaderValue::from_str(request_id).expect("request ids are ASCII");
    headers.insert(REQUEST_ID, id);
    if let Some(rate) = seen.rate {
        let numbers = [(RATE_LIMIT, rate.limit), (RATE_REMAINING, rate.remaining)];
        for (name, number) in numbers {
            if let Some(number) = number {
                headers.insert(name, number.into());
            }
        }
    }
    let successor = operation.and_then(|operation| operation.successor);
    let successor = successor.and_then(|(end, new_end)| {
        let link = format!("<{}{new_end}>; rel=\"successor-version\"", path.strip_suffix(end)?);
        HeaderValue::from_str(&link).ok()
    });
    if let Some(link) = successor {
        headers.insert(DEPRECATION, DEPRECATED_SINCE);
        headers.insert(SUNSET, SUNSET_AT);
        headers.insert(header::LINK, link);
    }
}
