//! Makes an HTTP/2 client of a byte stream: one connection, never a second, because a new stream may
//! lead to another boot of the sandbox, which the caller has to know.

use std::{
    io,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use protocol::guest_client::GuestClient;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::{CONNECT_DEADLINE, GuestError, GuestErrorKind};
use crate::driver::BoxedStream;

/// While a call is open, the connection is tried this often, and has this long to answer, so that a
/// watch notices within ten seconds that nobody is there any more.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(5);
/// What the agent may send on one call, and on all together, before it has been read: small beside
/// large, so that calls whose answers are read slowly do not hold up the others.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 64 << 20;
/// The largest message, in both directions. Answers are what a tenant's program makes of them.
const MAX_MESSAGE: usize = 1 << 20;

pub async fn channel(stream: BoxedStream) -> Result<Channel, GuestError> {
    let only = Mutex::new(Some(stream));
    let connector = service_fn(move |_| {
        let stream = only.lock().unwrap_or_else(PoisonError::into_inner).take();
        let lost = || io::Error::new(io::ErrorKind::NotConnected, "the connection is lost");
        std::future::ready(stream.map(TokioIo::new).ok_or_else(lost))
    });
    // The name is never looked up; it only has to be one.
    let endpoint = Endpoint::from_static("http://guest")
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_ANSWER);
    timeout(CONNECT_DEADLINE, endpoint.connect_with_connector(connector))
        .await
        .map_err(|_| GuestError::timed_out())?
        .map_err(|error| GuestError::new(GuestErrorKind::Gone, error))
}

pub async fn client(stream: BoxedStream) -> Result<GuestClient<Channel>, GuestError> {
    Ok(GuestClient::new(channel(stream).await?)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE))
}
