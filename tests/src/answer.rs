//! An HTTP answer, checked on arrival for what every answer must have: a request id, and the one
//! envelope for errors.

use bytes::Bytes;
use domain::Code;
use reqwest::{StatusCode, header::HeaderMap};
use serde_json::Value;

/// What the server answered.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Method and path, for failure texts.
    pub request: String,
}

impl Answer {
    pub(crate) async fn read(request: String, response: reqwest::Response) -> Self {
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.bytes().await;
        let body = body.unwrap_or_else(|error| panic!("{request}: {status}, then {error}"));
        let answer = Self { status: status.as_u16(), headers, body, request };
        answer.check();
        answer
    }

    /// What holds for every answer (contract, sections 2 and 6).
    fn check(&self) {
        let id = self.header("x-request-id");
        assert!(!id.is_empty(), "an answer without x-request-id: {self}");
        if StatusCode::from_u16(self.status).is_ok_and(|status| status.is_success()) {
            return;
        }
        assert_eq!(self.header("content-type"), "application/json", "{self}");
        let body = self.json();
        let error = &body["error"];
        let text = |name: &str| error[name].as_str().unwrap_or_default();
        let code = Code::ALL.iter().find(|code| code.as_str() == text("code"));
        let code = code.unwrap_or_else(|| panic!("an error without a code of the list: {self}"));
        assert_eq!(code.status(), self.status, "the code's own status: {self}");
        assert_eq!(error["retryable"], code.retryable(), "{self}");
        assert_eq!(text("requestId"), id, "{self}");
        assert!(!text("message").is_empty(), "{self}");
        let inside = ["param0", "sqlx", "postgres", "sqlite", "panicked", "::"];
        for word in inside {
            assert!(!text("message").contains(word), "{word:?} is from inside: {self}");
        }
        if matches!(self.status, 429 | 503) {
            let seconds = self.header("retry-after").parse::<u64>();
            assert!(seconds.is_ok(), "whole seconds in Retry-After: {self}");
        }
    }

    /// A header's text, empty if there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap_or_default())
    }

    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[must_use]
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {self}"))
    }

    /// The body of an answer that must have this status.
    #[track_caller]
    pub fn is(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self}");
        self.json()
    }

    /// The error of an answer that must have this status and code.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{self}");
        let error = self.json()["error"].clone();
        assert_eq!(error["code"], code, "{self}");
        error
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const SHOWN: usize = 2000;
        let text = self.text();
        let shown = &text[..text.floor_char_boundary(SHOWN)];
        write!(f, "{} answered {} {shown}", self.request, self.status)
    }
}
