//! A host whose virtualization runs stock kernels, with the images that `make test-microvm` has built.

use std::{env, fs, os::unix::fs::symlink, path::PathBuf, sync::Arc, thread, time::Duration};

use async_trait::async_trait;
use domain::id::SandboxId;
use drivers::{
    Driver,
    cloud_hypervisor::{CloudHypervisor, CloudHypervisorConfig},
    contract::{Subject, spec},
};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;
use tokio::{runtime, sync::OnceCell};

use crate::{network::namespace::Namespace, traces::Host};

/// The VMM's path, as for the server's setting.
const VMM: &str = "CROWNEST_CLOUD_HYPERVISOR";
/// The directory with a kernel, an initramfs and images.
const IMAGES: &str = "CROWNEST_MACHINE_IMAGES";

/// A state directory of its own; no machine is left over, however a test ends.
pub struct RealHost {
    pub config: CloudHypervisorConfig,
    _directory: TempDir,
}

impl RealHost {
    /// Its machines boot.
    pub fn new() -> Self {
        let directory =
            tempfile::Builder::new().prefix("crownest-").tempdir().expect("a directory");
        let config = config(directory.path().join("state"));
        let config = CloudHypervisorConfig { warm_start: false, ..config };
        Self { config, _directory: directory }
    }

    /// Its machines begin with one that was booted ahead, once for all such hosts of this process.
    pub async fn warm() -> Self {
        static PREPARED: OnceCell<PathBuf> = OnceCell::const_new();
        let stock = PREPARED.get_or_init(async || {
            // Ends with the folder for temporary files of this run.
            let state = env::temp_dir().join(format!("crownest-stock-{}", std::process::id()));
            CloudHypervisor::new(config(state.clone())).prepare(&spec()).await.unwrap();
            state.join("warm")
        });
        let mut host = Self::new();
        host.config.warm_start = true;
        fs::create_dir(&host.config.state_dir).unwrap();
        symlink(stock.await, host.config.state_dir.join("warm")).unwrap();
        host
    }

    /// Kills a machine's VMM; returns once it is gone.
    pub async fn kill_vmm(&self, id: SandboxId) {
        let vmm = self.vmm(id);
        kill_process(vmm, Signal::KILL).unwrap();
        while test_kill_process(vmm).is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The network that a machine's VMM is in.
    pub fn inside(&self, id: SandboxId) -> Namespace {
        Namespace::of(self.vmm(id).as_raw_nonzero().get())
    }

    /// The process of a machine's VMM.
    fn vmm(&self, id: SandboxId) -> Pid {
        let path = self.run_directory(id).join("record.json");
        let record: serde_json::Value =
            serde_json::from_slice(&fs::read(path).expect("a record")).expect("it is JSON");
        let pid = record["agent"]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
        pid.and_then(Pid::from_raw).expect("it names the process")
    }
}

/// The configuration with a state directory, for whoever only knows that.
pub fn config(state_dir: PathBuf) -> CloudHypervisorConfig {
    let named = |name: &str| {
        PathBuf::from(env::var_os(name).unwrap_or_else(|| panic!("{name} is not set")))
    };
    let images = named(IMAGES);
    CloudHypervisorConfig { vmm: named(VMM), ..CloudHypervisorConfig::new(state_dir, images) }
}

impl Host for RealHost {
    fn driver(&self) -> Arc<dyn Driver> {
        Arc::new(CloudHypervisor::new(self.config.clone()))
    }

    fn state_dir(&self) -> PathBuf {
        self.config.state_dir.clone()
    }
}

#[async_trait]
impl Subject for RealHost {
    fn driver(&self) -> Arc<dyn Driver> {
        Host::driver(self)
    }

    async fn crash(&self, id: SandboxId) {
        self.kill_vmm(id).await;
    }

    fn pass(&self, _: Duration) {}
}

impl Drop for RealHost {
    fn drop(&mut self) {
        let driver = Host::driver(self);
        // A server begins to sweep, and does not wait for the end of that for long.
        const N_SWEEPS: u32 = 4;
        let keeps_spares = self.config.n_spares > 0;
        // The test's own runtime cannot be waited for here.
        let removing = thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                for observed in driver.list().await.unwrap_or_default() {
                    let _ = driver.remove(observed.id).await;
                }
                // The test's own server is gone, and what it kept is to go with it.
                if keeps_spares {
                    for _ in 0..N_SWEEPS {
                        let _ = driver.check().await;
                    }
                }
            });
            Ok::<_, std::io::Error>(())
        });
        let _ = removing.join();
    }
}
