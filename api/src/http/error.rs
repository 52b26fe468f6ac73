//! The one place where failures become the envelope of contract section 2: those of the use cases and
//! those that the framework makes. Inside texts are logged here, once, and never sent.

use std::{fmt, time::Duration};

use poem::{
    Response,
    error::{MethodNotAllowedError, NotFoundError, ReadBodyError, ResponseError},
    http::{HeaderValue, StatusCode, header},
};
use poem_openapi::{
    ApiResponse, Object,
    error::{ContentTypeError, ParseParamError, ParsePathError, ParseRequestPayloadError},
    registry::{MetaMediaType, MetaResponse, MetaResponses, MetaSchema, Registry},
    types::{ParseFromJSON, ParseResult, ToJSON, Type},
};
use serde_json::{Map, Value};

use domain::{Code, Refused, admin::Role, scope::Scope};
use drivers::{DriverError, ErrorKind};

use super::wire::inline_type;
use crate::app::error::Error;

mod guest;
#[cfg(test)]
mod tests;

/// When to come back where nothing better is known.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What every answer that is no success looks like.
#[derive(Debug, Object)]
pub struct ErrorEnvelope {
    /// What went wrong.
    error: ErrorView,
}

/// What went wrong.
#[derive(Debug, Object)]
#[oai(rename = "Error", rename_all = "camelCase", skip_serializing_if_is_none)]
struct ErrorView {
    /// Why, for programs.
    code: String,
    /// Why, for people.
    message: String,
    /// More, by code: `field`, `requiredScope`, `requiredRoles`, `limit`, `retryAfterMs`.
    details: Option<Details>,
    /// The request, as in `x-request-id`.
    request_id: String,
    /// Whether the same request may succeed later.
    retryable: bool,
}

#[derive(Debug)]
struct Details(Map<String, Value>);

inline_type!([] Details, "details", MetaSchema::new("object"));

impl ToJSON for Details {
    fn to_json(&self) -> Option<Value> {
        Some(Value::Object(self.0.clone()))
    }
}
impl ParseFromJSON for Details {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        Ok(Self(serde_json::from_value(value.unwrap_or_default())?))
    }
}

/// A failure on its way out.
#[derive(Debug)]
pub struct ApiError {
    code: Code,
    message: String,
    details: Map<String, Value>,
    retry_after: Option<Duration>,
    /// For the log only.
    inside: Option<String>,
}

impl ApiError {
    /// A failure that is about nothing in particular.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let (message, details) = (message.into(), Map::new());
        Self { code, message, details, retry_after: None, inside: None }
    }

    /// The answer to a path or id that leads nowhere.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(Code::NotFound, "there is no such resource or route")
    }

    /// The answer to a key without the scope that the operation needs.
    pub fn lacks_scope(scope: Scope) -> impl Fn(Refused) -> Self {
        move |refused| Self::from(refused).detail("requiredScope", scope.as_str())
    }

    /// The answer to an operator whose role may not call the operation.
    pub fn lacks_role(roles: &'static [Role]) -> impl Fn(Refused) -> Self {
        let roles: Vec<_> = roles.iter().map(|role| role.as_str()).collect();
        move |refused| Self::from(refused).detail("requiredRoles", roles.clone())
    }

    /// The answer to a key whose request window is used up.
    #[must_use]
    pub fn rate_limited(retry_after: Duration) -> Self {
        let ms = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
        Self::new(Code::RateLimited, "too many requests with this key; slow down")
            .detail("retryAfterMs", ms)
            .retry_after(retry_after)
    }

    /// The answer to what is our own bug, which is only logged.
    pub fn internal(inside: impl fmt::Display) -> Self {
        Self::new(Code::InternalError, "the server failed; it was logged under the request id")
            .inside(inside)
    }

    fn unavailable(inside: impl fmt::Display) -> Self {
        Self::new(Code::Unavailable, "the server cannot do this at the moment; try again")
            .inside(inside)
    }

    fn runtime(inside: impl fmt::Display) -> Self {
        Self::new(Code::RuntimeError, "the sandbox's runtime failed").inside(inside)
    }

    /// Why, for programs.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.code
    }

    /// Why, for people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Adds a member to the envelope's `details`.
    #[must_use]
    pub fn detail(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }

    fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    fn inside(mut self, text: impl fmt::Display) -> Self {
        self.inside = Some(text.to_string());
        self
    }

    /// Prints the envelope and logs what must not be in it.
    #[must_use]
    pub fn answer(self, request_id: &str) -> Response {
        let status = status(self.code);
        // An app in a sandbox that does not answer is its tenant's to mend.
        if status.is_server_error() && self.code != Code::PreviewUnavailable {
            let inside = self.inside.as_deref().unwrap_or_default();
            tracing::warn!(request = request_id, code = self.code.as_str(), inside, "failed");
        }
        let view = ErrorEnvelope {
            error: ErrorView {
                code: self.code.as_str().to_owned(),
                message: self.message,
                details: (!self.details.is_empty()).then_some(Details(self.details)),
                request_id: request_id.to_owned(),
                retryable: self.code.retryable(),
            },
        };
        let mut response = super::responses::json(status, super::responses::print(&view));
        let is_busy = matches!(self.code.status(), 429 | 503);
        if let Some(after) = self.retry_after.or(is_busy.then_some(RETRY_AFTER)) {
            // Whole seconds, never 0: a client that comes back at once is refused again.
            let seconds = after.as_millis().div_ceil(1000).max(1);
            let seconds = HeaderValue::from_str(&seconds.to_string()).expect("digits");
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}

fn status(code: Code) -> StatusCode {
    StatusCode::from_u16(code.status()).expect("the codes' statuses are HTTP's")
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.message)
    }
}
impl std::error::Error for ApiError {}

