//! What a client is told that gets no answer of the app: the envelope of the API for programs, a page
//! for people. Decides nothing.

use std::time::Duration;

use askama::Template;
use bytes::Bytes;
use domain::{Code, preview::AuthMode};
use http_body_util::BodyExt;
use hyper::{
    HeaderMap, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
};

use super::{
    admit::PARAMETER,
    body::{Body, whole},
};
use crate::http::error::ApiError;

/// Bytes that are still read of a body that nobody wants, and for how long.
const MAX_DRAINED: usize = 4 << 20;
const MAX_DRAINING: Duration = Duration::from_secs(2);

/// Nothing is loaded or run, and the form goes nowhere else.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; \
                      frame-ancestors 'none'; base-uri 'none'";

#[derive(Template)]
#[template(path = "preview.html")]
struct Page<'a> {
    status: u16,
    title: &'a str,
    message: &'a str,
    request_id: &'a str,
    /// The name of the query parameter that the form sends, if there is one.
    parameter: Option<&'a str>,
}

/// Who is told.
#[derive(Debug, Clone, Copy)]
pub struct Reader {
    /// Whether it is a browser that shows a page.
    pub wants_page: bool,
    /// Who may open the preview, if it is known.
    pub mode: Option<AuthMode>,
}

impl Reader {
    /// Whoever sent these fields.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut accepted = headers.get_all(header::ACCEPT).iter();
        let wants_page =
            accepted.any(|value| value.to_str().is_ok_and(|list| list.contains("text/html")));
        Self { wants_page, mode: None }
    }
}

/// Prints a refusal.
pub async fn refusal(error: ApiError, reader: Reader, request_id: &str) -> Response<Body> {
    let page = reader.wants_page.then(|| page(&error, reader.mode, request_id)).flatten();
    let (head, envelope) = error.answer(request_id).into_parts();
    let mut answer = Response::new(match page {
        Some(page) => whole(page),
        None => whole(envelope.into_bytes().await.unwrap_or_else(|_| Bytes::new())),
    });
    *answer.status_mut() = StatusCode::from_u16(head.status.as_u16()).unwrap_or_default();
    let is_refused = answer.status().is_client_error();
    let headers = answer.headers_mut();
    *headers = head.headers;
    if reader.wants_page {
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        headers.insert(header::CONTENT_TYPE, html);
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    }
    if is_refused {
        // Connections are for those who get in.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert("x-request-id", id);
    }
    answer
}

fn page(error: &ApiError, mode: Option<AuthMode>, request_id: &str) -> Option<String> {
    let (code, message) = (error.code(), error.message());
    let is_closed = code == Code::Unauthorized;
    let title = match code.status() {
        401 => "This preview is not open to everybody",
        403 => "This is not allowed",
        404 => "There is no such preview",
        502 => "The app does not answer",
        _ => "This does not work at the moment",
    };
    let parameter = (is_closed && mode == Some(AuthMode::Token)).then_some(PARAMETER);
    Page { status: code.status(), title, message, request_id, parameter }.render().ok()
}

/// Reads the rest of a refused request's body, within bounds: closing a connection with unread bytes
/// resets it, and the client would see that instead of the refusal.
pub async fn drain(mut body: Incoming) {
    let mut left = MAX_DRAINED;
    let read = async {
        while let Some(Ok(frame)) = body.frame().await {
            let n = frame.data_ref().map_or(0, Bytes::len);
            if n > left {
                return;
            }
            left -= n;
        }
    };
    // Whatever came of it: the refusal is sent next.
    let _ = tokio::time::timeout(MAX_DRAINING, read).await;
}
