//! What a driver is asked to run and what it tells about it. Plain data; no behaviour.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use domain::{
    egress::EgressPolicy,
    id::{SandboxId, TemplateVersionId},
};
use serde::{Deserialize, Serialize};

/// Everything a driver needs to make a sandbox. The same spec is passed each time `ensure` is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The environment to boot.
    pub template: Template,
    /// Environment variables of every process inside (contract, section 9.4). Never secrets.
    pub env: BTreeMap<String, String>,
    /// What the sandbox may use at most.
    pub limits: Limits,
    /// What it may reach of the network, where the driver gives it one at all.
    pub egress: EgressPolicy,
}

/// The environment that a sandbox is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    /// `base`, `python`, `node` or `python-node`.
    pub slug: String,
    /// The immutable version.
    pub version_id: TemplateVersionId,
}

/// Upper bounds for one sandbox. A driver that cannot enforce one says so in [`Limitation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// CPU time per wall time, in thousandths of a core (1000 = one core).
    pub cpu_milli: u32,
    /// Memory, in MiB, the files of `/workspace` and `/tmp` included where they live in memory.
    pub memory_mib: u32,
    /// Size of `/workspace`, in MiB.
    pub disk_mib: u32,
    /// Number of processes and threads.
    pub n_pids: u32,
}

/// A sandbox as the driver sees it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Which sandbox.
    pub id: SandboxId,
    /// When it started, by the host's clock.
    pub started_at: DateTime<Utc>,
}

/// Something this host cannot do for sandboxes of this driver, in words for an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limitation {
    /// What is not enforced or not available, as one sentence.
    pub what: String,
    /// What would mend it, such as a command to run.
    pub remedy: String,
}
