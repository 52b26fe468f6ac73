//! Which preview a request is for, and what of its target the app gets to see.

use domain::{Code, Refused};
use hyper::{Method, Request, Uri, header};

use crate::http::error::ApiError;

/// The query parameter that carries a preview's token into a browser.
pub const TOKEN_PARAMETER: &str = "crownest_preview_token";

/// The one host that a request names. A request that names two is answered to nobody: somebody before
/// or behind us might look at the other one.
///
/// # Errors
/// `invalid_request`.
pub fn host<B>(request: &Request<B>) -> Result<&str, ApiError> {
    let refuse = |text: &str| ApiError::from(Refused::invalid("host", text));
    let mut fields = request.headers().get_all(header::HOST).iter();
    let (field, more) = (fields.next(), fields.next().is_some());
    if more {
        return Err(refuse("there must be one Host"));
    }
    let field = field.map(|value| value.to_str().map_err(|_| refuse("the Host is malformed")));
    let field = field.transpose()?;
    let target = request.uri().authority().map(|authority| authority.as_str());
    match (field, target) {
        (Some(host), None) | (None, Some(host)) => Ok(host),
        (Some(host), Some(target)) if host.eq_ignore_ascii_case(target) => Ok(host),
        (Some(_), Some(_)) => Err(refuse("the Host must be that of the request's target")),
        (None, None) => Err(refuse("there must be a Host")),
    }
}

/// The target as the app sees it: path and query alone, without the platform's token; and that token.
///
/// # Errors
/// `method_not_allowed` for what only forward proxies are asked.
pub fn split<B>(request: &Request<B>) -> Result<(Uri, Option<String>), ApiError> {
    if request.method() == Method::CONNECT {
        return Err(ApiError::new(Code::MethodNotAllowed, "a preview is no way to elsewhere"));
    }
    let malformed = || ApiError::new(Code::InvalidRequest, "the request's target is malformed");
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let target = if target.starts_with(['/', '*']) {
        target.to_owned()
    } else {
        // A whole URL may go without a path.
        format!("/{target}")
    };
    let Some((path, query)) = target.split_once('?') else {
        return Ok((target.parse().map_err(|_| malformed())?, None));
    };
    let mut token = None;
    let mut kept = Vec::new();
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some((TOKEN_PARAMETER, value)) => token = Some(value.to_owned()),
            _ if pair == TOKEN_PARAMETER => {}
            _ => kept.push(pair),
        }
    }
    let target = if kept.is_empty() && !query.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{}", kept.join("&"))
    };
    Ok((target.parse().map_err(|_| malformed())?, token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_one_host() {
        for (target, hosts, wanted, why) in [
            ("/", &["a.example"][..], Some("a.example"), "as browsers send it"),
            ("http://a.example/x", &[], Some("a.example"), "the whole URL"),
            ("http://a.example/x", &["A.example"], Some("A.example"), "both, the same"),
            ("http://a.example/x", &["b.example"], None, "both, not the same"),
            ("http://me@a.example/x", &["a.example"], None, "a user"),
            ("/", &["a.example", "a.example"], None, "twice"),
            ("/", &[], None, "none"),
        ] {
            let mut request = Request::builder().uri(target);
            for host in hosts {
                request = request.header("host", *host);
            }
            let request = request.body(()).unwrap();
            assert_eq!(host(&request).ok(), wanted, "{why}");
        }
    }

    #[test]
    fn the_token_is_not_for_the_app() {
        for (target, wanted, token) in [
            ("/a/b?x=1&y", "/a/b?x=1&y", None),
            ("/a?crownest_preview_token=t", "/a", Some("t")),
            ("/a?x=1&crownest_preview_token=t&y=2", "/a?x=1&y=2", Some("t")),
            ("/a?crownest_preview_token=t&crownest_preview_token=u", "/a", Some("u")),
            ("/a?crownest_preview_token", "/a", None),
            ("/a?crownest_preview_tokens=1", "/a?crownest_preview_tokens=1", None),
            ("/a?", "/a?", None),
            ("http://a.example?x", "/?x", None),
            ("http://a.example", "/", None),
            ("//evil.example/..//x", "//evil.example/..//x", None),
            ("/%2e%2e/%00;a", "/%2e%2e/%00;a", None),
            ("*", "*", None),
        ] {
            let request = Request::builder().uri(target).body(()).unwrap();
            let (seen, found) = split(&request).unwrap();
            assert_eq!((seen.to_string().as_str(), found.as_deref()), (wanted, token), "{target}");
        }
        let request = Request::builder().method("CONNECT").uri("a.example:80").body(()).unwrap();
        assert_eq!(split(&request).unwrap_err().code(), Code::MethodNotAllowed);
    }
}
