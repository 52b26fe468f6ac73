//! Which settings make sense, alone and with each other; a senseless one is refused by its name.

use billing::meter::Grid;

use super::{Config, ConfigError};
use crate::blobs;

/// Each is a process with a network and a user of its own, of each of a few kinds.
const MOST_SPARES: u32 = 64;

impl Config {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let refuse = |text: String| Err(ConfigError(text));
        for (name, value) in [
            ("database_connections", u64::from(self.database_connections)),
            ("sandbox_cpu_milli", u64::from(self.sandbox_cpu_milli)),
            ("sandbox_memory_mib", u64::from(self.sandbox_memory_mib)),
            ("sandbox_disk_mib", u64::from(self.sandbox_disk_mib)),
            ("sandbox_pids", u64::from(self.sandbox_pids)),
            ("preview_timeout_seconds", u64::from(self.preview_timeout_seconds)),
            ("preview_idle_seconds", u64::from(self.preview_idle_seconds)),
            ("log_retention_days", u64::from(self.log_retention_days.unwrap_or(1))),
            ("max_artifact_bytes", self.max_artifact_bytes),
            ("artifact_retention_days", u64::from(self.artifact_retention_days.unwrap_or(1))),
            ("max_create_ttl_ms", self.max_create_ttl_ms.unwrap_or(1)),
            ("idle_timeout_ms", self.idle_timeout_ms.unwrap_or(1)),
        ] {
            if value == 0 {
                return refuse(format!("{name} must be at least 1"));
            }
        }
        if self.machine_spares > MOST_SPARES {
            return refuse(format!("machine_spares must be at most {MOST_SPARES}"));
        }
        if let Some(url) = &self.public_url
            && !(url.starts_with("http://") || url.starts_with("https://"))
        {
            return refuse("public_url must start with http:// or https://".to_owned());
        }
        self.check_previews()?;
        if let Some(url) = &self.database_url
            && !["sqlite://", "postgres://", "postgresql://"].iter().any(|s| url.starts_with(s))
        {
            return refuse("database_url must start with sqlite:// or postgres://".to_owned());
        }
        blobs::check(self).map_err(ConfigError)?;
        if self.dev_human_sessions {
            self.check_alone_on_loopback()?;
        }
        if let Some(url) = &self.amqp_url
            && !["amqp://", "amqps://"].iter().any(|scheme| url.starts_with(scheme))
        {
            return refuse("amqp_url must start with amqp:// or amqps://".to_owned());
        }
        if let Some(url) = &self.otlp_endpoint
            && !["http://", "https://"].iter().any(|scheme| url.starts_with(scheme))
        {
            return refuse("otlp_endpoint must start with http:// or https://".to_owned());
        }
        if self.otlp_sample_percent > 100 {
            return refuse("otlp_sample_percent must be 0 to 100".to_owned());
        }
        for (name, text) in
            [("amqp_exchange", &self.amqp_exchange), ("amqp_queue", &self.amqp_queue)]
        {
            if text.is_empty() || text.len() > 127 {
                return refuse(format!("{name} must be 1 to 127 bytes"));
            }
        }
        if self.host.is_empty() || self.host.len() > 128 {
            return refuse("host must be 1 to 128 bytes".to_owned());
        }
        if Grid::of_seconds(self.usage_window_seconds).is_none() {
            return refuse("usage_window_seconds must divide a day, such as 60".to_owned());
        }
        if self.alert_percents.iter().any(|percent| !(1..=100).contains(percent)) {
            return refuse("alert_percents must be numbers from 1 to 100".to_owned());
        }
        self.default_plan()?;
        self.network()?;
        Ok(())
    }

    /// Who is believed everything must not be reachable from anywhere else: neither by an address of
    /// its own nor through a proxy, whose requests come from loopback as well.
    fn check_alone_on_loopback(&self) -> Result<(), ConfigError> {
        let refuse = |text: &str| Err(ConfigError(format!("dev_human_sessions {text}")));
        if !self.listen.ip().to_canonical().is_loopback() {
            return refuse(
                "is for development: listen must be a loopback address, such as 127.0.0.1",
            );
        }
        if self.trust_forwarded_for || self.public_url.is_some() {
            return refuse(
                "is not for behind a proxy: trust_forwarded_for and public_url must not be set",
            );
        }
        Ok(())
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
            (refused(|c| c.sandbox_pids = 0), "sandbox_pids"),
            (refused(|c| c.idle_timeout_ms = Some(0)), "idle_timeout_ms"),
            (refused(|c| c.machine_spares = 65), "machine_spares"),
            (refused(|c| c.public_url = Some("example.org".into())), "public_url"),
            (refused(|c| c.database_url = Some("mysql://x".into())), "database_url"),
            (refused(|c| c.default_plan = "gold".into()), "default_plan"),
            (refused(|c| c.host = String::new()), "host"),
            (refused(|c| c.max_artifact_bytes = 1 << 40), "max_artifact_bytes"),
            (refused(|c| c.artifact_store = Some("gs://x".into())), "artifact_store"),
            (refused(|c| c.artifact_store = Some("s3:///x".into())), "artifact_store"),
            (refused(|c| c.artifact_s3_endpoint = Some("x:9000".into())), "artifact_s3_endpoint"),
            (refused(|c| c.otlp_endpoint = Some("collector:4317".into())), "otlp_endpoint"),
            (refused(|c| c.otlp_sample_percent = 101), "otlp_sample_percent"),
            (refused(|c| c.machine_network = "on".into()), "machine_network"),
            (refused(|c| c.machine_dns = vec!["dns".into()]), "machine_dns"),
            (refused(|c| c.machine_network_deny = vec!["all".into()]), "machine_network_deny"),
        ] {
            assert!(text.contains(name), "{name}: {text}");
        }
    }

    #[test]
    fn human_sessions_are_for_loopback_alone() {
        for (listen, forwarded, public_url, fine) in [
            ("127.0.0.1:8787", false, None, true),
            ("[::1]:0", false, None, true),
            ("127.9.9.9:1", false, None, true),
            ("0.0.0.0:8787", false, None, false),
            ("[::]:8787", false, None, false),
            ("192.0.2.1:8787", false, None, false),
            ("127.0.0.1:8787", true, None, false),
            ("127.0.0.1:8787", false, Some("https://api.example.org"), false),
        ] {
            let config = Config {
                dev_human_sessions: true,
                listen: listen.parse().unwrap(),
                trust_forwarded_for: forwarded,
                public_url: public_url.map(str::to_owned),
                ..Config::default()
            };
            let checked = config.check().map_err(|error| error.to_string());
            assert_eq!(checked.is_ok(), fine, "{listen} {forwarded} {public_url:?}");
            if let Err(text) = checked {
                assert!(text.contains("dev_human_sessions"), "{text}");
            }
        }
    }
}
