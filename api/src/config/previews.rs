//! The settings of previews: where they are served, and that this is never where the API is.

use poem::http::Uri;

use super::{Config, ConfigError};
use crate::proxy::address::Pattern;

impl Config {
    /// Previews must have an origin that is never the API's.
    pub(super) fn check_previews(&self) -> Result<(), ConfigError> {
        if self.preview_listen.is_some_and(|address| address.port() > 0 && address == self.listen) {
            return Err(ConfigError("preview_listen must not be the same as listen".to_owned()));
        }
        let refuse = |text: &str| Err(ConfigError(format!("preview_url {text}")));
        let Some(text) = &self.preview_url else { return Ok(()) };
        let pattern = match text.parse::<Pattern>() {
            Ok(pattern) => pattern,
            Err(wanted) => return refuse(wanted),
        };
        let uri = self.public_url.as_ref().and_then(|url| url.parse::<Uri>().ok());
        if uri.is_some_and(|uri| uri.host().is_some_and(|host| pattern.takes(host))) {
            return refuse("must have another host than public_url, and none that contains it");
        }
        Ok(())
    }

    /// How URLs of previews look, where that can be told before anything listens.
    #[must_use]
    pub fn preview_pattern(&self) -> Option<Pattern> {
        if let Some(text) = &self.preview_url {
            return text.parse().ok();
        }
        let port = self.preview_listen.map(|address| address.port()).filter(|port| *port > 0);
        port.map(Pattern::on_loopback)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_senseless_setting_is_refused_by_name() {
        let refused = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        for (text, name) in [
            (refused(|c| c.preview_url = Some("https://example.org".into())), "preview_url"),
            (refused(|c| c.preview_listen = Some(c.listen)), "preview_listen"),
            (refused(|c| c.preview_timeout_seconds = 0), "preview_timeout_seconds"),
            (refused(|c| c.preview_idle_seconds = 0), "preview_idle_seconds"),
        ] {
            assert!(text.contains(name), "{name}: {text}");
        }
    }

    #[test]
    fn previews_are_never_on_the_apis_host() {
        for (public_url, preview_url, fine) in [
            ("https://api.example.org", "https://{slug}.preview.example.org", true),
            ("https://api.example.org/crownest", "https://{slug}.example.org", true),
            ("https://preview.example.org", "https://{slug}.preview.example.org", false),
            ("https://Preview.Example.org:8443/a", "https://{slug}.preview.example.org", false),
        ] {
            let config = Config {
                public_url: Some(public_url.to_owned()),
                preview_url: Some(preview_url.to_owned()),
                ..Config::default()
            };
            assert_eq!(config.check().is_ok(), fine, "{public_url} {preview_url}");
        }
    }
}
