//! What is known of one request, shared between the outermost layer, which prints it, and the
//! extractors, which find it out.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use domain::id::OrganizationId;
use poem::{FromRequest, Request, RequestBody};

use crate::{app::App, rate_limits::RateDecision};

/// The context of a request.
#[derive(Clone)]
pub struct Context(Arc<Inner>);

struct Inner {
    app: Arc<App>,
    request_id: String,
    seen: Mutex<Seen>,
}

/// What authentication found out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    /// Whose request it is.
    pub org_id: Option<OrganizationId>,
    /// What is left of the key's request window.
    pub rate: Option<RateDecision>,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("request_id", &self.0.request_id).finish_non_exhaustive()
    }
}

impl Context {
    /// The context of a new request.
    #[must_use]
    pub fn new(app: Arc<App>) -> Self {
        let request_id = format!("req_{:032x}", rand::random::<u128>());
        Self(Arc::new(Inner { app, request_id, seen: Mutex::default() }))
    }

    /// The context that the outermost layer has put into a request.
    ///
    /// # Panics
    /// For a request that did not come through the outermost layer.
    #[must_use]
    pub fn of(request: &Request) -> &Self {
        request.data().expect("every request passes the outermost layer")
    }

    /// What use cases work with.
    #[must_use]
    pub fn app(&self) -> &Arc<App> {
        &self.0.app
    }

    /// The id that is sent with the answer and logged.
    #[must_use]
    pub fn request_id(&self) -> &str {
        &self.0.request_id
    }

    /// Notes something for the outermost layer.
    pub fn note(&self, note: impl FnOnce(&mut Seen)) {
        note(&mut self.0.seen.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// What was noted.
    #[must_use]
    pub fn seen(&self) -> Seen {
        *self.0.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> FromRequest<'a> for Context {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> poem::Result<Self> {
        Ok(Self::of(request).clone())
    }
}
