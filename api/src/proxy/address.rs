//! Where previews are in the world: the pattern of their URLs, and back from a host name to a slug.
//! Each preview has a host of its own, so that browsers keep previews apart from each other and from
//! the API. Looks nothing up.

use std::str::FromStr;

use domain::preview::Slug;

const PLACE: &str = "{slug}.";
/// The domain of installations that name none: whatever is below `localhost` leads to loopback.
const USUAL: &str = "preview.localhost";
/// The port of installations that name none.
const USUAL_PORT: u16 = 8788;

/// How URLs of previews look, such as `https://{slug}.preview.example.org`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    is_secure: bool,
    /// What comes after the slug and its dot.
    domain: String,
    port: Option<u16>,
}

impl Default for Pattern {
    fn default() -> Self {
        Self::on_loopback(USUAL_PORT)
    }
}

impl Pattern {
    /// The pattern of a listener that browsers on this host reach without any setting.
    #[must_use]
    pub fn on_loopback(port: u16) -> Self {
        Self { is_secure: false, domain: USUAL.to_owned(), port: Some(port) }
    }

    /// The origin of a preview, as browsers spell it; it is also its URL.
    #[must_use]
    pub fn origin(&self, slug: &Slug) -> String {
        let usual = if self.is_secure { 443 } else { 80 };
        let port = self.port.filter(|port| *port != usual);
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}://{slug}.{}{port}", self.scheme(), self.domain)
    }

    /// `http` or `https`, as clients speak it.
    #[must_use]
    pub const fn scheme(&self) -> &'static str {
        if self.is_secure { "https" } else { "http" }
    }

    /// Whether browsers are to send cookies over TLS alone.
    #[must_use]
    pub const fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// The slug in a `Host` header. The port is not looked at: a proxy in front may have another one.
    #[must_use]
    pub fn slug_of(&self, host: &str) -> Option<Slug> {
        let (name, port) = host.split_once(':').unwrap_or((host, "0"));
        port.parse::<u16>().ok()?;
        let name = name.to_ascii_lowercase();
        let slug = name.strip_suffix(&self.domain)?.strip_suffix('.')?;
        Slug::parse(slug)
    }

    /// Whether the API's own host must not have this name: an app in a sandbox could set cookies for
    /// it, or be it.
    #[must_use]
    pub fn takes(&self, api_host: &str) -> bool {
        let host = api_host.to_ascii_lowercase();
        host == self.domain || self.slug_of(&host).is_some()
    }
}

impl FromStr for Pattern {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wanted = "must be such as https://{slug}.preview.example.org";
        let (is_secure, rest) = match text.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            _ => return Err(wanted),
        };
        let rest = rest.strip_prefix(PLACE).ok_or(wanted)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (domain, port) = match rest.split_once(':') {
            Some((domain, port)) => {
                let port = port.parse().ok().filter(|port| *port > 0);
                (domain, Some(port.ok_or(wanted)?))
            }
            None => (rest, None),
        };
        let domain = domain.to_ascii_lowercase();
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        let is_name = domain.len() <= 200 && domain.split('.').all(label);
        let last = domain.rsplit('.').next().unwrap_or_default();
        if !is_name || last.bytes().all(|b| b.is_ascii_digit()) {
            return Err(wanted);
        }
        if domain == "localhost" {
            return Err(
                "must have a domain of its own, such as http://{slug}.preview.localhost:8788",
            );
        }
        Ok(Self { is_secure, domain, port })
    }
}

#[cfg(test)]
mod tests {
    use domain::preview::SLUG_RANDOM;

    use super::*;

    #[test]
    fn a_pattern_has_the_slug_as_its_first_label() {
        for (text, wanted) in [
            ("http://{slug}.preview.localhost:8788", Some("http://S.preview.localhost:8788")),
            ("https://{slug}.preview.example.org", Some("https://S.preview.example.org")),
            ("https://{slug}.Preview.Example.org/", Some("https://S.preview.example.org")),
            ("https://{slug}.example.org:443", Some("https://S.example.org")),
            ("http://{slug}.example.org:443", Some("http://S.example.org:443")),
            ("https://example.org/{slug}", None),
            ("https://{slug}", None),
            ("https://{slug}.", None),
            ("https://a-{slug}.example.org", None),
            ("https://{slug}-a.example.org", None),
            ("https://{slug}.example.org/path", None),
            ("https://{slug}.example.org?a", None),
            ("https://me@{slug}.example.org", None),
            ("https://{slug}.{slug}.example.org", None),
            ("https://{slug}.127.0.0.1:80", None),
            ("https://{slug}.example.org:0", None),
            ("https://{slug}.example.org:x", None),
            ("ftp://{slug}.example.org", None),
            ("http://{slug}.localhost:8788", None),
        ] {
            let slug = Slug::from_random([0; SLUG_RANDOM]);
            let origin = text.parse::<Pattern>().ok().map(|pattern| pattern.origin(&slug));
            let origin = origin.map(|origin| origin.replace(slug.as_str(), "S"));
            assert_eq!(origin.as_deref(), wanted, "{text}");
        }
    }

    #[test]
    fn a_host_name_has_a_slug_or_is_none_of_ours() {
        let pattern: Pattern = "https://{slug}.preview.example.org".parse().unwrap();
        let slug = Slug::from_random([7; SLUG_RANDOM]);
        for (host, wanted, why) in [
            ("S.preview.example.org", true, "as it is made"),
            ("S.preview.example.org:8443", true, "the port of a proxy"),
            ("S.PREVIEW.Example.org", true, "case"),
            ("S.preview.example.org.", false, "the root's dot"),
            ("S.preview.example.org:", false, "a port without digits"),
            ("S.preview.example.org:99999", false, "no port"),
            ("S.preview.example.org:80:80", false, "two ports"),
            ("a.S.preview.example.org", false, "a label before"),
            ("S.preview.example.org.evil.org", false, "a suffix"),
            ("S.evil.org", false, "another domain"),
            ("Spreview.example.org", false, "no dot"),
            ("preview.example.org", false, "no slug"),
            (".preview.example.org", false, "an empty slug"),
            ("p-..%2f.preview.example.org", false, "a path"),
            ("S/../x.preview.example.org", false, "a path behind a slug"),
            ("api.preview.example.org", false, "another name"),
            ("S@preview.example.org", false, "a user"),
            ("[::1]", false, "an address"),
            ("", false, "nothing"),
        ] {
            let found = pattern.slug_of(&host.replace('S', slug.as_str()));
            assert_eq!(found.is_some(), wanted, "{why}: {host}");
        }
    }

    #[test]
    fn the_api_is_on_no_host_of_previews() {
        let pattern: Pattern = "https://{slug}.preview.example.org".parse().unwrap();
        let slug = Slug::from_random([7; SLUG_RANDOM]);
        assert!(pattern.takes("Preview.example.org"));
        assert!(pattern.takes(&format!("{slug}.preview.example.org")));
        assert!(!pattern.takes("api.example.org"));
        assert!(!pattern.takes("example.org"));
    }
}
