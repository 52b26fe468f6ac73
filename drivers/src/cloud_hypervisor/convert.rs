//! Turns a spec into the configuration of a machine. Pure, so that a change of it shows in a test; the
//! paths are those inside of the VMM's jail, the same for every machine.

use std::path::{Path, PathBuf};

use super::{
    network,
    wire::{
        ConsoleConfig, ConsoleMode, CpusConfig, DiskConfig, ImageType, LandlockConfig,
        MemoryConfig, MemoryRestoreMode, MemoryZoneConfig, NetConfig, PayloadConfig, RestoreConfig,
        RngConfig, VmConfig, VsockConfig,
    },
};
use crate::spec::Spec;

/// The kernel, inside.
pub(super) const KERNEL: &str = "/vm/kernel";
/// The initial file system with the agent, inside.
pub(super) const INITRAMFS: &str = "/vm/initramfs";
/// The template's image, inside.
pub(super) const IMAGE: &str = "/vm/image";
/// The directory that the VMM can write to, inside.
pub(super) const RUN: &str = "/vm/run";
/// The sandbox's own disk, in that directory.
pub(super) const DISK: &str = "disk";
/// The memory of a golden machine, or of one that got a copy of it, in that directory.
pub(super) const MEMORY: &str = "memory";
/// Where a machine is written down, and what one is restored from, in that directory.
pub(super) const SNAPSHOT: &str = "snapshot";
/// The memory that clones share, inside.
pub(super) const GOLDEN: &str = "/vm/golden";
/// The API's socket, in that directory.
pub(super) const API: &str = "api";
/// The socket that stands for the machine's vsock, in that directory.
pub(super) const VSOCK: &str = "vsock";

/// The machine's address on its vsock. No other machine shares the socket, so all may have the same.
const CID: u64 = 3;
/// No console, which is what boots fastest. A kernel that cannot go on starts anew, upon which the
/// agent finds that nobody waits for it and powers off.
const CMDLINE: &str = "quiet panic=-1 reboot=t random.trust_cpu=on";
const MILLI_PER_CPU: u32 = 1000;

/// Whether the VMM confines itself to the files of its machine. One that is asked to refuses machines
/// on a kernel that cannot do all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Landlock {
    On,
    Off,
}

/// Whether the machine has a network card, which is made before the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Net {
    Card,
    None,
}

/// Where the memory of a machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Memory {
    /// Its own alone.
    Own,
    /// In a file, in which it stays when the machine ends.
    InFile,
}

/// What a machine does when it was made of what was written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    GoesOn,
    Waits,
}

/// The machine of a spec.
pub(super) fn vm_config(spec: &Spec, landlock: Landlock, net: Net, memory: Memory) -> VmConfig {
    let n_cpus = n_cpus(spec);
    let run = Path::new(RUN);
    let n_bytes = u64::from(spec.limits.memory_mib) << 20;
    let memory = match memory {
        Memory::Own => MemoryConfig { size: n_bytes, zones: None },
        Memory::InFile => MemoryConfig {
            size: 0,
            zones: Some(vec![MemoryZoneConfig {
                id: "memory".to_owned(),
                size: n_bytes,
                file: run.join(MEMORY),
                shared: true,
            }]),
        },
    };
    VmConfig {
        payload: PayloadConfig {
            kernel: KERNEL.into(),
            initramfs: INITRAMFS.into(),
            cmdline: CMDLINE.to_owned(),
        },
        cpus: CpusConfig { boot_vcpus: n_cpus, max_vcpus: n_cpus, nested: false },
        memory,
        disks: vec![
            DiskConfig { path: IMAGE.into(), readonly: true, image_type: ImageType::Raw },
            DiskConfig { path: run.join(DISK), readonly: false, image_type: ImageType::Raw },
        ],
        net: match net {
            Net::Card => Some(vec![NetConfig {
                id: "net".to_owned(),
                tap: network::GUEST.to_owned(),
                mac: network::GUEST_MAC.to_owned(),
            }]),
            Net::None => None,
        },
        rng: RngConfig { src: "/dev/urandom".into() },
        vsock: VsockConfig { cid: CID, socket: run.join(VSOCK) },
        serial: ConsoleConfig { mode: ConsoleMode::Null, file: None },
        console: ConsoleConfig { mode: ConsoleMode::Off, file: None },
        landlock_enable: landlock == Landlock::On,
        landlock_rules: match landlock {
            // Files that it writes a machine to are opened to be read as well, which it would not let itself.
            Landlock::On => {
                Some(vec![LandlockConfig { path: RUN.into(), access: "rw".to_owned() }])
            }
            Landlock::Off => None,
        },
    }
}

/// Where the VMM writes a machine down.
pub(super) fn snapshot() -> PathBuf {
    Path::new(RUN).join(SNAPSHOT)
}

/// What the VMM makes of what lies there.
pub(super) fn restore(then: Then) -> RestoreConfig {
    RestoreConfig {
        source_url: format!("file://{}", snapshot().display()),
        // What is in the file is mapped, and what was not is not there.
        memory_restore_mode: MemoryRestoreMode::Copy,
        resume: then == Then::GoesOn,
    }
}

/// As many processors as it takes to use the CPU time that the control group leaves it.
pub(super) fn n_cpus(spec: &Spec) -> u32 {
    spec.limits.cpu_milli.div_ceil(MILLI_PER_CPU).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{contract, spec::Limits};

    #[test]
    fn a_machine_is_this_configuration() {
        let limits = Limits { cpu_milli: 1500, memory_mib: 512, disk_mib: 64, n_pids: 7 };
        let spec = Spec { limits, ..contract::spec() };
        let config = vm_config(&spec, Landlock::On, Net::Card, Memory::Own);
        let text = serde_json::to_string_pretty(&config).unwrap();
        assert_eq!(text, include_str!("convert.golden.json").trim_end());
        let config = vm_config(&spec, Landlock::Off, Net::None, Memory::InFile);
        assert!(!config.landlock_enable && config.landlock_rules.is_none());
        assert_eq!(config.net, None);
        let zones = config.memory.zones.unwrap();
        assert_eq!((config.memory.size, zones[0].size, zones[0].shared), (0, 512 << 20, true));
    }

    #[test]
    fn there_are_processors_for_all_of_the_cpu_time() {
        for (cpu_milli, wanted) in [(1, 1), (1000, 1), (1001, 2), (2000, 2), (8000, 8)] {
            let spec = contract::spec();
            let limits = Limits { cpu_milli, ..spec.limits };
            assert_eq!(n_cpus(&Spec { limits, ..spec }), wanted, "{cpu_milli}");
        }
    }
}
