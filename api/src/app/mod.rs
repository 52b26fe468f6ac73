//! The use cases: may they, may it, then one transaction. The only place with transactions; knows
//! neither HTTP nor SQL.

pub mod admin;
pub mod api_keys;
pub mod artifacts;
pub mod audit;
pub mod billing;
pub mod caller;
pub mod command_logs;
pub mod commands;
mod downloads;
pub mod error;
pub mod events;
pub mod files;
pub mod guests;
pub mod health;
pub mod human_sessions;
pub mod idempotency;
pub mod lifecycle;
pub mod previews;
pub mod projects;
pub mod readiness;
pub mod sandboxes;
pub mod sightings;
pub mod signing_keys;
pub mod tenants;
pub mod usage;

use std::{fmt, future::Future, sync::Arc};

use drivers::Driver;
use store::Db;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

use crate::{
    auth::Authenticator,
    blobs::Blobs,
    bus::Bus,
    clock::Clock,
    config::Config,
    metrics::{Measured, Metrics},
    places::Places,
    proxy::Proxy,
    rate_limits::RateLimits,
    signing::Signer,
    trace,
    work::runner::Runner,
};
use caller::Caller;
use error::{Error, Result};

/// A link that works without a credential until it expires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownloadUrl {
    /// The absolute URL.
    pub url: String,
    /// When it stops working.
    pub expires_at: chrono::DateTime<chrono::Utc>,
}

/// Streams and foreground commands that an organization can have open at a server.
const OPEN_PER_ORGANIZATION: u32 = 512;
/// Artifacts that an organization can have made at a time at a server, by requests for them.
const COPIES_PER_ORGANIZATION: u32 = 16;

/// How long capability URLs work (contract, section 10.4).
pub const DOWNLOAD_URL_LIFETIME: chrono::TimeDelta = chrono::TimeDelta::minutes(15);
/// How long the cookie opens a preview that a browser gets for a token.
pub const PREVIEW_COOKIE_LIFETIME: chrono::TimeDelta = chrono::TimeDelta::hours(12);

/// Everything that use cases and background work share.
pub struct App {
    /// The database.
    pub db: Db,
    /// What runs the sandboxes of this host.
    pub driver: Arc<dyn Driver>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// The settings.
    pub config: Arc<Config>,
    /// What is counted for operators.
    pub metrics: Arc<Metrics>,
    /// Nudges.
    pub bus: Bus,
    /// Who may come in.
    pub auth: Authenticator,
    /// How often.
    pub rate_limits: RateLimits,
    /// What was last found about the host.
    pub readiness: health::Readiness,
    /// The bytes of artifacts.
    pub blobs: Blobs,
    /// Places for artifacts that are being made.
    pub copies: Places,
    /// Turns to write artifacts.
    pub turns: artifacts::turns::Turns,
    /// Places for artifacts that are being downloaded.
    pub artifact_downloads: Places,
    /// Places for files that are being downloaded.
    pub file_downloads: Places,
    /// Places for what holds a connection open: streams and foreground commands.
    pub places: Places,
    /// What previews carry.
    pub proxy: Proxy,
    /// Capability URLs.
    pub signer: Signer,
    /// The price lists.
    pub prices: billing::prices::Remembered,
    /// Connections to the agents inside sandboxes.
    pub guests: guests::Guests,
    /// When this process last knew each sandbox alive.
    pub sightings: sightings::Sightings,
    /// The commands that this process follows.
    pub runner: Runner,
    /// Ends streams, so that their clients go elsewhere; set first.
    pub draining: CancellationToken,
    /// Ends background work; set last.
    pub shutdown: CancellationToken,
    /// Background work that shutdown waits for.
    pub tasks: TaskTracker,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("driver", &self.driver).finish_non_exhaustive()
    }
}

impl App {
    /// Puts the parts together. Nothing runs yet: see `work::start`.
    #[must_use]
    pub fn new(
        config: Config,
        db: Db,
        driver: Arc<dyn Driver>,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        let config = Arc::new(config);
        let metrics = if config.metrics_listen.is_some() { Metrics::on() } else { Metrics::off() };
        let keys = metrics.keys.clone();
        Arc::new(Self {
            auth: Authenticator::new(db.clone(), Arc::clone(&clock), Arc::clone(&config), keys),
            rate_limits: RateLimits::per_minute(config.rate_limit_per_minute),
            readiness: health::Readiness::default(),
            blobs: Blobs::of(&config),
            copies: Places::of(COPIES_PER_ORGANIZATION),
            turns: artifacts::turns::Turns::default(),
            artifact_downloads: Places::of(downloads::PER_ORGANIZATION),
            file_downloads: Places::of(downloads::PER_ORGANIZATION),
            places: Places::of(OPEN_PER_ORGANIZATION),
            proxy: Proxy::of(&config),
            signer: Signer::default(),
            prices: billing::prices::Remembered::default(),
            guests: guests::Guests::default(),
            sightings: sightings::Sightings::default(),
            runner: Runner::default(),
            bus: Bus::default(),
            draining: CancellationToken::new(),
            shutdown: CancellationToken::new(),
            tasks: TaskTracker::new(),
            db,
            driver: Measured::around(driver, &metrics),
            metrics,
            clock,
            config,
        })
    }

    /// Runs a mutation to its end even if the client goes away in the middle: a dropped request must
    /// not leave half of its work to nobody.
    ///
    /// # Errors
    /// What the mutation fails with.
    pub async fn detached<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let handle = self.tasks.spawn(trace::carried(work).in_current_span());
        match handle.await {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(Error::Overloaded("shutting down")),
        }
    }
}
