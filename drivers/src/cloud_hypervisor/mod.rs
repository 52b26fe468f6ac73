//! Sandboxes as machines of their own: a Cloud Hypervisor process for each, in a jail, driven through its
//! REST API, with the agent behind the machine's vsock. For code that nobody trusts.

pub mod build;
mod check;
pub mod client;
mod convert;
mod images;
mod launch;
mod lifecycle;
mod version;
mod vsock;
pub mod wire;

use std::path::PathBuf;

use async_trait::async_trait;
use domain::id::SandboxId;

use self::lifecycle::Sandbox;
use crate::{
    driver::{BoxedStream, Driver, DriverError, ErrorKind, Verb},
    jail::{
        self,
        failure::Failure,
        groups::Promise,
        hold::{self, Held},
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
        }
    }
}

/// The Cloud Hypervisor driver.
#[derive(Debug, Clone)]
pub struct CloudHypervisor {
    config: CloudHypervisorConfig,
    promise: Promise,
}

impl CloudHypervisor {
    /// Makes a driver. Touches nothing yet.
    #[must_use]
    pub fn new(mut config: CloudHypervisorConfig) -> Self {
        config.state_dir = jail::absolute(&config.state_dir);
        config.images = jail::absolute(&config.images);
        Self { config, promise: Promise::default() }
    }

    fn sandbox(&self, id: SandboxId) -> Sandbox {
        Sandbox::new(&self.config, &self.promise, id)
    }
}

#[async_trait]
impl Driver for CloudHypervisor {
    fn name(&self) -> &'static str {
        "cloud_hypervisor"
    }

    #[tracing::instrument(skip_all)]
    async fn check(&self) -> Result<Vec<Limitation>, DriverError> {
        let (config, promise) = (self.config.clone(), self.promise.clone());
        to_the_end(Verb::Check, async move { check::check(&config, &promise).await }).await
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
            hold::list(&driver.config.state_dir, |id| driver.sandbox(id)).await
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
}