/// So that a handler's `?` works; the envelope is printed outermost, where the request id is known.
impl ResponseError for ApiError {
    fn status(&self) -> StatusCode {
        status(self.code)
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        let error = Self::new(refused.code, refused.message);
        match refused.field {
            Some(field) => error.detail("field", field),
            None => error,
        }
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(refused) => refused.into(),
            Error::Store(error) => error.into(),
            Error::Driver(error) => error.into(),
            Error::Guest { field, source } => guest::refusal(field, &source),
            Error::RateLimited { retry_after } => Self::rate_limited(retry_after),
            Error::QuotaExceeded { what, limit } => {
                Self::new(Code::QuotaExceeded, format!("the plan allows {limit} {what}"))
                    .detail("limit", limit)
            }
            Error::InProgress => Self::new(
                Code::IdempotencyRequestInProgress,
                "the first request with this Idempotency-Key is still running",
            )
            .retry_after(RETRY_AFTER),
            Error::NotReady => {
                Self::new(Code::RuntimeError, "the sandbox did not get there in time")
            }
            Error::Overloaded(what) => Self::unavailable(what),
        }
    }
}

impl From<store::Error> for ApiError {
    fn from(error: store::Error) -> Self {
        match error {
            // Also what belongs to somebody else: the two must look the same.
            store::Error::Missing(what) => Self::new(Code::NotFound, format!("no such {what}")),
            store::Error::Taken(constraint) => {
                Self::new(Code::Conflict, "something else is in the way; look at the present state")
                    .inside(constraint)
            }
            store::Error::Stale => Self::new(
                Code::Conflict,
                "it was changed by somebody else at the same time; try again",
            ),
            store::Error::Unavailable(source) => Self::unavailable(source),
            store::Error::Corrupt(text) => Self::internal(text),
        }
    }
}

impl From<DriverError> for ApiError {
    fn from(error: DriverError) -> Self {
        match error.kind {
            ErrorKind::NoCapacity => Self::new(
                Code::ResourceAllocationFailed,
                "there is no room for this at the moment; try again",
            )
            .retry_after(Duration::from_secs(5))
            .inside(error),
            ErrorKind::Gone | ErrorKind::Unsupported | ErrorKind::TimedOut | ErrorKind::Host => {
                Self::runtime(error)
            }
        }
    }
}

/// Whatever ended a request early, ours or the framework's, whose texts are not for clients.
impl From<poem::Error> for ApiError {
    fn from(error: poem::Error) -> Self {
        let error = match error.downcast::<Self>() {
            Ok(ours) => return ours,
            Err(theirs) => theirs,
        };
        if error.is::<NotFoundError>()
            || error.is::<ParsePathError>()
            || error.is::<poem::error::ParsePathError>()
        {
            return Self::not_found();
        }
        if error.is::<MethodNotAllowedError>() {
            return Self::new(Code::MethodNotAllowed, "the route does not take this method");
        }
        if error.is::<ContentTypeError>() {
            return Self::new(
                Code::UnsupportedMediaType,
                "the content type must be application/json",
            );
        }
        if let Some(ParseParamError { name, .. }) = error.downcast_ref() {
            return Refused::invalid(*name, format!("{name} has a wrong value")).into();
        }
        if let Some(error) = error.downcast_ref::<ReadBodyError>() {
            return body_error(error);
        }
        if error.is::<ParseRequestPayloadError>() || error.status().is_client_error() {
            return Self::new(Code::InvalidRequest, "the request is malformed");
        }
        Self::internal(error)
    }
}

/// What became of reading a body.
#[must_use]
pub fn body_error(error: &ReadBodyError) -> ApiError {
    match error {
        ReadBodyError::PayloadTooLarge => {
            ApiError::new(Code::PayloadTooLarge, "the body is larger than this route takes")
        }
        ReadBodyError::Utf8(_) | ReadBodyError::Io(_) => {
            ApiError::new(Code::InvalidRequest, "the body could not be read")
        }
        ReadBodyError::BodyHasBeenTaken => ApiError::internal("the body was read twice"),
    }
}

/// The statuses of all errors that any operation documents, ascending. 405 is none: it is what a path
/// answers to a method that is no operation.
pub const STATUSES: [u16; 11] = [400, 401, 403, 404, 409, 410, 413, 415, 429, 500, 503];

impl ApiResponse for ApiError {
    fn meta() -> MetaResponses {
        let response = |status| MetaResponse {
            description: "An error.",
            status: Some(status),
            status_range: None,
            content: vec![MetaMediaType {
                content_type: super::responses::JSON,
                schema: ErrorEnvelope::schema_ref(),
            }],
            headers: vec![],
        };
        MetaResponses { responses: STATUSES.map(response).into() }
    }

    fn register(registry: &mut Registry) {
        ErrorEnvelope::register(registry);
    }
}

/// The answer to a panic, which is always our bug.
#[must_use]
pub fn panicked(request_id: &str) -> Response {
    tracing::error!(request = request_id, "a request panicked");
    ApiError::internal("panic").answer(request_id)
}
