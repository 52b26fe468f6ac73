//! What a golden machine is made of: sandboxes that agree in all of it may begin with the same one.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use domain::{egress::EgressPolicy, id::SandboxId};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    cloud_hypervisor::{
        CloudHypervisorConfig,
        convert::{self, Landlock},
        images,
        machine::landlock,
        network::Network,
    },
    jail::failure::{Doing, Failure, Result},
    spec::{Limits, Spec, Template},
};

/// Rises with whatever this version of the driver does differently with what it is made of.
const SHAPE: u32 = 2;

/// What tells a file from what was at its path before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Stamp {
    pub path: PathBuf,
    n_bytes: u64,
    inode: u64,
    modified: i64,
    modified_nanos: i64,
}

impl Stamp {
    pub fn of(path: PathBuf) -> Result<Self> {
        let found = fs::metadata(&path).doing("look at", &path)?;
        Ok(Self {
            n_bytes: found.len(),
            inode: found.ino(),
            modified: found.mtime(),
            modified_nanos: found.mtime_nsec(),
            path,
        })
    }

    /// Keeps it in a file.
    pub fn write(&self, to: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| Failure::host(format!("cannot write a stamp: {error}")))?;
        fs::write(to, text).doing("write", to)
    }

    /// The one that was kept, as long as it still is of what is at its path.
    pub fn read(from: &Path) -> Result<Self> {
        let text = fs::read(from).doing("read", from)?;
        let stamp: Self = serde_json::from_slice(&text).map_err(|error| {
            Failure::host(format!("{} makes no sense: {error}", from.display()))
        })?;
        if Self::of(stamp.path.clone())? == stamp {
            return Ok(stamp);
        }
        let path = stamp.path.display();
        Err(Failure::unsupported(format!("{path} is not what it was; put back what was there")))
    }
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Inputs {
    shape: u32,
    vmm: Stamp,
    kernel: Stamp,
    initramfs: Stamp,
    image: Stamp,
    n_cpus: u32,
    memory_mib: u32,
    disk_mib: u32,
    network: bool,
    landlock: bool,
}

/// What a golden machine is made of, and for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Recipe {
    inputs: Inputs,
    key: String,
    template: Template,
    limits: Limits,
}

impl Recipe {
    /// What the sandboxes of a spec begin with, whose image is the one at `image`.
    #[tracing::instrument(name = "recipe", level = "debug", skip_all)]
    pub fn new(config: &CloudHypervisorConfig, spec: &Spec, image: PathBuf) -> Result<Self> {
        let inputs = Inputs {
            shape: SHAPE,
            vmm: Stamp::of(config.vmm()?)?,
            kernel: Stamp::of(images::file("kernel", &config.kernel)?)?,
            initramfs: Stamp::of(images::file("initramfs", &config.initramfs)?)?,
            image: Stamp::of(image)?,
            n_cpus: convert::n_cpus(spec),
            memory_mib: spec.limits.memory_mib,
            disk_mib: spec.limits.disk_mib,
            network: Network::of(config).is_some(),
            landlock: landlock() == Landlock::On,
        };
        let text = serde_json::to_vec(&inputs)
            .map_err(|error| Failure::host(format!("cannot write a recipe: {error}")))?;
        let key = hex::encode(&Sha256::digest(&text)[..16]);
        Ok(Self { inputs, key, template: spec.template.clone(), limits: spec.limits })
    }

    /// The name of what is made of it: 32 hexadecimal digits.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The machine that is made of it, while it is made. All servers agree in it, so only one makes it.
    pub fn id(&self) -> SandboxId {
        format!("sbx_{}", self.key).parse().expect("an id is a prefix and 32 hexadecimal digits")
    }

    /// The template's image.
    pub fn image(&self) -> &Path {
        &self.inputs.image.path
    }

    /// What the golden machine itself is.
    pub fn spec(&self) -> Spec {
        Spec {
            template: self.template.clone(),
            env: BTreeMap::new(),
            limits: self.limits,
            egress: EgressPolicy::deny_all(),
        }
    }

    /// The sizes of its memory and its disk, in bytes.
    pub fn sizes(&self) -> (u64, u64) {
        (u64::from(self.inputs.memory_mib) << 20, u64::from(self.inputs.disk_mib) << 20)
    }
}
