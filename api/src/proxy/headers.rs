//! What passes of the header fields, in both directions (RFC 9110, section 7.6; contract, section 14).
//! Framing is never copied: it is written anew for each side, so neither can slip a second message in.

use std::net::IpAddr;

use hyper::{
    HeaderMap, Request,
    header::{self, HeaderName, HeaderValue},
};

/// The cookies that let a browser in. The second is for TLS, where browsers then keep it from every
/// other host.
pub const COOKIES: [&str; 2] = ["crownest-preview", "__Host-crownest-preview"];
/// The header with a preview's token.
pub const TOKEN: &str = "x-crownest-preview-token";
/// The header with a key.
pub const KEY: &str = "x-api-key";

/// About one connection, besides what `Connection` names.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// For whoever terminates TLS or connections, which the app does not.
const NOT_THE_APPS: [&str; 2] = ["alt-svc", "strict-transport-security"];
/// How the fields begin that say where a request came from.
const FORWARDED: [&str; 3] = ["x-forwarded-", "forwarded", "x-real-ip"];
/// Credentials, and what is between the client and us.
const NOT_FOR_APPS: [&str; 3] = ["authorization", "expect", KEY];
/// What nobody may say in another spelling.
const FRAMING: [&str; 2] = ["content-length", "content-type"];
const PLATFORMS: &str = "x-crownest-";

/// Whether a request asks to go on as a WebSocket. No other protocol is carried: with some of them, such
/// as h2c, further requests would follow that nobody looks at.
#[must_use]
pub fn wants_websocket<B>(request: &Request<B>) -> bool {
    names(request.headers(), header::CONNECTION).any(|name| name == "upgrade")
        && is_websocket(request.headers())
}

/// Whether `Upgrade` names WebSocket alone.
#[must_use]
pub fn is_websocket(headers: &HeaderMap) -> bool {
    let mut protocols = names(headers, header::UPGRADE);
    protocols.next().as_deref() == Some("websocket") && protocols.next().is_none()
}

/// Where a request came from, for the app.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The address.
    pub peer: IpAddr,
    /// What the client called us.
    pub host: &'a str,
    /// What it speaks.
    pub scheme: &'static str,
    /// Whether what the peer says of this is true.
    pub trust_forwarded_for: bool,
}

/// Makes the fields of a request fit for the app.
pub fn towards_app(headers: &mut HeaderMap, origin: Origin<'_>, is_websocket: bool) {
    let before: Vec<_> = headers.get_all("x-forwarded-for").iter().cloned().collect();
    strip_hops(headers);
    remove_where(headers, |name| {
        // To many apps both are one.
        let dashed = name.replace('_', "-");
        let begins = |start: &str| dashed.starts_with(start);
        begins(PLATFORMS)
            || FORWARDED.iter().any(|start| begins(start))
            || NOT_FOR_APPS.contains(&&*dashed)
            || (dashed != name && (HOP_BY_HOP.contains(&&*dashed) || FRAMING.contains(&&*dashed)))
    });
    keep_cookies(headers);
    let before = before.iter().filter(|_| origin.trust_forwarded_for);
    let addresses = before.filter_map(|value| value.to_str().ok()).map(str::to_owned);
    let addresses: Vec<_> = addresses.chain([origin.peer.to_string()]).collect();
    for (name, value) in [
        ("host", origin.host),
        ("x-forwarded-for", &addresses.join(", ")),
        ("x-forwarded-host", origin.host),
        ("x-forwarded-proto", origin.scheme),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    if is_websocket {
        upgrade(headers);
    }
}

/// Makes the fields of an answer fit for the client.
pub fn towards_client(headers: &mut HeaderMap, is_websocket: bool) {
    strip_hops(headers);
    remove_where(headers, |name| NOT_THE_APPS.contains(&name));
    let cookies: Vec<_> = headers.get_all(header::SET_COOKIE).iter().cloned().collect();
    headers.remove(header::SET_COOKIE);
    for cookie in cookies.iter().filter_map(host_only) {
        headers.append(header::SET_COOKIE, cookie);
    }
    if is_websocket {
        upgrade(headers);
    }
}

/// The platform's cookies in a request, without their names.
pub fn own_cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(';')).filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        is_own_cookie(name.trim().as_bytes()).then(|| value.trim())
    })
}

