//! The one configuration: defaults, then a TOML file, then `CROWNEST_*` variables; checked as a
//! whole at start. The README's table lists every setting.

mod check;
mod previews;

use std::{net::SocketAddr, path::PathBuf};

use chrono::{DateTime, Utc};
use domain::{
    limits::{Catalogue, Limits, Plan},
    organization::Organization,
};
use drivers::{cloud_hypervisor::NetworkConfig, local::LocalConfig};
use figment::{
    Figment,
    providers::{Env, Format, Serialized, Toml},
};
use serde::{Deserialize, Serialize};

/// Which driver runs the sandboxes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DriverName {
    /// bubblewrap on this host; for development and trusted code.
    Local,
    /// A Cloud Hypervisor machine for each sandbox; for code that nobody trusts.
    CloudHypervisor,
    /// In memory; for tests and demonstrations. Nothing really runs.
    Simulated,
}

/// A table of plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatalogueName {
    /// free, builder, scale, enterprise.
    Standard,
    /// free, developer, team.
    Documented,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Every setting.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The address to serve on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// A file to write the bound address to, for scripts that asked for port 0.
    pub listen_file: Option<PathBuf>,
    /// The URL under which clients reach the API, for absolute URLs in answers; without one they are
    /// built from the request's Host header.
    pub public_url: Option<String>,
    /// The address to serve previews on; none = this server serves none.
    pub preview_listen: Option<SocketAddr>,
    /// How URLs of previews look, such as `https://{slug}.preview.example.org`; by default below
    /// `preview.localhost`, at the port of `preview_listen`.
    pub preview_url: Option<String>,
    /// How long an app in a sandbox may take to begin its answer to a request, in seconds.
    pub preview_timeout_seconds: u32,
    /// How long nothing may pass through a connection of a preview before it is closed, in seconds.
    pub preview_idle_seconds: u32,
    /// `sqlite://PATH` or `postgres://...`.
    pub database_url: Option<String>,
    /// Connections to PostgreSQL, or readers of SQLite.
    pub database_connections: u32,
    /// Where the embedded database and the sandboxes' run directories live.
    pub state_dir: PathBuf,
    /// The driver.
    pub driver: DriverName,
    /// The guest agent's binary; by default `crownest-guest` beside this executable.
    pub guest_agent: Option<PathBuf>,
    /// The bubblewrap program of the local driver.
    pub bwrap: PathBuf,
    /// The VMM of the Cloud Hypervisor driver: a path, or a name to look up on `PATH`.
    pub cloud_hypervisor: PathBuf,
    /// The folder with its machines' kernel, initial file system and template images; by default
    /// `images` in the state folder.
    pub machine_images: Option<PathBuf>,
    /// Whether its sandboxes begin with machines that were booted ahead.
    pub machine_warm_start: bool,
    /// How many VMMs are kept started for each kind of them.
    pub machine_spares: u32,
    /// The addresses for its machines' networks, or `off`.
    pub machine_network: String,
    /// Who resolves names for its machines; by default those that the host asks.
    pub machine_dns: Vec<String>,
    /// Networks that no machine reaches, whatever the policy of its sandbox.
    pub machine_network_deny: Vec<String>,
    /// First of the user ids that sandboxes run under when the server is root.
    pub sandbox_uid_base: u32,
    /// The name of this host in sandbox rows; must stay the same across restarts.
    pub host: String,
    /// CPU of one sandbox, in thousandths of a core.
    pub sandbox_cpu_milli: u32,
    /// Memory of one sandbox, in MiB.
    pub sandbox_memory_mib: u32,
    /// Workspace of one sandbox, in MiB.
    pub sandbox_disk_mib: u32,
    /// Processes of one sandbox.
    pub sandbox_pids: u32,
    /// Requests per key and minute; 0 = no limit.
    pub rate_limit_per_minute: u32,
    /// Overrides the plan's number of live sandboxes.
    pub max_concurrent_sandboxes: Option<u32>,
    /// Overrides the plan's longest lifetime at creation, in milliseconds.
    pub max_create_ttl_ms: Option<u64>,
    /// Ends sandboxes that were idle for this long, in milliseconds; off by default.
    pub idle_timeout_ms: Option<u64>,
    /// Overrides the plan's number of days for which command logs are kept.
    pub log_retention_days: Option<u32>,
    /// Where artifacts are kept: a folder, or `s3://BUCKET/PREFIX`; by default `artifacts` in the state
    /// folder.
    pub artifact_store: Option<String>,
    /// The URL of the S3 service; none = Amazon's in the region.
    pub artifact_s3_endpoint: Option<String>,
    /// The region of the bucket.
    pub artifact_s3_region: Option<String>,
    /// Bytes of one artifact.
    pub max_artifact_bytes: u64,
    /// Overrides the plan's number of days for which artifacts are kept.
    pub artifact_retention_days: Option<u32>,
    /// Which table of plans is offered.
    pub plan_catalogue: CatalogueName,
    /// How long a suspended organization's sandboxes go on running, in minutes.
    pub suspension_grace_minutes: u32,
    /// Length of usage windows in seconds; a day must be a multiple of it.
    pub usage_window_seconds: u32,
    /// How long after the end of a month its statements wait for late usage, in minutes.
    pub statement_delay_minutes: u32,
    /// At which percentages of credit, quota and spend cap an alert is raised.
    pub alert_percents: Vec<u32>,
    /// Whether the last address in X-Forwarded-For is where a request came from, for the audit trail:
    /// only behind a proxy that writes it.
    pub trust_forwarded_for: bool,
    /// Whether whoever reaches the server over loopback may act as any person of any organization by
    /// naming it in a header, as the published command line does to make keys: for development only.
    pub dev_human_sessions: bool,
    /// `amqp://...` or `amqps://...` of the broker that events are published to; none = they stay in
    /// the outbox.
    pub amqp_url: Option<String>,
    /// A file with certificates of authorities to trust for `amqps`, besides the well-known ones.
    pub amqp_ca_file: Option<PathBuf>,
    /// The exchange that events are published to.
    pub amqp_exchange: String,
    /// Whether the server declares the exchange, and a queue that takes everything.
    pub amqp_declare_topology: bool,
    /// The name of that queue.
    pub amqp_queue: String,
    /// Whether an event that no queue takes waits until one does; else it counts as published.
    pub amqp_keep_unroutable: bool,
    /// Days for which published events stay readable in the outbox.
    pub outbox_retention_days: u32,
    /// The address to serve `/metrics` on; none = nowhere.
    pub metrics_listen: Option<SocketAddr>,
    /// `http://...` or `https://...` of an OpenTelemetry collector that takes OTLP over gRPC; none = no
    /// spans are exported.
    pub otlp_endpoint: Option<String>,
    /// A file with certificates of authorities to trust for `https`, besides the well-known ones.
    pub otlp_ca_file: Option<PathBuf>,
    /// Percentage of traces that are exported, of those that clients did not decide on.
    pub otlp_sample_percent: u32,
    /// The plan of organizations that `bootstrap` makes without naming one.
    pub default_plan: String,
    /// What to log, such as `info` or `info,crownest=debug`.
    pub log: String,
    /// How log lines look.
    pub log_format: LogFormat,
    /// How long running requests may take to finish at shutdown, in seconds.
    pub shutdown_grace_seconds: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8787)),
            listen_file: None,
            public_url: None,
            preview_listen: None,
            preview_url: None,
            preview_timeout_seconds: 60,
            preview_idle_seconds: 300,
            database_url: None,
            database_connections: 16,
            state_dir: PathBuf::from("crownest-data"),
            driver: DriverName::Local,
            guest_agent: None,
            bwrap: PathBuf::from("bwrap"),
            cloud_hypervisor: PathBuf::from("cloud-hypervisor"),
            machine_images: None,
            machine_warm_start: true,
            machine_spares: 2,
            machine_network: NetworkConfig::POOL.to_owned(),
            machine_dns: Vec::new(),
            machine_network_deny: NetworkConfig::PRIVATE.map(str::to_owned).into(),
            sandbox_uid_base: LocalConfig::FIRST_UID,
            host: host_name(),
            sandbox_cpu_milli: 1000,
            sandbox_memory_mib: 2048,
            sandbox_disk_mib: 1024,
            sandbox_pids: 512,
            rate_limit_per_minute: 600,
            max_concurrent_sandboxes: None,
            max_create_ttl_ms: None,
            idle_timeout_ms: None,
            log_retention_days: None,
            artifact_store: None,
            artifact_s3_endpoint: None,
            artifact_s3_region: None,
            max_artifact_bytes: 5 << 30,
            artifact_retention_days: None,
            plan_catalogue: CatalogueName::Standard,
            suspension_grace_minutes: 60,
            usage_window_seconds: 60,
            statement_delay_minutes: 60,
            alert_percents: vec![50, 80, 100],
            trust_forwarded_for: false,
            dev_human_sessions: false,
            amqp_url: None,
            amqp_ca_file: None,
            amqp_exchange: "crownest.events".to_owned(),
            amqp_declare_topology: true,
            amqp_queue: "crownest.usage".to_owned(),
            amqp_keep_unroutable: true,
            outbox_retention_days: 7,
            metrics_listen: None,
            otlp_endpoint: None,
            otlp_ca_file: None,
            otlp_sample_percent: 100,
            default_plan: "builder".to_owned(),
            log: "info".to_owned(),
            log_format: LogFormat::Text,
            shutdown_grace_seconds: 30,
        }
    }
}

