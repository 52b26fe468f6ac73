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

/// What a file of the VMM's may have besides what is the machine's.
const FILE_SPARE_MIB: u64 = 64;

/// How many threads the VMM may have.
pub(super) fn n_vmm_threads(spec: &Spec) -> u32 {
    VMM_THREADS + convert::n_cpus(spec)
}

/// How large a file may become that the VMM writes, in bytes: its machine's disk, or all of the machine's
/// memory when that is written down. One that was taken over does not fill the host's disk with a file.
pub(super) fn largest_file(spec: &Spec) -> u64 {
    let largest_mib = spec.limits.disk_mib.max(spec.limits.memory_mib);
    (u64::from(largest_mib) + FILE_SPARE_MIB) << 20
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::spec;

    #[test]
    fn a_file_may_be_as_large_as_the_disk_or_the_memory() {
        for (memory_mib, disk_mib, wanted_mib) in [(256, 8, 320), (256, 10_240, 10_304)] {
            let limits = Limits { memory_mib, disk_mib, ..spec().limits };
            assert_eq!(largest_file(&Spec { limits, ..spec() }), wanted_mib << 20);
        }
    }
}
