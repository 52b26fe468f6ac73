//! Makes one sandbox of this driver: a VMM in its jail, a machine in that, and the agent in it. What
//! becomes of it after that, and after any accident, is the same as with every driver that keeps processes.

use std::{
    fs::{self, File},
    os::unix::fs::{OpenOptionsExt as _, chown},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use chrono::{DateTime, Utc};
use domain::{egress::EgressPolicy, id::SandboxId};
use protocol::{AGENT_PORT, MACHINE_PORT};
use tokio::{net::UnixStream, process::Command};

use super::{
    CloudHypervisorConfig,
    client::Client,
    convert::{self, DISK, Landlock, Net},
    images,
    launch::{self, User, View},
    network::{self, Network},
    version::Version,
    vsock::{self, Door},
};
use crate::{
    guest::{Begin, Card, Guest, MachineControl},
    jail::{
        self,
        failure::{Doing, Failure, Result},
        groups::{Groups, Promise},
        hold::{Held, Hold, silent},
        launcher::{self, Launch, Launcher, Script},
        processes::Process,
        program,
        record::private_directory,
    },
    spec::{Limits, Spec},
};

/// What the VMM itself needs besides the machine's memory.
const VMM_MIB: u32 = 128;
/// The VMM's own threads, and one for each queue of its devices.
const VMM_THREADS: u32 = 64;
/// Between two looks for the API of a VMM that was just started.
const API_RETRY: Duration = Duration::from_millis(2);

/// One sandbox, whether it is there or not.
#[derive(Debug, Clone)]
pub(super) struct Sandbox {
    config: CloudHypervisorConfig,
    hold: Hold,
    promise: Promise,
}

impl Sandbox {
    pub fn new(config: &CloudHypervisorConfig, promise: &Promise, id: SandboxId) -> Self {
        let uids = jail::uids(config.first_uid, config.n_uids);
        let hold = Hold::new(&config.state_dir, id, uids, launch::vmm_inside(id));
        Self { config: config.clone(), hold, promise: promise.clone() }
    }

    /// Opens a stream to the agent of a sandbox that runs.
    pub async fn connect(&self) -> Result<UnixStream> {
        vsock::connect(&self.run(), AGENT_PORT).await
    }

    /// The directory that its VMM may write to.
    fn run(&self) -> PathBuf {
        self.hold.directory.path.join("vm")
    }

    fn launch(&self, spec: &Spec, image: PathBuf, uid: Option<u32>) -> Result<Launch> {
        let config = &self.config;
        let vmm = config.vmm()?;
        let view = View {
            libraries: launch::libraries(&vmm).doing("read", &vmm)?,
            vmm,
            kernel: images::file("kernel", &config.kernel)?,
            initramfs: images::file("initramfs", &config.initramfs)?,
            image,
            run: self.run(),
            kvm: config.kvm.clone(),
            tun: Network::of(config).map(|network| network.tun().to_owned()),
        };
        let n_processes = VMM_THREADS + convert::n_cpus(spec);
        let kvm_group = kvm_group(&config.kvm)?;
        let user = uid.map(|uid| User { uid, kvm_group, n_processes });
        let bwrap = program::find_bwrap(&config.bwrap)?;
        let stage = Path::new(jail::SHARED).join("stage");
        if user.is_some() {
            fs::create_dir_all(&stage).doing("create", &stage)?;
        }
        let (program, arguments) = launch::command(self.hold.id, &view, user, &bwrap, &stage);
        Ok(Launch {
            script: Script { text: launch::SCRIPT, name: "launch".into() },
            program,
            arguments,
            // Root becomes the user on the way.
            uid: None,
            n_pids: n_processes,
            stdin: Stdio::null(),
        })
    }

    /// Has the VMM make the machine, and the machine start its agent.
    async fn bring_up(&self, spec: &Spec, vmm: Vmm, now: DateTime<Utc>) -> Result<()> {
        let Vmm { process, uid, door } = vmm;
        let client = Client::new(self.run());
        let (card, ()) = tokio::try_join!(
            self.open_network(process, uid, &spec.egress),
            answers_in_a_version(&client)
        )?;
        let net = if card.is_some() { Net::Card } else { Net::None };
        client.create(&convert::vm_config(spec, landlock(), net)).await?;
        client.boot().await?;
        door.knock().await?;
        let stream = vsock::connect(&self.run(), MACHINE_PORT).await?;
        let mut machine = MachineControl::over(Box::new(stream)).await.map_err(silent)?;
        let Spec { env, limits, .. } = spec;
        let network = card.as_ref();
        let begin = Begin { id: self.hold.id, env, n_pids: limits.n_pids, now, network };
        machine.begin(&begin).await.map_err(silent)?;
        let guest = Guest::over(Box::new(self.connect().await?)).await.map_err(silent)?;
        guest.hello().await.map(drop).map_err(silent)
    }

    /// Makes the machine's network, if it is to have one.
    async fn open_network(
        &self,
        vmm: Process,
        uid: Option<u32>,
        egress: &EgressPolicy,
    ) -> Result<Option<Card>> {
        match (Network::of(&self.config), uid) {
            (Some(network), Some(uid)) => network.open(vmm, uid, egress).await.map(Some),
            (Some(_), None) | (None, _) => Ok(None),
        }
    }

    /// Makes the directory that the VMM may write to, with the sandbox's disk in it.
    async fn furnish(&self, spec: &Spec, uid: Option<u32>) -> Result<Door> {
        let run = self.run();
        private_directory(&run)?;
        let disk = run.join(DISK);
        make_disk(&disk, u64::from(spec.limits.disk_mib) << 20).await?;
        let door = Door::make(&run)?;
        if uid.is_some() {
            for path in [&run, &disk] {
                chown(path, uid, uid).doing("give away", path)?;
            }
        }
        Ok(door)
    }
}

/// A VMM that was just started.
struct Vmm {
    process: Process,
    /// Its user, if that is not the server's own.
    uid: Option<u32>,
    /// Where its machine will knock.
    door: Door,
}

/// Waits for the API of a VMM that was just started.
async fn answers_in_a_version(client: &Client) -> Result<()> {
    let answer = loop {
        match client.ping().await {
            Ok(answer) => break answer,
            // Whoever waits for this also waits for the VMM's end, and not for ever.
            Err(_) => tokio::time::sleep(API_RETRY).await,
        }
    };
    Version::check(&answer.version).map(drop)
}

impl Held for Sandbox {
    type Order = Spec;
    const START_DEADLINE: Duration = Duration::from_secs(40);

    fn hold(&self) -> &Hold {
        &self.hold
    }

    async fn make(&self, spec: &Spec) -> Result<DateTime<Utc>> {
        let directory = &self.hold.directory;
        let image = images::image(&self.config.images, &spec.template)?;
        directory.create(spec)?;
        let uid = self.hold.claim_user().await?;
        let mut record = self.hold.begin_record()?;
        let door = self.furnish(spec, uid).await?;
        let groups = Groups::make(&self.hold.id.to_string(), &vmm_limits(spec), &self.promise)?;
        let mut launcher = Launcher::start(self.launch(spec, image, uid)?)?;
        record.launcher = Some(launcher.process);
        record.groups.clone_from(&groups.directories);
        directory.write(&record)?;
        groups.join(launcher.process.pid)?;
        let process = launcher.go().await?;
        let vmm = Vmm { process, uid, door };
        tokio::select! {
            up = self.bring_up(spec, vmm, directory.written_at()?) => up?,
            failure = launcher.end() => return Err(failure),
        }
        record.inside = Some(process);
        directory.write(&record)?;
        directory.written_at()
    }

    async fn release(&self) -> Result<()> {
        match self.hold.user()? {
            Some(uid) => network::close(uid).await,
            None => Ok(()),
        }
    }
}

/// Whether this host's kernel has all of Landlock that the VMM asks for.
pub(super) fn landlock() -> Landlock {
    let modules = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    let is_on = modules.trim().split(',').any(|module| module == "landlock");
    // The third version of its interface came with 6.2.
    if is_on && launcher::is_kernel_since(6, 2) { Landlock::On } else { Landlock::Off }
}

/// The group through which a user may use virtualization; none if everybody may, or nobody.
pub(super) fn kvm_group(kvm: &Path) -> Result<Option<u32>> {
    use std::os::unix::fs::MetadataExt as _;
    const GROUP_USES: u32 = 0o060;
    let found = fs::metadata(kvm).doing("look at", kvm)?;
    Ok((found.mode() & GROUP_USES == GROUP_USES && found.gid() != 0).then(|| found.gid()))
}

/// What the VMM's control groups allow it.
fn vmm_limits(spec: &Spec) -> Limits {
    Limits {
        memory_mib: spec.limits.memory_mib.saturating_add(VMM_MIB),
        n_pids: VMM_THREADS + convert::n_cpus(spec),
        ..spec.limits
    }
}

/// Makes a disk with an empty file system, which takes no room before something is written to it.
async fn make_disk(path: &Path, n_bytes: u64) -> Result<()> {
    let file = File::options().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|file| file.set_len(n_bytes)).doing("create", path)?;
    let arguments = ["-q", "-F", "-t", "ext4", "-m", "0", "-O", "^has_journal,^resize_inode"];
    let mut command = Command::new("mke2fs");
    command.args(arguments).args(["-E", "nodiscard,root_owner=1000:1000"]).arg(path);
    command.env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin").stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.map_err(|error| {
        Failure::unsupported(format!("there is no mke2fs ({error}); install e2fsprogs"))
    })?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(Failure::host(format!("cannot format {}: {}", path.display(), complaint.trim())))
}

impl CloudHypervisorConfig {
    /// The VMM's real path.
    pub(super) fn vmm(&self) -> Result<PathBuf> {
        let found = program::find(&self.vmm).and_then(fs::canonicalize);
        found.map_err(|error| {
            let path = self.vmm.display();
            Failure::unsupported(format!(
                "there is no VMM at {path} ({error}); install Cloud Hypervisor {} or later and set \
                 cloud_hypervisor to its path",
                Version::OLDEST
            ))
        })
    }
}