fn is_own_cookie(name: &[u8]) -> bool {
    COOKIES.iter().any(|own| name.eq_ignore_ascii_case(own.as_bytes()))
}

fn upgrade(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// Removes what is about one connection alone.
fn strip_hops(headers: &mut HeaderMap) {
    let named: Vec<_> = names(headers, header::CONNECTION).collect();
    for name in named.iter().map(String::as_str).chain(HOP_BY_HOP) {
        // How long a body is, nobody can make us forget.
        if name != header::CONTENT_LENGTH.as_str() && name != header::HOST.as_str() {
            headers.remove(name);
        }
    }
}

/// The names in a list field, in lower case.
fn names(headers: &HeaderMap, field: HeaderName) -> impl Iterator<Item = String> {
    let lines = headers.get_all(field).iter().filter_map(|line| line.to_str().ok());
    lines
        .flat_map(|line| line.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| !name.is_empty())
}

fn remove_where(headers: &mut HeaderMap, unwanted: impl Fn(&str) -> bool) {
    let names: Vec<_> = headers.keys().filter(|name| unwanted(name.as_str())).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// Leaves the cookies that are the app's.
fn keep_cookies(headers: &mut HeaderMap) {
    let lines: Vec<_> = headers.get_all(header::COOKIE).iter().cloned().collect();
    headers.remove(header::COOKIE);
    for line in lines {
        let is_own = |pair: &&[u8]| {
            is_own_cookie(pair.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii())
        };
        let pairs = line.as_bytes().split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let kept: Vec<_> = pairs.filter(|pair| !pair.is_empty() && !is_own(pair)).collect();
        if let (false, Ok(line)) =
            (kept.is_empty(), HeaderValue::from_bytes(&kept.join(&b"; "[..])))
        {
            headers.append(header::COOKIE, line);
        }
    }
}

/// A cookie of the app for its own host and no other; none that would be the platform's.
fn host_only(cookie: &HeaderValue) -> Option<HeaderValue> {
    let mut parts = cookie.as_bytes().split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let pair = parts.next()?;
    // A cookie without `=` is one without a name, whose value some servers take for a name.
    let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
    let nameless = pair.strip_prefix(b"=").unwrap_or_default().trim_ascii();
    let nameless = nameless.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
    if is_own_cookie(name) || is_own_cookie(nameless) {
        return None;
    }
    let is_domain = |part: &&[u8]| {
        let name = part.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
        name.eq_ignore_ascii_case(b"domain")
    };
    let kept: Vec<_> = [pair].into_iter().chain(parts.filter(|part| !is_domain(part))).collect();
    HeaderValue::from_bytes(&kept.join(&b"; "[..])).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn printed(headers: &HeaderMap) -> Vec<String> {
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{name}: {}", value.to_str().unwrap())
        };
        let mut lines: Vec<_> = headers.iter().map(line).collect();
        lines.sort();
        lines
    }

    const ORIGIN: Origin<'_> = Origin {
        peer: IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7)),
        host: "p-x.preview.example.org",
        scheme: "https",
        trust_forwarded_for: false,
    };

    #[test]
    fn the_app_sees_neither_credentials_nor_what_is_about_a_connection() {
        let mut headers = map(&[
            ("accept", "*/*"),
            ("authorization", "Bearer cn_live_x"),
            ("x-api-key", "cn_live_x"),
            ("x-crownest-preview-token", "pvt_x"),
            ("x-crownest-org-id", "org_x"),
            ("cookie", "a=1; crownest-preview=x; b=2"),
            ("cookie", "__host-CROWNEST-preview=y"),
            ("connection", "keep-alive, X-Secret, content-length, host"),
            ("x-secret", "hop"),
            ("content-length", "3"),
            ("transfer-encoding", "chunked"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("upgrade", "h2c"),
            ("expect", "100-continue"),
            ("proxy-authorization", "Basic x"),
            ("forwarded", "for=1.2.3.4"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-port", "1"),
            ("x-real-ip", "1.2.3.4"),
            ("x_forwarded_for", "1.2.3.4"),
            ("X-Forwarded_Proto", "gopher"),
            ("x_api_key", "cn_live_x"),
            ("transfer_encoding", "chunked"),
            ("content_length", "7"),
            ("my_own", "stays"),
            ("host", "spoofed.example"),
        ]);
        towards_app(&mut headers, ORIGIN, false);
        assert_eq!(
            printed(&headers),
            [
                "accept: */*",
                "content-length: 3",
                "cookie: a=1; b=2",
                "host: p-x.preview.example.org",
                "my_own: stays",
                "x-forwarded-for: 192.0.2.7",
                "x-forwarded-host: p-x.preview.example.org",
                "x-forwarded-proto: https",
            ]
        );
        let mut headers = map(&[("x-forwarded-for", "1.2.3.4"), ("upgrade", "WebSocket")]);
        towards_app(&mut headers, Origin { trust_forwarded_for: true, ..ORIGIN }, true);
        assert_eq!(headers["x-forwarded-for"], "1.2.3.4, 192.0.2.7");
        assert_eq!(
            (&headers["connection"], &headers["upgrade"]),
            (&HeaderValue::from_static("upgrade"), &HeaderValue::from_static("websocket"))
        );
    }

    #[test]
    fn only_a_websocket_is_an_upgrade() {
        for (connection, upgrade, wanted) in [
            ("Upgrade", "websocket", true),
            ("keep-alive, UPGRADE", "WebSocket", true),
            ("keep-alive", "websocket", false),
            ("upgrade", "h2c", false),
            ("upgrade", "websocket, h2c", false),
            ("upgrade", "", false),
        ] {
            let request = Request::builder().header("connection", connection);
            let request = request.header("upgrade", upgrade).body(()).unwrap();
            assert_eq!(wants_websocket(&request), wanted, "{connection} {upgrade}");
        }
    }

    #[test]
    fn cookies_of_an_app_are_its_own_hosts() {
        for (cookie, wanted) in [
            ("a=1", Some("a=1")),
            ("a=1; Path=/; HttpOnly", Some("a=1; Path=/; HttpOnly")),
            ("a=1; Domain=preview.example.org; Path=/", Some("a=1; Path=/")),
            ("a=1;DOMAIN = .example.org;Secure", Some("a=1; Secure")),
            ("a=1; domain", Some("a=1")),
            ("a=x=y", Some("a=x=y")),
            ("domain=1", Some("domain=1")),
            ("crownest-preview=forged; Path=/", None),
            ("__Host-Crownest-Preview=forged", None),
            (" crownest-preview =forged", None),
            ("=crownest-preview=forged", None),
            ("crownest-preview", None),
        ] {
            let mut headers = map(&[("set-cookie", cookie)]);
            towards_client(&mut headers, false);
            let seen = headers.get("set-cookie").map(|value| value.to_str().unwrap());
            assert_eq!(seen, wanted, "{cookie}");
        }
        let mut headers = map(&[
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("alt-svc", "h3=\":443\""),
            ("strict-transport-security", "max-age=1"),
            ("content-type", "text/html"),
        ]);
        towards_client(&mut headers, false);
        let wanted = ["content-type: text/html", "set-cookie: a=1", "set-cookie: b=2"];
        assert_eq!(printed(&headers), wanted);
    }
}
