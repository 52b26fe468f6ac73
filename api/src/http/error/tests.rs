//! What each failure looks like outside.

use drivers::{
    Verb,
    guest::{GuestError, GuestErrorKind, Reason},
};

use super::*;

/// Status, body and `Retry-After`.
async fn sent(error: impl Into<ApiError>) -> (u16, Value, Option<String>) {
    let response = error.into().answer("req_1");
    assert_eq!(response.content_type(), Some("application/json"));
    let status = response.status().as_u16();
    let retry_after = response.header("retry-after").map(str::to_owned);
    let body = response.into_body().into_vec().await.unwrap();
    (status, serde_json::from_slice(&body).unwrap(), retry_after)
}

#[tokio::test]
async fn use_cases_failures() {
    let secret = "10.0.0.7 refused";
    for (error, status, code, details, retry_after) in [
        (
            Refused::invalid("ttlMs", "no").into(),
            400,
            "invalid_request",
            Some(("field", Value::from("ttlMs"))),
            None,
        ),
        (store::Error::Missing("sandbox").into(), 404, "not_found", None, None),
        (store::Error::Stale.into(), 409, "conflict", None, None),
        (store::Error::Taken(secret.to_owned()).into(), 409, "conflict", None, None),
        (store::Error::Corrupt(secret.to_owned()).into(), 500, "internal_error", None, None),
        (store::Error::Unavailable(secret.into()).into(), 503, "unavailable", None, Some("1")),
        (driver(ErrorKind::NoCapacity, secret), 503, "resource_allocation_failed", None, Some("5")),
        (driver(ErrorKind::Host, secret), 500, "runtime_error", None, None),
        (Error::NotReady, 500, "runtime_error", None, None),
        (Error::Overloaded("keys"), 503, "unavailable", None, Some("1")),
        (Error::InProgress, 409, "idempotency_request_in_progress", None, Some("1")),
        (
            Error::QuotaExceeded { what: "live sandboxes", limit: 3 },
            429,
            "quota_exceeded",
            Some(("limit", Value::from(3))),
            Some("1"),
        ),
        (
            Error::RateLimited { retry_after: Duration::from_millis(1001) },
            429,
            "rate_limited",
            Some(("retryAfterMs", Value::from(1001))),
            Some("2"),
        ),
    ] {
        let (got, body, after) = sent(error).await;
        let error = &body["error"];
        assert_eq!((got, error["code"].as_str()), (status, Some(code)));
        assert_eq!(after.as_deref(), retry_after, "{code}");
        assert_eq!(error["requestId"], "req_1");
        let retryable = status == 429 || status >= 500 || code.ends_with("in_progress");
        assert_eq!(error["retryable"], retryable, "{code}");
        match details {
            Some((name, value)) => assert_eq!(error["details"][name], value, "{code}"),
            None => assert_eq!(error.get("details"), None, "{code}"),
        }
        assert!(!body.to_string().contains(secret), "{code} tells what is inside");
    }
}

fn driver(kind: ErrorKind, text: &str) -> Error {
    DriverError::new(kind, Verb::Ensure, text.to_owned()).into()
}

#[tokio::test]
async fn refused_paths() {
    for (reason, status, code) in [
        (Reason::FileNotFound, 404, "file_not_found"),
        (Reason::ParentNotFound, 404, "parent_directory_not_found"),
        (Reason::AlreadyExists, 409, "file_already_exists"),
        (Reason::OutsideWorkspace, 400, "path_outside_workspace"),
        (Reason::IsDirectory, 400, "path_is_directory"),
        (Reason::NotDirectory, 400, "path_not_directory"),
        (Reason::DirectoryNotEmpty, 409, "directory_not_empty"),
        (Reason::FileTooLarge, 413, "file_too_large"),
        (Reason::NoSpace, 413, "file_too_large"),
        (Reason::WorkspaceRoot, 400, "invalid_request"),
        (Reason::TooManyCommands, 429, "quota_exceeded"),
        (Reason::UnknownCommand, 500, "runtime_error"),
    ] {
        let source = GuestError::new(GuestErrorKind::Refused(reason), "inside");
        let (got, body, _) = sent(Error::Guest { field: "cwd", source }).await;
        assert_eq!((got, body["error"]["code"].as_str()), (status, Some(code)), "{reason:?}");
        if status < 429 {
            assert_eq!(body["error"]["details"]["field"], "cwd", "{reason:?}");
        }
    }
    let source = GuestError::new(GuestErrorKind::TimedOut, "inside");
    assert_eq!(sent(Error::Guest { field: "path", source }).await.0, 500);
}

#[tokio::test]
async fn the_framework_s_own() {
    let param = |name| ParseParamError { name, reason: "param0 is odd".to_owned() };
    let path = ParsePathError { name: "param0", reason: "odd".to_owned() };
    for (error, status, code) in [
        (poem::Error::from(NotFoundError), 404, "not_found"),
        (path.into(), 404, "not_found"),
        (MethodNotAllowedError.into(), 405, "method_not_allowed"),
        (param("limit").into(), 400, "invalid_request"),
        (ContentTypeError::ExpectContentType.into(), 415, "unsupported_media_type"),
        (ReadBodyError::PayloadTooLarge.into(), 413, "payload_too_large"),
        (StatusCode::BAD_REQUEST.into(), 400, "invalid_request"),
        (StatusCode::BAD_GATEWAY.into(), 500, "internal_error"),
        (ApiError::new(Code::StreamGap, "gone").into(), 409, "stream_gap"),
    ] {
        let (got, body, _) = sent(error).await;
        assert_eq!((got, body["error"]["code"].as_str()), (status, Some(code)));
        assert!(!body.to_string().contains("param0"), "{code}");
    }
}
