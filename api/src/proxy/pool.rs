//! Connections to apps: kept open between requests, bounded in number for each preview.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use domain::{Code, id::PreviewId, preview::Preview};
use drivers::guest::{GuestError, GuestErrorKind, Reason};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::Instrument;

use super::{MAX_HEAD, body::Body};
use crate::{app::App, http::error::ApiError};

/// Connections to one preview's app at a time; further requests wait for one.
const MAX_CONNECTIONS: usize = 64;
/// Connections to one preview's app that are kept for the next request.
const MAX_IDLE: usize = 16;
/// For how long; apps give up theirs after 5 seconds or more.
const IDLE: Duration = Duration::from_secs(20);
/// A request waits for this long for one of the connections.
const PATIENCE: Duration = Duration::from_secs(10);
/// A connection that has carried an answer is ready for the next request within this.
const READY: Duration = Duration::from_millis(250);

/// The connections of all previews.
#[derive(Debug, Clone, Default)]
pub struct Pool(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    slots: HashMap<PreviewId, Slot>,
    /// Nothing is kept any more: the server ends.
    is_closed: bool,
}

#[derive(Debug)]
struct Slot {
    places: Arc<Semaphore>,
    idle: Vec<(Connection, Instant)>,
}

/// A connection to an app. Dropped, it closes.
#[derive(Debug)]
pub struct Connection {
    pub sender: SendRequest<Body>,
    /// Whether it has carried a request before, so that the app may be about to close it.
    pub was_used: bool,
    /// Ends with this, whatever of a request an app that does not read has not taken.
    _carrier: AbortOnDropHandle<()>,
    _place: OwnedSemaphorePermit,
}

impl Pool {
    /// A connection that waits for a request, or a new one.
    ///
    /// # Errors
    /// `preview_unavailable` when nobody listens.
    pub async fn get(
        &self,
        app: &App,
        preview: &Preview,
        ends: &CancellationToken,
    ) -> Result<Connection, ApiError> {
        while let Some(mut connection) = self.take_idle(preview.id) {
            if let Ok(Ok(())) = timeout(READY, connection.sender.ready()).await {
                return Ok(connection);
            }
        }
        self.open(app, preview, ends).await
    }

    /// A new connection.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn open(
        &self,
        app: &App,
        preview: &Preview,
        ends: &CancellationToken,
    ) -> Result<Connection, ApiError> {
        let places =
            Arc::clone(&self.state().slots.entry(preview.id).or_insert_with(Slot::new).places);
        let place = timeout(PATIENCE, places.acquire_owned()).await;
        let Ok(Ok(place)) = place else {
            return Err(unavailable("all connections to the app are taken"));
        };
        let (driver, sandbox, port) = (app.driver.as_ref(), preview.sandbox_id, preview.port);
        let dialing =
            app.guests.call(driver, sandbox, |guest| async move { guest.dial(port).await });
        let stream = dialing.await.map_err(|error| not_reached(&error))?;
        let handshake =
            http1::Builder::new().max_header_size(MAX_HEAD).handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|error| no_answer(&error))?;
        let (ends, shutdown) = (ends.clone(), app.shutdown.clone());
        let carrier = app.proxy.tasks.spawn(
            async move {
                tokio::select! {
                    // What went wrong, whoever sent a request is told.
                    _ = connection.with_upgrades() => {}
                    () = ends.cancelled() => {}
                    () = shutdown.cancelled() => {}
                }
            }
            .in_current_span(),
        );
        let carrier = AbortOnDropHandle::new(carrier);
        Ok(Connection { sender, was_used: false, _carrier: carrier, _place: place })
    }

    /// Takes a connection back whose answer has passed whole.
    pub fn put(&self, preview: PreviewId, mut connection: Connection) {
        connection.was_used = true;
        let mut state = self.state();
        let is_closed = state.is_closed;
        let Some(slot) = state.slots.get_mut(&preview).filter(|_| !is_closed) else { return };
        if !connection.sender.is_closed() && slot.idle.len() < MAX_IDLE {
            slot.idle.push((connection, Instant::now()));
        }
    }

    /// Those with a connection.
    pub fn previews(&self) -> Vec<PreviewId> {
        self.state().slots.keys().copied().collect()
    }

    /// Drops what is kept, and keeps nothing from now on.
    pub fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        state.slots.values_mut().for_each(|slot| slot.idle.clear());
    }

    /// Drops what is kept of a preview.
    pub fn forget(&self, preview: PreviewId) {
        self.state().slots.remove(&preview);
    }

    /// Drops what has waited for too long.
    pub fn tidy(&self) {
        self.state().slots.retain(|_, slot| {
            slot.idle.retain(|(connection, since)| {
                since.elapsed() < IDLE && !connection.sender.is_closed()
            });
            !slot.idle.is_empty() || slot.places.available_permits() < MAX_CONNECTIONS
        });
    }

    /// The one that was used last, so that those beyond what is needed grow old.
    fn take_idle(&self, preview: PreviewId) -> Option<Connection> {
        let mut state = self.state();
        let slot = state.slots.get_mut(&preview)?;
        while let Some((connection, since)) = slot.idle.pop() {
            if since.elapsed() < IDLE && !connection.sender.is_closed() {
                return Some(connection);
            }
        }
        None
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(MAX_CONNECTIONS)), idle: Vec::new() }
    }
}

/// The answer to whoever wants what does not answer.
pub fn unavailable(text: &str) -> ApiError {
    ApiError::new(Code::PreviewUnavailable, text)
}

/// The same, when it is known why; that is for the log, and tells nothing of the platform.
pub fn no_answer(error: &dyn std::error::Error) -> ApiError {
    let source = error.source().map(ToString::to_string);
    tracing::debug!(%error, source, "an app does not answer as it should");
    unavailable("the app does not answer as HTTP says")
}

fn not_reached(error: &GuestError) -> ApiError {
    tracing::debug!(%error, "a port cannot be reached");
    match error.kind {
        GuestErrorKind::Refused(Reason::ConnectionRefused) => {
            unavailable("nothing listens at the port in the sandbox; start the app there")
        }
        GuestErrorKind::Refused(_)
        | GuestErrorKind::Gone
        | GuestErrorKind::TimedOut
        | GuestErrorKind::Protocol
        | GuestErrorKind::Source => unavailable("the sandbox cannot be reached"),
    }
}