/// The kernel's name for this host: two hosts that share a database must not share a name, or each
/// would take the other's sandboxes for its own lost ones.
fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .unwrap_or_else(|_| "localhost".to_owned())
}

/// A configuration that cannot be used; the text names the setting.
#[derive(Debug, thiserror::Error)]
#[error("configuration: {0}")]
pub struct ConfigError(String);

impl Config {
    /// Reads defaults, the file if one is named, and the environment, and checks the whole.
    ///
    /// # Errors
    /// Names the setting that is wrong.
    pub fn load(file: Option<PathBuf>) -> Result<Self, ConfigError> {
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        if let Some(file) = file {
            if !file.is_file() {
                return Err(ConfigError(format!("{} is not a file", file.display())));
            }
            figment = figment.merge(Toml::file_exact(file));
        }
        // Clients keep their own CROWNEST_* variables (an API key, a URL) in the same environment.
        let known = Self::setting_names();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let config: Self = figment
            .merge(Env::prefixed("CROWNEST_").only(&known))
            .extract()
            .map_err(|error| ConfigError(error.to_string()))?;
        config.check()?;
        Ok(config)
    }

    fn setting_names() -> Vec<String> {
        let value = serde_json::to_value(Self::default()).unwrap_or_default();
        value.as_object().map(|object| object.keys().cloned().collect()).unwrap_or_default()
    }

