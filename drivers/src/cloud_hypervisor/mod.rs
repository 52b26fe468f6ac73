//! Sandboxes as machines of their own: a Cloud Hypervisor process for each, in a jail, driven through its
//! REST API, with the agent behind the machine's vsock. For code that nobody trusts.

pub mod build;
mod check;
pub mod client;
mod convert;
mod images;
mod launch;
mod lifecycle;
mod limits;
mod machine;
mod network;
mod spares;
mod suspend;
mod version;
pub mod vsock;
mod waking;
mod warm;
pub mod wire;

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::DateTime;
use domain::id::SandboxId;
use tracing::warn;

pub use self::network::NetworkConfig;
use self::{
    lifecycle::{Preparation, Sandbox},
    spares::{Kind, Spares},
    warm::{Recipe, Stock, Way},
};
use crate::{
    driver::{BoxedStream, Driver, DriverError, ErrorKind, Suspend, Verb},
    jail::{
        self,
        failure::Failure,
        groups::Promise,
        hold::{self, Held},
        record::Mark,
        sweeper::Sweeper,
        to_the_end,
    },
    spec::{Limitation, Observed, Spec},
};

/// Where the driver finds and keeps things.
#[derive(Debug, Clone)]
pub struct CloudHypervisorConfig {
    /// A directory of its own. Servers that share it share the sandboxes.
    pub state_dir: PathBuf,
    /// The VMM: a path, or a name to look up on `PATH`.
    pub vmm: PathBuf,
    /// The kernel of the machines, best uncompressed.
    pub kernel: PathBuf,
    /// Their initial file system, which holds the agent.
    pub initramfs: PathBuf,
    /// The directory with an image for each template, named by the template version's id or the
    /// template's name.
    pub images: PathBuf,
    /// Bubblewrap, version 0.8 or later: a path, or a name to look up on `PATH`.
    pub bwrap: PathBuf,
    /// The first user id of the range that a server that is root gives to VMMs, each its own.
    pub first_uid: u32,
    /// The length of that range, which bounds the number of sandboxes.
    pub n_uids: u32,
    /// What the VMM finds as `/dev/kvm`.
    pub kvm: PathBuf,
    /// Whether sandboxes begin with machines that were booted ahead.
    pub warm_start: bool,
    /// How many VMMs are kept started, besides, for each kind of sandboxes that was asked for lately. Only a
    /// server that is root keeps any.
    pub n_spares: u32,
    /// How old such a VMM may be and still be taken: what the host's network was, it knows from when it was
    /// made.
    pub spare_age: Duration,
    /// The network of machines; none: they have none, as where the server is not root.
    pub network: Option<NetworkConfig>,
}

impl CloudHypervisorConfig {
    /// The usual configuration: images, kernel and initramfs in one directory.
    #[must_use]
    pub fn new(state_dir: impl Into<PathBuf>, images: impl Into<PathBuf>) -> Self {
        let images = images.into();
        Self {
            state_dir: state_dir.into(),
            vmm: "cloud-hypervisor".into(),
            kernel: images.join("kernel"),
            initramfs: images.join("initramfs"),
            images,
            bwrap: "bwrap".into(),
            first_uid: jail::FIRST_UID,
            n_uids: jail::N_UIDS,
            kvm: "/dev/kvm".into(),
            warm_start: true,
            n_spares: 0,
            spare_age: Duration::from_secs(600),
            network: Some(NetworkConfig::default()),
        }
    }
}

/// How a sandbox started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the memory of a golden machine, in a VMM that was started ahead.
    Spare,
    /// With the memory of a golden machine, which others share.
    Clone,
    /// With a copy of it.
    Copy,
    /// With a boot.
    Boot,
}

impl Start {
    /// Every way, the quickest first.
    pub const ALL: [Self; 4] = [Self::Spare, Self::Clone, Self::Copy, Self::Boot];

    /// The way as metrics name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Spare => "spare",
            Self::Clone => "clone",
            Self::Copy => "copy",
            Self::Boot => "boot",
        }
    }

    const fn of(way: Way) -> Self {
        match way {
            Way::Clone => Self::Clone,
            Way::Copy => Self::Copy,
        }
    }
}

