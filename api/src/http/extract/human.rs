//! People on the wire: who makes keys, and who may list them besides the keys themselves (contract,
//! section 8.3). A person is believed at their word, so a request must show that it comes from a program
//! on this host: not through a proxy, and not from a page in somebody's browser.

use std::{
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

use poem::{
    Request, RequestBody,
    http::{header, uri::Authority},
};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaSecurityScheme, Registry},
};

use domain::{Code, Refused};
use store::Reach;

use super::{
    auth::{self, API_KEY, BEARER},
    drain,
};
use crate::{
    app::{
        App,
        human_sessions::{Claims, HumanSession},
    },
    http::{context::Context, error::ApiError},
};

/// The headers in which somebody says who they are, with the names of their security schemes; they
/// belong together.
pub const HUMAN_HEADERS: [(&str, &str); 3] =
    [("humanUser", USER_ID), ("humanOrganization", ORG_ID), ("humanRole", ROLE)];
const HUMAN: &str = HUMAN_HEADERS[0].0;
const ORG_ID: &str = "x-crownest-org-id";
const ROLE: &str = "x-crownest-role";
const USER_ID: &str = "x-crownest-user-id";

/// What proxies add. A request with any of these comes from somewhere else, whatever its peer is.
const PROXY_HEADERS: [&str; 11] = [
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-forwarded-server",
    "x-real-ip",
    "x-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
];
/// What only browsers add. `Sec-Fetch-Mode` is none of these: Node's `fetch` adds it too.
const BROWSER_HEADERS: [&str; 3] = ["origin", "referer", "sec-fetch-site"];

/// A person. Keys are told that they may not.
#[derive(Debug)]
pub struct Human {
    app: Arc<App>,
    /// Who it is.
    pub session: HumanSession,
}

impl Human {
    /// What use cases work with.
    #[must_use]
    pub const fn app(&self) -> &Arc<App> {
        &self.app
    }
}

impl<'a> ApiExtractor<'a> for Human {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        register(registry);
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![HUMAN]
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        match human(request).await {
            Ok(session) => Ok(Self { app: Arc::clone(Context::of(request).app()), session }),
            Err(error) => {
                drain(body).await;
                Err(error.into())
            }
        }
    }
}

async fn human(request: &Request) -> Result<HumanSession, ApiError> {
    let credential = auth::credential(request);
    if credential.is_some() {
        auth::admit(request, credential).await?;
        let text = "a key cannot make keys; the operator or a person can";
        return Err(Refused::new(Code::Forbidden, text).into());
    }
    open(request).await
}

/// Whoever may list keys: a caller with the scope for it, or a person.
#[derive(Debug)]
pub struct KeyReader {
    app: Arc<App>,
    /// Whose keys.
    pub reach: Reach,
}

impl KeyReader {
    /// What use cases work with.
    #[must_use]
    pub const fn app(&self) -> &Arc<App> {
        &self.app
    }
}

impl<'a> ApiExtractor<'a> for KeyReader {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        auth::register(registry);
        register(registry);
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![BEARER, API_KEY, HUMAN]
    }

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let credential = auth::credential(request);
        let says_who = HUMAN_HEADERS.iter().any(|(_, name)| request.headers().contains_key(*name));
        let reach = if credential.is_none() && says_who {
            open(request).await?.reach()
        } else {
            auth::admit(request, credential).await?.reach()
        };
        Ok(Self { app: Arc::clone(Context::of(request).app()), reach })
    }
}

fn register(registry: &mut Registry) {
    for (scheme, header) in HUMAN_HEADERS {
        let scheme_of_header = MetaSecurityScheme {
            ty: "apiKey",
            description: Some(
                "Who asks, in their own words: taken from programs on the server's own host, if the \
                 operator has switched it on for development. The three belong together.",
            ),
            name: Some(header),
            key_in: Some("header"),
            scheme: None,
            bearer_format: None,
            flows: None,
            openid_connect_url: None,
        };
        registry.create_security_scheme(scheme, scheme_of_header);
    }
}

async fn open(request: &Request) -> Result<HumanSession, ApiError> {
    let context = Context::of(request);
    let app = context.app();
    if !app.config.dev_human_sessions {
        return Err(unauthorized("this needs a person, and this server knows none").into());
    }
    let peer = request.remote_addr().as_socket_addr().map(SocketAddr::ip);
    check_local(request, peer)?;
    let claims = claims(request)?;
    let origin = peer.map_or_else(String::new, |address| address.to_string());
    let session = HumanSession::open(app, claims, context.request_id(), origin).await?;
    let org_id = session.organization.id;
    context.note(|seen| seen.org_id = Some(org_id));
    tracing::Span::current().record("org", tracing::field::display(org_id));
    Ok(session)
}

