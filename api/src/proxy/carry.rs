//! One request on its way: which preview, who asks, to the app, and back.

use std::{sync::Arc, time::Duration};

use domain::sandbox::Phase;
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode, Uri, Version,
    body::{Body as _, Incoming},
    http::{request, response},
    upgrade::OnUpgrade,
};
use store::{Everyone, Reach, previews::Found};
use tracing::Instrument;

use super::{
    Client,
    admit::{self, Admission, Asked},
    body::{self, Body},
    headers::{self, Origin},
    open::Visit,
    page::{self, Reader},
    pool::{Connection, no_answer, unavailable},
    silence::{Activity, Service},
    target, tunnel,
};
use crate::{
    app::{App, error::Error, readiness},
    http::error::ApiError,
    places::Place,
};

/// What is held while something is open through a preview.
type Held = (Visit, Place, Service);

/// Answers a request, whatever becomes of it.
pub async fn answer(app: &Arc<App>, client: &Client, request: Request<Incoming>) -> Response<Body> {
    let request_id = format!("req_{:032x}", rand::random::<u128>());
    // Neither the host nor the target: the one is as good as a password, the other may hold one.
    let span = tracing::debug_span!(
        "preview request",
        request = %request_id,
        method = %request.method(),
        preview = tracing::field::Empty
    );
    // All of this has limits of its own.
    let _work = client.activity.works();
    let carried = async {
        let mut reader = Reader::of(request.headers());
        let (head, incoming) = request.into_parts();
        let mut incoming = Some(incoming);
        let refused = match carry(app, client, head, &mut incoming, &request_id, &mut reader).await
        {
            Ok(answer) => return answer,
            Err(error) => error,
        };
        if let Some(unread) = incoming {
            page::drain(unread).await;
        }
        page::refusal(refused, reader, &request_id).await
    };
    let answer = carried.instrument(span.clone()).await;
    tracing::debug!(parent: &span, status = answer.status().as_u16(), "answered");
    answer
}

async fn carry(
    app: &Arc<App>,
    client: &Client,
    head: request::Parts,
    incoming: &mut Option<Incoming>,
    request_id: &str,
    reader: &mut Reader,
) -> Result<Response<Body>, ApiError> {
    let mut request = Request::from_parts(head, ());
    let host = target::host(&request)?.to_owned();
    let (target, token) = target::split(&request)?;
    let pattern = app.proxy.pattern().ok_or_else(ApiError::not_found)?;
    let slug = pattern.slug_of(&host).ok_or_else(ApiError::not_found)?;
    let previews = store::previews(Everyone::for_worker("proxy"));
    let found = previews.find_by_slug(app.db.read(), &slug).await?;
    let found = found.filter(|found| found.preview.revoked_at.is_none());
    let found = found.ok_or_else(ApiError::not_found)?;
    tracing::Span::current().record("preview", tracing::field::display(found.preview.id));
    reader.mode = Some(found.preview.auth_mode);
    let origin = Origin {
        peer: client.peer.ip().to_canonical(),
        host: &host,
        scheme: pattern.scheme(),
        trust_forwarded_for: app.config.trust_forwarded_for,
    };
    let address = origin.peer.to_string();
    let asked = Asked { request_id, origin: &address, target: &target, token: token.as_deref() };
    match admit::admit(app, pattern, &found, &request, &asked).await? {
        Admission::Granted => {}
        Admission::Exchange(answer) => return Ok(answer),
    }
    let (visit, place) = enter(app, &found).await?;
    let service = client.activity.serves(visit.ends());
    let held = (visit, place, service);
    let is_websocket = headers::wants_websocket(&request);
    let upgraded =
        is_websocket.then(|| (hyper::upgrade::on(&mut request), client.activity.clone()));
    headers::towards_app(request.headers_mut(), origin, is_websocket);
    let (method, fields) = (request.method().clone(), std::mem::take(request.headers_mut()));
    let going = Going { app, found: &found, method, target, fields };
    let (answer, connection) = going.send(incoming, &held.0).await?;
    come_back(app, &found, answer, connection, upgraded, held)
}

/// Sees that the preview can carry something now, and notes that it does.
async fn enter(app: &App, found: &Found) -> Result<(Visit, Place), ApiError> {
    let preview = &found.preview;
    if !preview.is_active() {
        return Err(unavailable("the sandbox has ended"));
    }
    if found.host != app.config.host {
        return Err(unavailable("the sandbox runs on another host; ask the server there"));
    }
    if found.phase != Phase::Ready || preview.expires_at <= app.clock.now() {
        let reach = Reach::Tenant { org: preview.org_id, projects: None };
        match readiness::ready(app, reach, preview.sandbox_id).await {
            Ok(_) => {}
            Err(Error::Refused(_)) => return Err(unavailable("the sandbox has ended")),
            Err(Error::NotReady) => return Err(unavailable("the sandbox does not come up")),
            Err(error) => return Err(error.into()),
        }
    }
    let place = app.proxy.places.take(preview.org_id);
    let place = place.ok_or(Error::Overloaded("requests through previews of the organization"))?;
    Ok((app.proxy.open.enter(preview), place))
}

