//! What the control groups of a VMM allow it, while its machine starts and from then on.

use super::convert;
use crate::{
    jail::{failure::Result, groups::Groups, record::Record},
    spec::{Limits, Spec},
};

/// What the VMM itself needs besides the machine's memory.
const VMM_MIB: u32 = 128;
/// The VMM's own threads, and one for each queue of its devices.
const VMM_THREADS: u32 = 64;

/// How many threads the VMM may have.
pub(super) fn n_vmm_threads(spec: &Spec) -> u32 {
    VMM_THREADS + convert::n_cpus(spec)
}

/// What the VMM's control groups allow it.
fn vmm_limits(spec: &Spec) -> Limits {
    Limits {
        memory_mib: spec.limits.memory_mib.saturating_add(VMM_MIB),
        n_pids: n_vmm_threads(spec),
        ..spec.limits
    }
}

/// And while there is no stranger's code in the machine yet: it has a processor for each of its own, and the
/// VMM another one for what it does besides.
pub(super) fn starting_limits(spec: &Spec) -> Limits {
    const PROCESSOR: u32 = 1000;
    Limits { cpu_milli: (convert::n_cpus(spec) + 1) * PROCESSOR, ..vmm_limits(spec) }
}

/// Leaves a VMM the share of the processors that its sandbox has.
pub(super) fn limit_cpu(record: &Record, spec: &Spec) -> Result<()> {
    Groups { directories: record.groups.clone() }.limit_cpu(&spec.limits)
}
