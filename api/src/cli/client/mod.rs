//! An API as the command line's commands see it: where it is, with which key, and how a
//! request is sent so that a bad moment of the network does no harm. Knows no route; the commands do.
//! Shared by users' commands and those of `admin`, which brings its own variable names.

mod access;
mod refusal;
mod request;
mod stream;

use std::time::Duration;

use reqwest::{
    Method, Url,
    header::{AUTHORIZATION, HeaderValue},
    redirect::Policy,
};

pub use self::{
    access::{Access, key},
    refusal::Refusal,
    request::{Call, Json},
    stream::{Follow, Happening, Stream},
};
use super::Failure;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an answer or a download may be silent before it is given up.
const SILENCE: Duration = Duration::from_secs(90);

/// Sends requests to one API with one key.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    /// The API's URL, with the path prefix that it may have.
    base: Url,
    /// `Bearer ...`; never shown.
    credential: HeaderValue,
}

impl Client {
    /// A client of the API at `url`, which is the value of `setting`, with this key.
    ///
    /// # Errors
    /// `Argument` for a URL that is none, or a key that no header can hold.
    pub fn new((setting, url): (&str, &str), key: &str) -> Result<Self, Failure> {
        let base = base(setting, url)?;
        let credential = HeaderValue::try_from(format!("Bearer {key}"));
        let mut credential = credential.map_err(|_| {
            Failure::Argument("the key holds characters that no key has".to_owned())
        })?;
        credential.set_sensitive(true);
        Ok(Self { http: http(&base)?, base, credential })
    }

    /// A request of this path, such as `/v1/sandboxes`, to build upon.
    pub fn call(&self, method: Method, path: &str) -> Call<'_> {
        Call::new(self, method, path)
    }

    fn begin(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let url = format!("{}{path}", self.base.as_str().trim_end_matches('/'));
        self.http.request(method, url).header(AUTHORIZATION, self.credential.clone())
    }
}

/// The API's URL: `http` or `https`, with what belongs to it and nothing else.
fn base(setting: &str, url: &str) -> Result<Url, Failure> {
    let refuse =
        |why: &str| Failure::Argument(format!("{setting}: {why}, such as https://HOST/PATH"));
    let base: Url = url.parse().map_err(|_| refuse("expected a URL"))?;
    if !["http", "https"].contains(&base.scheme()) || base.host_str().is_none() {
        return Err(refuse("expected a URL of http or https"));
    }
    if base.query().is_some() || base.fragment().is_some() {
        return Err(refuse("a query or fragment has no place in it"));
    }
    if !base.username().is_empty() || base.password().is_some() {
        return Err(refuse("a user or password has no place in it"));
    }
    Ok(base)
}

fn http(base: &Url) -> Result<reqwest::Client, Failure> {
    // The one provider of this program; somebody else may have installed it already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("crownest-cli/", env!("CARGO_PKG_VERSION")))
        // A key goes where it was meant to go, and nowhere that an answer names.
        .redirect(Policy::none())
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE);
    if base.scheme() == "http" {
        // Authorities are read from the system, which takes a while and may have none.
        builder = builder.tls_certs_only([]);
    }
    let host = base.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    if host == "localhost" || address.is_ok_and(|address| address.is_loopback()) {
        builder = builder.no_proxy();
    }
    let built = builder.build();
    built.map_err(|error| Failure::Undone(anyhow::Error::new(error).context("preparing TLS")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_prefix_is_kept() {
        for (url, wanted) in [
            ("http://127.0.0.1:8787", "http://127.0.0.1:8787/v1/usage"),
            ("http://127.0.0.1:8787/", "http://127.0.0.1:8787/v1/usage"),
            ("https://example.org/crownest", "https://example.org/crownest/v1/usage"),
            ("https://example.org/a/b//", "https://example.org/a/b/v1/usage"),
        ] {
            let client = Client::new(("api-url", url), "k").unwrap();
            let request = client.begin(Method::GET, "/v1/usage").build().unwrap();
            assert_eq!(request.url().as_str(), wanted, "{url}");
        }
    }

    #[test]
    fn what_is_no_address_of_an_api_is_refused_by_name() {
        for url in ["", "example.org", "ftp://a", "http://a?b", "http://a#b", "http://u:p@a"] {
            let refused = Client::new(("api-url", url), "k").unwrap_err().to_string();
            assert!(refused.starts_with("api-url: "), "{url}: {refused}");
        }
    }

    #[test]
    fn the_key_is_not_shown() {
        let client = Client::new(("api-url", "http://a"), "cn_live_secret").unwrap();
        assert!(!format!("{client:?}").contains("cn_live_secret"));
        assert!(Client::new(("api-url", "http://a"), "a\nb").is_err());
    }
}
