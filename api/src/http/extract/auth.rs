//! Who asks, and whether they may: credential, rate, scope, in that order, before anything else of a
//! request is looked at (contract, section 3). The first argument of every operation that has one.

use std::{
    net::{IpAddr, SocketAddr},
    ops::Deref,
    sync::Arc,
};

use poem::{Request, RequestBody, http::header};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaSecurityScheme, Registry},
};

use domain::scope::Scope;
use uuid::Uuid;

use super::{drain, query};
use crate::{
    app::{App, caller::Caller},
    http::{
        context::Context,
        error::ApiError,
        operations::{self, Needs},
    },
};

pub(super) const BEARER: &str = "bearerAuth";
pub(super) const API_KEY: &str = "apiKeyAuth";
const API_KEY_HEADER: &str = "x-api-key";

/// A caller who holds the scope of the operation.
#[derive(Debug)]
pub struct Auth {
    app: Arc<App>,
    caller: Caller,
}

impl Deref for Auth {
    type Target = Caller;
    fn deref(&self) -> &Caller {
        &self.caller
    }
}

impl Auth {
    /// What use cases work with.
    #[must_use]
    pub const fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// Refuses unless the caller also holds a scope that only some requests of the operation need.
    ///
    /// # Errors
    /// `forbidden`.
    pub fn must_also(&self, scope: Scope) -> Result<(), ApiError> {
        self.may(scope).map_err(ApiError::lacks_scope(scope))
    }
}

impl<'a> ApiExtractor<'a> for Auth {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        register(registry);
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![BEARER, API_KEY]
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        match admit(request, credential(request)).await {
            Ok(caller) => Ok(Self { app: Arc::clone(Context::of(request).app()), caller }),
            Err(error) => {
                drain(body).await;
                Err(error.into())
            }
        }
    }
}

/// A caller, or whoever holds a link that a caller made.
#[derive(Debug)]
pub enum Access {
    /// A caller who holds the scope of the operation.
    Caller(Box<Caller>),
    /// The link's token, not checked yet.
    Token(String),
}

impl<'a> ApiExtractor<'a> for Access {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        register(registry);
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![BEARER, API_KEY]
    }

    fn has_security_fallback() -> bool {
        true
    }

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let credential = credential(request);
        let token = query::pairs(request).into_iter().find(|(name, _)| name == "token");
        match (credential, token) {
            // A link stays usable with a key after its token has ended.
            (None, Some((_, token))) => Ok(Self::Token(token)),
            (credential, _) => Ok(Self::Caller(Box::new(admit(request, credential).await?))),
        }
    }
}

pub(super) fn register(registry: &mut Registry) {
    let scheme = |ty, description| MetaSecurityScheme {
        ty,
        description: Some(description),
        name: None,
        key_in: None,
        scheme: None,
        bearer_format: None,
        flows: None,
        openid_connect_url: None,
    };
    let bearer = scheme("http", "An API key as `Authorization: Bearer cn_live_...`.");
    let bearer = MetaSecurityScheme { scheme: Some("bearer"), ..bearer };
    registry.create_security_scheme(BEARER, bearer);
    let api_key = scheme("apiKey", "An API key as `x-api-key: cn_live_...`.");
    let api_key =
        MetaSecurityScheme { name: Some(API_KEY_HEADER), key_in: Some("header"), ..api_key };
    registry.create_security_scheme(API_KEY, api_key);
}

pub(super) async fn admit(request: &Request, credential: Option<&str>) -> Result<Caller, ApiError> {
    let context = Context::of(request);
    let app = context.app();
    let origin = origin(request, app.config.trust_forwarded_for);
    let caller = app.auth.authenticate(credential, context.request_id(), &origin).await?;
    context.note(|seen| seen.org_id = Some(caller.org_id()));
    tracing::Span::current().record("org", tracing::field::display(caller.org_id()));
    count(context, caller.key.id.uuid())?;
    match operations::of(request).needs {
        Needs::Nothing => {}
        Needs::Scope(scope) => caller.may(scope).map_err(ApiError::lacks_scope(scope))?,
        // A tenant has no role. The table's test keeps such a row from being here.
        Needs::Role(_) => return Err(ApiError::not_found()),
    }
    Ok(caller)
}

/// Counts a request of a key against its rate.
pub(super) fn count(context: &Context, key: Uuid) -> Result<(), ApiError> {
    let rate = context.app().rate_limits.check(key);
    context.note(|seen| seen.rate = Some(rate));
    rate.retry_after.map_or(Ok(()), |retry_after| Err(ApiError::rate_limited(retry_after)))
}

/// The credential of a request. A bearer token goes before `x-api-key`; an `Authorization` of another
/// scheme is somebody else's, such as a proxy's.
pub(super) fn credential(request: &Request) -> Option<&str> {
    let api_key = request.headers().get(API_KEY_HEADER).and_then(|value| value.to_str().ok());
    bearer(request).or(api_key).filter(|text| !text.is_empty())
}

pub(super) fn bearer(request: &Request) -> Option<&str> {
    let (scheme, token) =
        request.headers().get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The address that a request came from: the peer's, or what a trusted proxy in front wrote last.
pub(super) fn origin(request: &Request, trust_forwarded_for: bool) -> String {
    let forwarded = request.headers().get_all("x-forwarded-for").iter().next_back();
    let forwarded = forwarded
        .filter(|_| trust_forwarded_for)
        .and_then(|value| value.to_str().ok())
        .and_then(|list| list.rsplit(',').next())
        .and_then(|last| last.trim().parse::<IpAddr>().ok());
    let peer = || request.remote_addr().as_socket_addr().map(SocketAddr::ip);
    forwarded.or_else(peer).map_or_else(String::new, |address| address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_trusted_proxy_says_where_a_request_comes_from() {
        for (header, trusted, wanted) in [
            (Some("192.0.2.7"), true, "192.0.2.7"),
            (Some("192.0.2.7"), false, ""),
            (Some("10.0.0.1, 192.0.2.7"), true, "192.0.2.7"),
            (Some("<script>"), true, ""),
            (None, true, ""),
        ] {
            let mut request = Request::builder();
            if let Some(value) = header {
                request = request.header("x-forwarded-for", value);
            }
            assert_eq!(origin(&request.finish(), trusted), wanted, "{header:?} {trusted}");
        }
    }

    #[test]
    fn where_credentials_are_looked_for() {
        for (authorization, api_key, wanted, why) in [
            (None, None, None, "nothing"),
            (Some("Bearer a"), None, Some("a"), "the usual form"),
            (Some("bearer   a "), None, Some("a"), "case and white space"),
            (None, Some("b"), Some("b"), "the other form"),
            (Some("Bearer a"), Some("b"), Some("a"), "both"),
            (Some("Basic a"), Some("b"), Some("b"), "another scheme"),
            (Some("Basic a"), None, None, "another scheme alone"),
            (Some("Bearer "), None, None, "nothing after the scheme"),
            (Some("cn_live_x"), None, None, "no scheme"),
        ] {
            let mut request = Request::builder();
            for (name, value) in [("authorization", authorization), (API_KEY_HEADER, api_key)] {
                if let Some(value) = value {
                    request = request.header(name, value);
                }
            }
            assert_eq!(credential(&request.finish()), wanted, "{why}");
        }
    }
}