/// The Cloud Hypervisor driver.
#[derive(Clone)]
pub struct CloudHypervisor {
    config: CloudHypervisorConfig,
    promise: Promise,
    stock: Arc<Stock>,
    spares: Spares,
    sweeper: Sweeper,
    /// Whether a trial did.
    went_well: Arc<tokio::sync::Mutex<bool>>,
}

impl fmt::Debug for CloudHypervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloudHypervisor").field("config", &self.config).finish_non_exhaustive()
    }
}

impl CloudHypervisor {
    /// Makes a driver. Touches nothing yet.
    #[must_use]
    pub fn new(mut config: CloudHypervisorConfig) -> Self {
        config.state_dir = jail::absolute(&config.state_dir);
        config.images = jail::absolute(&config.images);
        let stock = Arc::new(Stock::new(&config.state_dir, None));
        // Processes of others than root are found again by nothing but their record.
        let spares =
            Spares::new(if jail::is_root() { config.n_spares } else { 0 }, config.spare_age);
        let (promise, sweeper) = (Promise::default(), Sweeper::default());
        Self { config, promise, stock, spares, sweeper, went_well: Arc::default() }
    }

    /// The same, telling how each sandbox started.
    #[must_use]
    pub fn telling(mut self, told: impl Fn(Start) + Send + Sync + 'static) -> Self {
        self.stock = Arc::new(Stock::new(&self.config.state_dir, Some(Arc::new(told))));
        self
    }

    /// Makes the golden machine that sandboxes of a spec begin with, if it is not there, and the spares for
    /// them, and waits for both. Otherwise the first sandbox that had to boot has it made, and those that
    /// began with it the spares.
    ///
    /// # Errors
    /// As [`Driver::ensure`].
    pub async fn prepare(&self, spec: &Spec) -> Result<(), DriverError> {
        let (driver, spec) = (self.clone(), spec.clone());
        to_the_end(Verb::Ensure, async move {
            let Self { config, promise, stock, spares, .. } = &driver;
            let recipe =
                Recipe::new(config, &spec, images::image(&config.images, &spec.template)?)?;
            if stock.find(&recipe)?.is_none() {
                let preparation = Preparation::new(config, promise, stock, &recipe);
                preparation.ensure(&recipe).await?;
                preparation.remove().await?;
            }
            let Some(golden) = stock.find(&recipe)? else { return Ok(()) };
            let preparation = |id| Preparation::with_id(config, promise, stock, id);
            spares.fill(&Kind::new(&recipe, &spec), &golden, preparation).await
        })
        .await
    }

    fn sandbox(&self, id: SandboxId) -> Sandbox {
        Sandbox::new(&self.config, &self.promise, &self.stock, &self.spares, id)
    }