fn unauthorized(text: impl Into<String>) -> Refused {
    Refused::new(Code::Unauthorized, text)
}

/// Refuses what may come from elsewhere than from a program on this host. The custom headers make a
/// browser ask first, and nobody answers it; the checks of `Origin` and `Host` hold even where a page
/// has got round that by a name of its own for 127.0.0.1.
fn check_local(request: &Request, peer: Option<IpAddr>) -> Result<(), Refused> {
    if !peer.is_some_and(|address| address.to_canonical().is_loopback()) {
        return Err(unauthorized("people are taken at their word on loopback only"));
    }
    let given = |name: &&&str| request.headers().contains_key(**name);
    if let Some(name) = PROXY_HEADERS.iter().find(given) {
        return Err(unauthorized(format!("a request with {name} came through a proxy")));
    }
    if let Some(name) = BROWSER_HEADERS.iter().find(given) {
        return Err(unauthorized(format!("a request with {name} came from a browser")));
    }
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    if !host.is_some_and(is_loopback) {
        return Err(unauthorized("the Host header must be localhost or a loopback address"));
    }
    Ok(())
}

/// Whether a `Host` header names this host by itself, and not by a name that others give out.
fn is_loopback(host: &str) -> bool {
    let Ok(authority) = Authority::from_str(host) else { return false };
    let name = authority.host();
    let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

fn claims(request: &Request) -> Result<Claims, Refused> {
    Ok(Claims {
        org_id: said(request, ORG_ID)?,
        user_id: said(request, USER_ID)?,
        role: said(request, ROLE)?,
    })
}

/// What exactly one header of this name says.
fn said<T: FromStr>(request: &Request, name: &str) -> Result<T, Refused> {
    let mut values = request.headers().get_all(name).iter();
    let value = values.next().filter(|_| values.next().is_none());
    let value = value.and_then(|value| value.to_str().ok()?.parse().ok());
    value.ok_or_else(|| unauthorized(format!("say who you are: one well-formed {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_request_of_a_program_on_this_host_is_local() {
        let host = ("host", "127.0.0.1:8787");
        for (peer, headers, local, why) in [
            (Some("127.0.0.1"), vec![host], true, "the command line"),
            (Some("::1"), vec![("host", "[::1]:8787")], true, "the same over IPv6"),
            (Some("::ffff:127.0.0.1"), vec![("host", "LOCALHOST:1")], true, "a mapped address"),
            (Some("127.0.0.1"), vec![host, ("sec-fetch-mode", "cors")], true, "Node's fetch"),
            (None, vec![host], false, "no peer"),
            (Some("192.0.2.1"), vec![host], false, "another host"),
            (Some("::ffff:192.0.2.1"), vec![host], false, "another host, mapped"),
            (Some("192.0.2.1"), vec![host, ("x-forwarded-for", "127.0.0.1")], false, "a lie"),
            (Some("127.0.0.1"), vec![host, ("x-forwarded-for", "127.0.0.1")], false, "a proxy"),
            (Some("127.0.0.1"), vec![host, ("forwarded", "for=127.0.0.1")], false, "a proxy"),
            (Some("127.0.0.1"), vec![host, ("via", "1.1 x")], false, "a proxy"),
            (Some("127.0.0.1"), vec![host, ("x-real-ip", "")], false, "a proxy, saying nothing"),
            (Some("127.0.0.1"), vec![host, ("origin", "null")], false, "a page"),
            (Some("127.0.0.1"), vec![host, ("sec-fetch-site", "same-origin")], false, "a page"),
            (Some("127.0.0.1"), vec![], false, "no host"),
            (Some("127.0.0.1"), vec![("host", "rebound.example:8787")], false, "DNS rebinding"),
            (Some("127.0.0.1"), vec![("host", "127.0.0.1.example")], false, "a name like it"),
            (Some("127.0.0.1"), vec![("host", "localhost.example")], false, "a name like it"),
        ] {
            let mut request = Request::builder();
            for (name, value) in headers {
                request = request.header(name, value);
            }
            let peer = peer.map(|address| address.parse().unwrap());
            assert_eq!(check_local(&request.finish(), peer).is_ok(), local, "{why}");
        }
    }

    #[test]
    fn a_header_that_is_there_twice_says_nothing() {
        let request = |values: &[&str]| {
            let builder = values.iter().fold(Request::builder(), |b, v| b.header(ROLE, *v));
            builder.finish()
        };
        assert_eq!(said::<String>(&request(&["owner"]), ROLE).unwrap(), "owner");
        assert!(said::<String>(&request(&["owner", "owner"]), ROLE).is_err());
        assert!(said::<String>(&request(&[]), ROLE).is_err());
    }
}
