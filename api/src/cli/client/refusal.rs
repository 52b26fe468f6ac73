//! What an API says when it does not do what it was asked: the envelope of errors, or what stands in
//! for it where a proxy answered.

use std::fmt;

use reqwest::{StatusCode, header::HeaderMap};
use serde::Serialize;
use serde_json::Value;

use crate::print::clean;

/// The longest text of somebody else's that is shown.
const SHOWN: usize = 300;

/// An error that the API answered with.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// The machine-readable reason, such as `not_found`.
    pub code: String,
    /// The reason for people.
    pub message: String,
    /// What else is known, such as the field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
    /// What the server's log knows the request by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// The HTTP status; 0 when the error came inside a stream.
    pub status: u16,
}

impl Refusal {
    pub(super) fn read(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let envelope: Value = serde_json::from_slice(body).unwrap_or_default();
        let error = &envelope["error"];
        let text = |name: &str| error[name].as_str().map(str::to_owned);
        let header = headers.get("x-request-id").and_then(|id| id.to_str().ok());
        let message = || {
            let body = String::from_utf8_lossy(body);
            let shown: String = body.trim().chars().take(SHOWN).collect();
            format!("this was no answer of the API: {status} {shown}").trim_end().to_owned()
        };
        Self {
            code: text("code").unwrap_or_else(|| "invalid_error_response".to_owned()),
            message: text("message").unwrap_or_else(message),
            details: error.get("details").cloned(),
            request_id: text("requestId").or_else(|| header.map(str::to_owned)),
            retryable: error["retryable"].as_bool().unwrap_or_else(|| passes(status)),
            status: status.as_u16(),
        }
    }

    /// An error that came as an event of a stream.
    pub(super) fn in_stream(event: &Value) -> Self {
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        Self {
            code: text("code"),
            message: text("message"),
            details: None,
            request_id: None,
            retryable: false,
            status: 0,
        }
    }

    /// Whether the server, and not the request, is at fault.
    #[must_use]
    pub const fn is_fault(&self) -> bool {
        self.status >= 500
    }
}

/// Whether a status that came without an envelope says that it is about the moment.
fn passes(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 425 | 429) || status.is_server_error()
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A terminal must not obey what a server says.
        write!(f, "{}: {}", clean(&self.code), clean(&self.message))?;
        match &self.request_id {
            Some(id) => write!(f, " (request {})", clean(id)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, body: &str) -> Refusal {
        let mut headers = HeaderMap::new();
        headers.insert("x-request-id", "req_1".parse().unwrap());
        Refusal::read(StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes())
    }

    #[test]
    fn the_envelope_is_what_counts() {
        let body = r#"{"error":{"code":"not_found","message":"no\u001b[2J","requestId":"req_2",
            "retryable":false,"details":{"field":"id"}}}"#;
        let refusal = read(404, body);
        assert_eq!(refusal.to_string(), "not_found: no\u{fffd}[2J (request req_2)");
        assert!(!refusal.retryable && !refusal.is_fault());
        assert_eq!(refusal.details.unwrap()["field"], "id");
    }

    #[test]
    fn a_proxy_has_no_envelope() {
        for (status, body, retryable) in
            [(502, "<html>bad</html>", true), (404, "", false), (429, "{}", true)]
        {
            let refusal = read(status, body);
            assert_eq!(refusal.code, "invalid_error_response", "{status}");
            assert_eq!(refusal.retryable, retryable, "{status}");
            assert!(refusal.message.contains(&status.to_string()), "{refusal}");
            assert_eq!(refusal.request_id.as_deref(), Some("req_1"));
        }
    }
}