    /// Starts a VMM in its jail, as a sandbox would have it, and ends it; once that went well, never again.
    async fn try_out(&self) -> Result<(), Failure> {
        // Whoever is at it will know.
        let Ok(mut went_well) = self.went_well.try_lock() else { return Ok(()) };
        if *went_well {
            return Ok(());
        }
        let Self { config, promise, stock, .. } = self;
        // When it was made says nothing; what tells it from others is random.
        let id = SandboxId::generate(DateTime::UNIX_EPOCH);
        match Preparation::with_id(config, promise, stock, id).try_out().await {
            Ok(()) => *went_well = true,
            // That says nothing about a host which is full of sandboxes.
            Err(failure) if failure.kind == ErrorKind::NoCapacity => {}
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    /// Claims the users of suspended sandboxes again. Claims end with the host's boot, and whoever claimed one
    /// of those users in between would keep the sandbox from going on.
    async fn claim_users_again(&self) -> Result<(), Failure> {
        for id in hold::suspended(&self.config.state_dir)? {
            let machine = self.sandbox(id).machine;
            match machine.claim_user_again().await {
                Err(failure) if machine.hold.directory.is(Mark::Suspended) => {
                    warn!(sandbox = %id, %failure, "a suspended sandbox does not get its user back");
                }
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Sweeps away machines that a dead server was about to prepare, its spares, and golden ones that have changed.
    async fn tidy_stock(&self) -> Result<(), Failure> {
        let Self { config, promise, stock, sweeper, .. } = self;
        let preparation = |id| Preparation::with_id(config, promise, stock, id);
        hold::list(stock.workshop(), sweeper, preparation).await?;
        stock.check().await
    }
}

#[async_trait]
impl Driver for CloudHypervisor {
    fn name(&self) -> &'static str {
        "cloud_hypervisor"
    }

    #[tracing::instrument(skip_all)]
    async fn check(&self) -> Result<Vec<Limitation>, DriverError> {
        let driver = self.clone();
        to_the_end(Verb::Check, async move {
            driver.claim_users_again().await?;
            driver.tidy_stock().await?;
            let limitations = check::check(&driver.config, &driver.promise).await?;
            driver.try_out().await?;
            Ok(limitations)
        })
        .await
    }

    #[tracing::instrument(skip_all, fields(sandbox = %id))]
    async fn ensure(&self, id: SandboxId, spec: &Spec) -> Result<Observed, DriverError> {
        let (sandbox, spec) = (self.sandbox(id), spec.clone());
        let ensuring = async move { sandbox.ensure(&spec).await };
        let started_at = to_the_end(Verb::Ensure, ensuring).await?;
        Ok(Observed { id, started_at })
    }

    #[tracing::instrument(skip_all, fields(sandbox = %id))]
    async fn remove(&self, id: SandboxId) -> Result<(), DriverError> {
        let sandbox = self.sandbox(id);
        to_the_end(Verb::Remove, async move { sandbox.remove().await }).await
    }

    #[tracing::instrument(skip_all, fields(sandbox = %id))]
    async fn observe(&self, id: SandboxId) -> Result<Option<Observed>, DriverError> {
        let running_since = self.sandbox(id).hold().running_since();
        let started_at = running_since.map_err(|failure| failure.of_verb(Verb::Observe))?;
        Ok(started_at.map(|started_at| Observed { id, started_at }))
    }

    #[tracing::instrument(skip_all)]
    async fn list(&self) -> Result<Vec<Observed>, DriverError> {
        let driver = self.clone();
        to_the_end(Verb::List, async move {
            hold::list(&driver.config.state_dir, &driver.sweeper, |id| driver.sandbox(id)).await
        })
        .await
    }

    #[tracing::instrument(skip_all, fields(sandbox = %id))]
    async fn connect(&self, id: SandboxId) -> Result<BoxedStream, DriverError> {
        let sandbox = self.sandbox(id);
        let gone = || Failure::new(ErrorKind::Gone, format!("{id} does not run"));
        let running_since = || sandbox.hold().running_since();
        let connecting = async {
            if running_since()?.is_none() {
                return Err(gone());
            }
            match sandbox.connect().await {
                // It may have died since it was looked at.
                Err(_) if running_since()?.is_none() => Err(gone()),
                connected => connected,
            }
        };
        let stream = connecting.await.map_err(|failure| failure.of_verb(Verb::Connect))?;
        Ok(Box::new(stream))
    }

    async fn close(&self) {
        self.spares.close().await;
    }

    fn as_suspend(&self) -> Option<&dyn Suspend> {
        Some(self)
    }
}

#[async_trait]
impl Suspend for CloudHypervisor {
    #[tracing::instrument(skip_all, fields(sandbox = %id))]
    async fn suspend(&self, id: SandboxId) -> Result<(), DriverError> {
        let sandbox = self.sandbox(id);
        to_the_end(Verb::Suspend, async move { sandbox.suspend().await }).await
    }

    #[tracing::instrument(skip_all, fields(sandbox = %id))]
    async fn resume(&self, id: SandboxId) -> Result<Observed, DriverError> {
        let sandbox = self.sandbox(id);
        let resuming = async move { sandbox.resume().await };
        let started_at = to_the_end(Verb::Resume, resuming).await?;
        Ok(Observed { id, started_at })
    }

    #[tracing::instrument(skip_all)]
    async fn suspended(&self) -> Result<Vec<SandboxId>, DriverError> {
        hold::suspended(&self.config.state_dir).map_err(|failure| failure.of_verb(Verb::Suspended))
    }
}
