//! A host for tests of the Cloud Hypervisor driver: a state directory, the stand-in VMM and what stands
//! behind it, files in place of a kernel and images, and nothing left over at the end.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use domain::id::SandboxId;
use drivers::{
    Driver, DriverError,
    cloud_hypervisor::{CloudHypervisor, CloudHypervisorConfig, NetworkConfig},
};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use tempfile::TempDir;

use crate::{
    hypervisor::Hypervisor,
    local_host::{pid_on_record, record, remove_all},
    network::world,
    traces::Host,
};

/// The program that is started in place of the VMM.
pub const STAND_IN: &str = env!("CARGO_BIN_EXE_stand-in-vmm");

pub struct MachineHost {
    pub config: CloudHypervisorConfig,
    pub directory: TempDir,
    _hypervisor: Hypervisor,
}

impl MachineHost {
    pub fn new() -> Self {
        let directory =
            tempfile::Builder::new().prefix("crownest-").tempdir().expect("a directory");
        let hypervisor = Hypervisor::start(directory.path());
        let config = config(directory.path());
        fs::create_dir(&config.images).expect("a directory");
        for name in ["kernel", "initramfs", "base"] {
            fs::write(config.images.join(name), "").expect("a file");
        }
        if config.network.is_some() {
            let device = makedev(10, 200);
            let everybody = Mode::from_bits_truncate(0o666);
            mknod(&tun(directory.path()), SFlag::S_IFCHR, everybody, device).expect("a device");
            fs::set_permissions(tun(directory.path()), fs::Permissions::from_mode(0o666))
                .expect("its mode");
        }
        Self { config, directory, _hypervisor: hypervisor }
    }

    /// The driver under its own name.
    pub fn cloud_hypervisor(&self) -> CloudHypervisor {
        CloudHypervisor::new(self.config.clone())
    }

    /// The device by which cards are opened: one that everybody may use, as udev makes it.
    pub fn tun(&self) -> PathBuf {
        tun(self.directory.path())
    }

    /// Has the stand-in do something wrong: a word and a name, such as `refuse vm.boot`.
    pub fn set_fault(&self, fault: &str) {
        fs::write(&self.config.initramfs, format!("{fault}\n")).expect("a file");
    }

    /// What its control groups allow of the processors: of each 100 ms so many microseconds, whatever the
    /// version.
    pub fn quota(&self, id: SandboxId) -> Option<u32> {
        let groups = record(&self.config.state_dir, id)["groups"].take();
        let groups: Vec<PathBuf> = serde_json::from_value(groups).expect("groups are paths");
        let read =
            |file: &str| groups.iter().find_map(|group| fs::read_to_string(group.join(file)).ok());
        let quota = read("cpu.max").or_else(|| read("cpu.cfs_quota_us"))?;
        quota.split_whitespace().next()?.parse().ok()
    }

    /// The process of the VMM.
    pub fn vmm_pid(&self, id: SandboxId) -> i32 {
        pid_on_record(&self.config.state_dir, id, "agent")
    }
}

fn tun(directory: &Path) -> PathBuf {
    directory.join("tun")
}

/// The configuration in a host's directory, for whoever only knows that.
pub fn config(directory: &Path) -> CloudHypervisorConfig {
    CloudHypervisorConfig {
        vmm: STAND_IN.into(),
        kvm: directory.join("kvm"),
        warm_start: false,
        network: world::config().map(|network| NetworkConfig { tun: tun(directory), ..network }),
        ..CloudHypervisorConfig::new(directory.join("state"), directory.join("images"))
    }
}

/// Has another server begin, which sweeps away what dead ones kept for later. It does not wait for that for
/// long, and what is kept by somebody who lives stays.
fn sweep(host: &MachineHost) {
    if host.config.n_spares == 0 {
        return;
    }
    const N_SWEEPS: u32 = 20;
    let (driver, kept) = (host.cloud_hypervisor(), host.config.state_dir.join("warm/sandboxes"));
    // In a thread, because the test's own runtime may be unwinding.
    let sweeping = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            for _ in 0..N_SWEEPS {
                driver.check().await?;
                if fs::read_dir(&kept).map_or(0, Iterator::count) == 0 {
                    break;
                }
            }
            Ok::<_, DriverError>(())
        })
    });
    let swept = sweeping.join();
    assert!(matches!(swept, Ok(Ok(()))) || thread::panicking(), "the host could not be swept");
}

impl Host for MachineHost {
    fn driver(&self) -> Arc<dyn Driver> {
        Arc::new(self.cloud_hypervisor())
    }

    fn state_dir(&self) -> PathBuf {
        self.config.state_dir.clone()
    }
}

impl Drop for MachineHost {
    fn drop(&mut self) {
        sweep(self);
        remove_all(self.driver());
    }
}
