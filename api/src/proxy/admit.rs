//! Who may open a preview: whoever has a key of the organization that sees the project, and, if it has
//! one, whoever has its token. A browser exchanges the token for a cookie: it cannot be read by the app,
//! goes to this preview's host alone, and opens nothing else. Keys are never taken from a URL.

use std::sync::Arc;

use chrono::TimeDelta;
use domain::{
    Code, Refused,
    id::PreviewId,
    preview::{AuthMode, Preview},
};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode, Uri,
    header::{self, HeaderValue},
};
use store::previews::Found;

use super::{
    address::Pattern,
    body::{Body, whole},
    headers, target,
};
use crate::{
    app::{App, error::Error, previews::token},
    http::error::ApiError,
    signing::Capability,
};

/// How long a browser that has shown the token is let in.
const COOKIE_LIFETIME: TimeDelta = crate::app::PREVIEW_COOKIE_LIFETIME;
/// Cookies of our name that are tried: a neighbor can put more of them beside ours.
const MAX_COOKIES: usize = 4;
/// What a cookie's signature is for, in the place of a method: no request has this one.
const PURPOSE: &str = "PREVIEW";

/// What a request shows.
#[derive(Debug, PartialEq, Eq)]
enum Shown<'r> {
    /// A key.
    Key(&'r str),
    /// A preview's token.
    Token(&'r str),
    /// The same, in the URL.
    TokenInUrl(&'r str),
    /// Nothing, or what is the app's; perhaps a cookie.
    Nothing,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Admission {
    /// It is let through.
    Granted,
    /// The browser is to come back with a cookie.
    Exchange(Response<Body>),
}

/// What a request is judged by.
#[derive(Debug)]
pub struct Asked<'r> {
    pub request_id: &'r str,
    /// The address that it came from.
    pub origin: &'r str,
    /// Its target as the app sees it.
    pub target: &'r Uri,
    /// The token in its URL.
    pub token: Option<&'r str>,
}

/// Lets a request through, or refuses it.
///
/// # Errors
/// `unauthorized`, `invalid_api_key`, `org_suspended`; `not_found` for a key that does not see the
/// preview.
pub async fn admit<B>(
    app: &Arc<App>,
    pattern: &Pattern,
    found: &Found,
    request: &Request<B>,
    asked: &Asked<'_>,
) -> Result<Admission, ApiError> {
    let preview = &found.preview;
    match shown(request.headers(), asked.token) {
        Shown::Key(key) => by_key(app, preview, key, asked).await?,
        Shown::Token(text) => by_token(app, found, text).await?,
        Shown::TokenInUrl(text) => {
            by_token(app, found, text).await?;
            let reads = matches!(*request.method(), Method::GET | Method::HEAD);
            if reads && !headers::wants_websocket(request) {
                let answer = exchange(app, pattern, preview, asked.target).await?;
                return Ok(Admission::Exchange(answer));
            }
        }
        Shown::Nothing => by_cookie(app, pattern, preview, request).await?,
    }
    Ok(Admission::Granted)
}

/// Bearer tokens and keys that are none of ours are the app's, which does not get to see them either.
fn shown<'r>(headers: &'r HeaderMap, in_url: Option<&'r str>) -> Shown<'r> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let bearer = text(header::AUTHORIZATION.as_str())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    let ours = |text: &&str| text.starts_with("cn_") || text.starts_with(token::PREFIX);
    if let Some(token) = text(headers::TOKEN) {
        return Shown::Token(token);
    }
    match bearer.filter(ours).or_else(|| text(headers::KEY).filter(ours)) {
        Some(token) if token.starts_with(token::PREFIX) => Shown::Token(token),
        Some(key) => Shown::Key(key),
        None => in_url.map_or(Shown::Nothing, Shown::TokenInUrl),
    }
}

async fn by_key(
    app: &App,
    preview: &Preview,
    key: &str,
    asked: &Asked<'_>,
) -> Result<(), ApiError> {
    let caller = app.auth.authenticate(Some(key), asked.request_id, asked.origin).await?;
    if caller.org_id() == preview.org_id && caller.sees_project(preview.project_id) {
        return Ok(());
    }
    // As one that is not there: the slug of another's preview tells nothing.
    Err(ApiError::not_found())
}

async fn by_token(app: &App, found: &Found, text: &str) -> Result<(), ApiError> {
    if !found.token_hash.is_some_and(|hash| token::opens(text, &hash)) {
        let text = "this is not the token of this preview";
        return Err(ApiError::new(Code::Unauthorized, text));
    }
    let org = found.preview.org_id;
    let organization = store::organizations::get(app.db.read(), org).await?;
    organization.standing.check()?;
    Ok(())
}

async fn by_cookie<B>(
    app: &App,
    pattern: &Pattern,
    preview: &Preview,
    request: &Request<B>,
) -> Result<(), ApiError> {
    let now = app.clock.now();
    for cookie in headers::own_cookies(request.headers()).take(MAX_COOKIES) {
        let path = path_of(preview.id);
        let capability = Capability { method: PURPOSE, path: &path };
        match app.signer.verify(&app.db, cookie, capability, now).await {
            Ok(org) if org == preview.org_id => {
                return check_site(
                    request.headers(),
                    request.method(),
                    &pattern.origin(&preview.slug),
                );
            }
            // A neighbor's, or an old one.
            Ok(_) | Err(Error::Refused(Refused { code: Code::Unauthorized, .. })) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(ApiError::new(Code::Unauthorized, way_in(preview.auth_mode)))
}

/// What to do about a 401.
const fn way_in(mode: AuthMode) -> &'static str {
    match mode {
        AuthMode::Token => {
            "this preview opens with its token: in a browser put ?crownest_preview_token=pvt_... \
             behind its URL once; programs send it in the header x-crownest-preview-token or as \
             'Authorization: Bearer pvt_...', or an API key instead"
        }
        AuthMode::Authenticated => {
            "this preview opens with an API key of its organization: send it as 'Authorization: \
             Bearer cn_live_...' or in x-api-key; one that browsers can open is made with authMode \
             token"
        }
    }
}

fn path_of(id: PreviewId) -> String {
    format!("/previews/{id}")
}

/// A browser sends the cookie with whatever a page of a neighboring preview asks for, which counts as
/// the same site: only following a link from elsewhere is fine.
fn check_site(headers: &HeaderMap, method: &Method, own: &str) -> Result<(), ApiError> {
    let text = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
    let from_elsewhere = text("origin").is_some_and(|origin| origin != own.as_bytes());
    let is_own =
        text("sec-fetch-site").is_none_or(|site| site == b"same-origin" || site == b"none");
    let follows_link = text("sec-fetch-mode") == Some(b"navigate")
        && matches!(*method, Method::GET | Method::HEAD);
    if from_elsewhere || !(is_own || follows_link) {
        let text = "a page of another site may not use a browser's access to this preview";
        return Err(ApiError::new(Code::Forbidden, text));
    }
    Ok(())
}

/// Sends a browser to the same URL without the token, with a cookie.
async fn exchange(
    app: &App,
    pattern: &Pattern,
    preview: &Preview,
    target: &Uri,
) -> Result<Response<Body>, ApiError> {
    let now = app.clock.now();
    let path = path_of(preview.id);
    let capability = Capability { method: PURPOSE, path: &path };
    let until = now + COOKIE_LIFETIME;
    let value = app.signer.sign(&app.db, preview.org_id, capability, now, until).await?;
    let [plain, secure] = headers::COOKIES;
    let (name, flag) = if pattern.is_secure() { (secure, "; Secure") } else { (plain, "") };
    let age = COOKIE_LIFETIME.num_seconds();
    let cookie = format!("{name}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{flag}");
    // Whole, because a path that begins with two slashes alone would lead elsewhere.
    let location = format!("{}{target}", pattern.origin(&preview.slug));
    let printable = |text: &str| HeaderValue::from_str(text).map_err(ApiError::internal);
    let mut answer = Response::new(whole(""));
    *answer.status_mut() = StatusCode::SEE_OTHER;
    for (name, value) in [
        (header::LOCATION, printable(&location)?),
        (header::SET_COOKIE, printable(&cookie)?),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ] {
        answer.headers_mut().insert(name, value);
    }
    Ok(answer)
}

/// The name that the page of a 401 asks for.
pub const PARAMETER: &str = target::TOKEN_PARAMETER;

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (hyper::header::HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        fields.iter().map(pair).collect()
    }

    #[test]
    fn where_a_credential_is_looked_for() {
        for (fields, in_url, wanted, why) in [
            (&[][..], None, Shown::Nothing, "nothing"),
            (&[("authorization", "Bearer cn_live_a")], None, Shown::Key("cn_live_a"), "a key"),
            (&[("authorization", "bearer  pvt_a")], None, Shown::Token("pvt_a"), "a token"),
            (&[("x-api-key", "cn_live_a")], None, Shown::Key("cn_live_a"), "the other header"),
            (&[("x-crownest-preview-token", "a")], None, Shown::Token("a"), "its own header"),
            (
                &[("x-crownest-preview-token", "pvt_a"), ("authorization", "Bearer cn_live_a")],
                None,
                Shown::Token("pvt_a"),
                "its own header and a key",
            ),
            (&[("authorization", "Bearer eyJ")], None, Shown::Nothing, "the app's own token"),
            (&[("authorization", "Basic cn_")], Some("t"), Shown::TokenInUrl("t"), "the URL"),
            (
                &[("x-api-key", "cn_live_a")],
                Some("t"),
                Shown::Key("cn_live_a"),
                "a key and the URL",
            ),
        ] {
            assert_eq!(shown(&map(fields), in_url), wanted, "{why}");
        }
    }

    #[test]
    fn neighbors_do_not_ride_on_a_cookie() {
        const OWN: &str = "http://p-a.preview.localhost:8788";
        const OTHER: &str = "http://p-b.preview.localhost:8788";
        for (method, fields, fine, why) in [
            ("GET", &[][..], true, "a program"),
            ("POST", &[("origin", OWN), ("sec-fetch-site", "same-origin")], true, "its own page"),
            ("GET", &[("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate")], true, "typed"),
            (
                "GET",
                &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")],
                true,
                "a link from elsewhere",
            ),
            (
                "POST",
                &[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "navigate")],
                false,
                "a form of elsewhere",
            ),
            ("POST", &[("origin", OTHER)], false, "a neighbor's form"),
            ("GET", &[("origin", OTHER)], false, "a neighbor's WebSocket"),
            ("GET", &[("origin", "null")], false, "a page without an origin"),
            (
                "GET",
                &[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors")],
                false,
                "a neighbor's image",
            ),
        ] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            assert_eq!(check_site(&map(fields), &method, OWN).is_ok(), fine, "{why}");
        }
    }
}