/// A request as the app is to see it.
struct Going<'a> {
    app: &'a Arc<App>,
    found: &'a Found,
    method: Method,
    target: Uri,
    fields: HeaderMap,
}

impl Going<'_> {
    /// Sends it, and waits for the head of the answer. A connection that the app closed just now is no
    /// failure of the app: if nothing of the request can have been done, it is sent once more.
    async fn send(
        &self,
        incoming: &mut Option<Incoming>,
        visit: &Visit,
    ) -> Result<(Response<Incoming>, Connection), ApiError> {
        let seconds = self.app.config.preview_timeout_seconds;
        // A body that passes is no silence of the app, however long that takes.
        let progress = Activity::new();
        tokio::select! {
            exchanged = self.exchange(incoming, visit, &progress) => exchanged,
            () = progress.ceases(Duration::from_secs(seconds.into())) => {
                Err(unavailable(&format!("the app did not answer within {seconds} seconds")))
            }
            () = visit.ends().cancelled() => Err(unavailable("the preview has ended")),
        }
    }

    async fn exchange(
        &self,
        incoming: &mut Option<Incoming>,
        visit: &Visit,
        progress: &Activity,
    ) -> Result<(Response<Incoming>, Connection), ApiError> {
        let (pool, preview) = (&self.app.proxy.pool, &self.found.preview);
        let mut connection = pool.get(self.app, preview, visit.ends()).await?;
        let without_body = incoming.as_ref().is_none_or(|body| body.is_end_stream());
        let body = match incoming.take() {
            Some(body) if !without_body => {
                let progress = progress.clone();
                body::passing(body, visit.ends().clone(), move || progress.note(), (), |()| {})
            }
            _ => body::whole(""),
        };
        let mut failed = match connection.sender.try_send_request(self.request(body)).await {
            Ok(answer) => return Ok((answer, connection)),
            Err(failed) => failed,
        };
        if !connection.was_used {
            return Err(no_answer(failed.error()));
        }
        let is_safe = matches!(self.method, Method::GET | Method::HEAD | Method::OPTIONS);
        let again = match failed.take_message() {
            // Nothing of it was sent.
            Some(request) => request,
            None if is_safe && without_body => self.request(body::whole("")),
            None => return Err(no_answer(failed.error())),
        };
        let mut connection = pool.open(self.app, preview, visit.ends()).await?;
        let answer = connection.sender.send_request(again).await;
        answer.map(|answer| (answer, connection)).map_err(|error| no_answer(&error))
    }

    fn request(&self, body: Body) -> Request<Body> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.target.clone();
        *request.headers_mut() = self.fields.clone();
        request
    }
}

/// Makes the client's answer of the app's.
fn come_back(
    app: &Arc<App>,
    found: &Found,
    mut answer: Response<Incoming>,
    connection: Connection,
    upgraded: Option<(OnUpgrade, Activity)>,
    held: Held,
) -> Result<Response<Body>, ApiError> {
    let ends = held.0.ends().clone();
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let upgraded = upgraded.filter(|_| headers::is_websocket(answer.headers()));
        let Some((client, activity)) = upgraded else {
            return Err(unavailable("the app speaks a protocol that nobody asked for"));
        };
        let upstream = hyper::upgrade::on(&mut answer);
        tunnel::join(app, ends, (client, activity), upstream, (held, connection));
        let (mut head, _) = answer.into_parts();
        headers::towards_client(&mut head.headers, true);
        return Ok(respond(head, body::whole("")));
    }
    let (mut head, incoming) = answer.into_parts();
    headers::towards_client(&mut head.headers, false);
    let (pool, preview) = (app.proxy.pool.clone(), found.preview.id);
    let kept = (held, connection);
    let body = body::passing(
        incoming,
        ends,
        || {},
        kept,
        move |(_, connection)| {
            pool.put(preview, connection);
        },
    );
    Ok(respond(head, body))
}

/// An answer with nothing of the app's but status, fields and body.
fn respond(head: response::Parts, body: Body) -> Response<Body> {
    let mut answer = Response::new(body);
    *answer.status_mut() = head.status;
    *answer.version_mut() = Version::HTTP_11;
    *answer.headers_mut() = head.headers;
    answer
}