    /// The networks of Cloud Hypervisor machines, if they are to have any.
    ///
    /// # Errors
    /// When one of the settings makes no sense.
    pub fn network(&self) -> Result<Option<NetworkConfig>, ConfigError> {
        NetworkConfig::read(&self.machine_network, &self.machine_dns, &self.machine_network_deny)
            .map_err(ConfigError)
    }

    /// The plan of new organizations.
    ///
    /// # Errors
    /// When the setting is no plan.
    pub fn default_plan(&self) -> Result<Plan, ConfigError> {
        let plans = self.catalogue().plans();
        let found = self.default_plan.parse().ok().filter(|plan| plans.contains(plan));
        found.ok_or_else(|| {
            let names: Vec<_> = plans.iter().map(|plan| plan.as_str()).collect();
            ConfigError(format!("default_plan must be one of {}", names.join(", ")))
        })
    }

    /// The database, the embedded one in the state folder by default.
    #[must_use]
    pub fn database_url(&self) -> String {
        self.database_url
            .clone()
            .unwrap_or_else(|| format!("sqlite://{}", self.state_dir.join("crownest.db").display()))
    }

    /// The folder of what machines are made from.
    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.machine_images.clone().unwrap_or_else(|| self.state_dir.join("images"))
    }

    /// The plans that can be chosen.
    #[must_use]
    pub const fn catalogue(&self) -> Catalogue {
        match self.plan_catalogue {
            CatalogueName::Standard => Catalogue::Standard,
            CatalogueName::Documented => Catalogue::Documented,
        }
    }

    /// An organization's limits: its plan's, then this installation's overrides, then its own.
    #[must_use]
    pub fn limits(&self, organization: &Organization, now: DateTime<Utc>) -> Limits {
        let mut limits = self.plan_limits(organization.plan_at(now));
        for (name, value) in &organization.limit_overrides {
            // Checked when it was set; one that a later version does not know changes nothing.
            let _ = limits.set(name, *value);
        }
        limits
    }

    /// How many days an organization's artifacts are kept: as [`Self::limits`], but with a setting of
    /// their own.
    #[must_use]
    pub fn artifact_retention_days(&self, organization: &Organization, now: DateTime<Utc>) -> u32 {
        let plan = organization.plan_at(now).limits(self.catalogue()).retention_days;
        let usual = self.artifact_retention_days.unwrap_or(plan);
        let own = organization.limit_overrides.get("retention_days").copied();
        own.and_then(|days| u32::try_from(days).ok()).unwrap_or(usual)
    }

    /// A plan's limits, and this installation's overrides.
    #[must_use]
    pub fn plan_limits(&self, plan: Plan) -> Limits {
        let mut limits = plan.limits(self.catalogue());
        if let Some(n) = self.max_concurrent_sandboxes {
            limits.max_concurrent_sandboxes = n;
        }
        if let Some(ms) = self.max_create_ttl_ms {
            limits.max_create_ttl_ms = ms;
            limits.max_session_ttl_ms = limits.max_session_ttl_ms.max(ms);
        }
        if let Some(days) = self.log_retention_days {
            limits.retention_days = days;
        }
        limits.idle_timeout_ms = self.idle_timeout_ms.or(limits.idle_timeout_ms);
        limits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_fine() {
        Config::default().check().unwrap();
    }

    #[test]
    fn the_readme_lists_every_setting() {
        let readme = include_str!("../../README.md");
        for name in Config::setting_names() {
            assert!(readme.contains(&format!("| `{name}` |")), "{name} is missing in README.md");
        }
    }
}
