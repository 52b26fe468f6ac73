//! The URL that absolute links in answers start with.

use poem::{FromRequest, Request, RequestBody, http::header};

use crate::http::context::Context;

/// The configured public URL, else what the client itself called us.
#[derive(Debug)]
pub struct BaseUrl(pub String);

impl<'a> FromRequest<'a> for BaseUrl {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> poem::Result<Self> {
        let configured = Context::of(request).app().config.public_url.as_deref();
        Ok(Self(base_url(configured, request)))
    }
}

fn base_url(configured: Option<&str>, request: &Request) -> String {
    if let Some(url) = configured {
        return url.trim_end_matches('/').to_owned();
    }
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| request.original_uri().authority().map(|host| host.as_str()));
    let plain = |host: &&str| {
        let of_a_host = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
        !host.is_empty() && host.chars().all(of_a_host)
    };
    format!("{}://{}", request.scheme(), host.filter(plain).unwrap_or("127.0.0.1:8787"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_start_with_what_is_configured_or_what_the_client_called_us() {
        let request = |host: &str| Request::builder().header("host", host).finish();
        for (configured, host, wanted) in [
            (Some("https://example.org/crownest/"), "x", "https://example.org/crownest"),
            (None, "localhost:8787", "http://localhost:8787"),
            (None, "[::1]:80", "http://[::1]:80"),
            (None, "evil/path?x", "http://127.0.0.1:8787"),
        ] {
            assert_eq!(base_url(configured, &request(host)), wanted);
        }
    }
}
