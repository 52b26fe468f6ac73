//! What handlers answer with. Every answer with a JSON body is printed here, once, so that what is
//! stored for a replay is what is sent.

use std::marker::PhantomData;

use bytes::Bytes;
use futures_util::Stream;
use poem::{
    Body, IntoResponse, Response,
    http::{HeaderValue, StatusCode, header},
};
use poem_openapi::{
    ApiResponse,
    registry::{MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry},
    types::{ToJSON, Type},
};

use crate::app::idempotency::Answer;

/// The content type of every JSON answer.
pub const JSON: &str = "application/json";

/// Prints a view.
#[must_use]
pub fn print(view: &impl ToJSON) -> Vec<u8> {
    serde_json::to_vec(&view.to_json()).expect("a JSON value can be printed")
}

/// A printed view with its status, as idempotency stores it.
#[must_use]
pub fn answer(status: StatusCode, view: &impl ToJSON) -> Answer {
    Answer { status: status.as_u16(), body: print(view) }
}

/// A response of printed JSON.
#[must_use]
pub fn json(status: StatusCode, body: Vec<u8>) -> Response {
    Response::builder().status(status).content_type(JSON).body(body)
}

/// Makes the type of a page of a list (contract, section 4): a cursor exactly when there is more. The
/// cursor is the last item's id, or what is said behind `by`.
macro_rules! list_view {
    ($(#[$doc:meta])* $list:ident of $view:ty) => {
        crate::http::responses::list_view! { $(#[$doc])* $list of $view, by |item| item.id.0 }
    };
    ($(#[$doc:meta])* $list:ident of $view:ty, by |$item:ident| $cursor:expr) => {
        $(#[$doc])*
        #[derive(Debug, poem_openapi::Object)]
        #[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
        pub struct $list {
            /// The items, newest first.
            data: Vec<$view>,
            /// Whether older ones follow.
            has_more: bool,
            /// Where the next page starts, if one does.
            next_cursor: Option<String>,
        }

        impl $list {
            fn new(data: Vec<$view>, has_more: bool) -> Self {
                let last = data.last().filter(|_| has_more);
                let next_cursor = last.map(|$item| $cursor.to_string());
                Self { data, has_more, next_cursor }
            }
        }
    };
}
pub(super) use list_view;

/// Makes the type of a page of what is only ever added to: there is always a cursor, for what comes.
macro_rules! feed_view {
    ($(#[$doc:meta])* $list:ident of $view:ty) => {
        $(#[$doc])*
        #[derive(Debug, poem_openapi::Object)]
        #[oai(rename_all = "camelCase")]
        pub struct $list {
            /// The items, oldest first.
            data: Vec<$view>,
            /// Whether there are more already.
            has_more: bool,
            /// Where to go on, now or later.
            next_cursor: String,
        }

        impl $list {
            fn new(data: Vec<$view>, has_more: bool, next: impl ToString) -> Self {
                Self { data, has_more, next_cursor: next.to_string() }
            }
        }
    };
}
pub(super) use feed_view;

fn meta(status: u16, content_type: &'static str, schema: MetaSchemaRef) -> MetaResponse {
    MetaResponse {
        description: "Success.",
        status: Some(status),
        status_range: None,
        content: vec![MetaMediaType { content_type, schema }],
        headers: vec![],
    }
}

/// 200 with a view.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<T: ToJSON> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        json(StatusCode::OK, print(&self.0))
    }
}

impl<T: Type> ApiResponse for Json<T> {
    fn meta() -> MetaResponses {
        MetaResponses { responses: vec![meta(200, JSON, T::schema_ref())] }
    }
    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

/// A view `T` that was printed before, perhaps for an earlier request with the same idempotency key.
/// `STATUS` is what it is sent with, or `OTHER` where an operation has two outcomes.
#[derive(Debug)]
pub struct Stored<T, const STATUS: u16, const OTHER: u16 = STATUS>(Answer, PhantomData<fn() -> T>);

impl<T, const STATUS: u16, const OTHER: u16> From<Answer> for Stored<T, STATUS, OTHER> {
    fn from(answer: Answer) -> Self {
        Self(answer, PhantomData)
    }
}

impl<T: Send, const STATUS: u16, const OTHER: u16> IntoResponse for Stored<T, STATUS, OTHER> {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::OK);
        json(status, self.0.body)
    }
}

impl<T: Type, const STATUS: u16, const OTHER: u16> ApiResponse for Stored<T, STATUS, OTHER> {
    fn meta() -> MetaResponses {
        let mut responses = vec![meta(STATUS, JSON, T::schema_ref())];
        if OTHER != STATUS {
            responses.push(meta(OTHER, JSON, T::schema_ref()));
        }
        MetaResponses { responses }
    }
    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

/// A live stream of server-sent events, each of which reads as a `T`.
#[derive(Debug)]
pub struct EventStream<T>(Body, PhantomData<fn() -> T>);

impl<T> EventStream<T> {
    /// A stream of complete frames.
    pub fn new(frames: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        use futures_util::StreamExt;
        Self(Body::from_bytes_stream(frames.map(Ok::<_, std::io::Error>)), PhantomData)
    }
}

impl<T: Send> IntoResponse for EventStream<T> {
    fn into_response(self) -> Response {
        Response::builder()
            .content_type("text/event-stream")
            .header(header::CACHE_CONTROL, "no-cache")
            // nginx buffers unless told not to, and a buffered stream is no stream.
            .header("x-accel-buffering", "no")
            .body(self.0)
    }
}

impl<T: Type> ApiResponse for EventStream<T> {
    fn meta() -> MetaResponses {
        MetaResponses { responses: vec![meta(200, "text/event-stream", T::schema_ref())] }
    }
    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

/// The text of a log, as long as it is.
#[derive(Debug)]
pub struct TextStream(Body);

impl TextStream {
    /// A stream of UTF-8.
    pub fn new(pieces: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static) -> Self {
        Self(Body::from_bytes_stream(pieces))
    }
}

impl IntoResponse for TextStream {
    fn into_response(self) -> Response {
        Response::builder()
            .content_type("text/plain; charset=utf-8")
            .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
            .body(self.0)
    }
}

impl ApiResponse for TextStream {
    fn meta() -> MetaResponses {
        let text = MetaSchemaRef::Inline(Box::new(MetaSchema::new("string")));
        MetaResponses { responses: vec![meta(200, "text/plain", text)] }
    }
    fn register(_: &mut Registry) {}
}

const OCTETS: &str = "application/octet-stream";

/// The bytes of a file, never to be shown by a browser as a page of ours.
#[derive(Debug)]
pub struct Download {
    name: String,
    size_bytes: u64,
    content_type: String,
    body: Body,
}

impl Download {
    /// A stream of so many bytes under a name.
    pub fn new(
        name: impl Into<String>,
        size_bytes: u64,
        pieces: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    ) -> Self {
        let (name, content_type) = (name.into(), OCTETS.to_owned());
        Self { name, size_bytes, content_type, body: Body::from_bytes_stream(pieces) }
    }

    /// The same, called what it is.
    #[must_use]
    pub fn of_type(self, content_type: Option<String>) -> Self {
        Self { content_type: content_type.unwrap_or(self.content_type), ..self }
    }
}

impl IntoResponse for Download {
    fn into_response(self) -> Response {
        Response::builder()
            .content_type(&self.content_type)
            .header(header::CONTENT_LENGTH, self.size_bytes)
            .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
            .header(header::CONTENT_DISPOSITION, disposition(&self.name))
            .body(self.body)
    }
}

impl ApiResponse for Download {
    fn meta() -> MetaResponses {
        let bytes = MetaSchema::new_with_format("string", "binary");
        let bytes = MetaSchemaRef::Inline(Box::new(bytes));
        MetaResponses { responses: vec![meta(200, OCTETS, bytes)] }
    }
    fn register(_: &mut Registry) {}
}

/// `attachment` with the name twice: plain for old clients, exact for the others (RFC 6266).
fn disposition(name: &str) -> HeaderValue {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ' ');
    let simple: String = name.chars().map(|c| if plain(c) { c } else { '_' }).collect();
    let exact: String = name.bytes().map(encode).collect();
    let text = format!("attachment; filename=\"{simple}\"; filename*=UTF-8''{exact}");
    HeaderValue::from_str(&text).expect("both forms of the name are printable ASCII")
}

fn encode(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_') {
        char::from(byte).to_string()
    } else {
        format!("%{byte:02X}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_downloads_cannot_break_out_of_their_header() {
        for (name, wanted) in [
            ("a.txt", "attachment; filename=\"a.txt\"; filename*=UTF-8''a.txt"),
            ("a\"\r\nb", "attachment; filename=\"a___b\"; filename*=UTF-8''a%22%0D%0Ab"),
            ("ü b", "attachment; filename=\"_ b\"; filename*=UTF-8''%C3%BC%20b"),
        ] {
            assert_eq!(disposition(name), wanted);
        }
    }
}
