//! Turns a spec into the configuration of a machine. Pure, so that a change of it shows in a test; the
//! paths are those inside of the VMM's jail, the same for every machine.

use std::path::Path;

use super::{
    network,
    wire::{
        ConsoleConfig, ConsoleMode, CpusConfig, DiskConfig, ImageType, MemoryConfig, NetConfig,
        PayloadConfig, RngConfig, VmConfig, VsockConfig,
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

/// The machine of a spec.
pub(super) fn vm_config(spec: &Spec, landlock: Landlock, net: Net) -> VmConfig {
    let n_cpus = n_cpus(spec);
    let run = Path::new(RUN);
    VmConfig {
        payload: PayloadConfig {
            kernel: KERNEL.into(),
            initramfs: INITRAMFS.into(),
            cmdline: CMDLINE.to_owned(),
        },
        cpus: CpusConfig { boot_vcpus: n_cpus, max_vcpus: n_cpus, nested: false },
        memory: MemoryConfig { size: u64::from(spec.limits.memory_mib) << 20, zones: None },
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
        let config = vm_config(&spec, Landlock::On, Net::Card);
        let text = serde_json::to_string_pretty(&config).unwrap();
        assert_eq!(text, include_str!("convert.golden.json").trim_end());
        let config = vm_config(&spec, Landlock::Off, Net::None);
        assert!(!config.landlock_enable && config.net.is_none());
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
