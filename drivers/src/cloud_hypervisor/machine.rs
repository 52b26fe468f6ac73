//! Starts one VMM in its jail, and a machine in that: by a boot, or with what another machine was when it
//! had booted. Who wants it for what, and what comes after an accident, is `lifecycle`'s.

use std::{
    fs::{self, File},
    os::unix::fs::{OpenOptionsExt as _, chown},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use chrono::{DateTime, Utc};
use domain::{egress::EgressPolicy, id::SandboxId};
use protocol::AGENT_PORT;
use tokio::{net::UnixStream, process::Command, time::timeout};

use super::{
    CloudHypervisorConfig,
    client::Client,
    convert::{self, DISK, Landlock, MEMORY, Memory, Net, SNAPSHOT, Then},
    images,
    launch::{self, User, View},
    limits::{largest_file, limit_cpu, n_vmm_threads, starting_limits},
    network::Network,
    version::Version,
    vsock::{self, Door},
    waking::lastingly,
    warm::{Golden, Stamp, Way},
};
use crate::{
    guest::{Begin, Card},
    jail::{
        self,
        failure::{Doing, Failure, Result},
        groups::{Groups, Promise},
        hold::Hold,
        launcher::{self, Launch, Launcher, Script},
        processes::Process,
        program,
        record::{Record, private_directory},
    },
    spec::Spec,
};

/// Between two looks for the API of a VMM that was just started.
const API_RETRY: Duration = Duration::from_millis(2);
/// A VMM that was told to ends within this.
const GOLDEN_END: Duration = Duration::from_secs(10);

/// What a machine begins with.
#[derive(Debug, Clone, Copy)]
pub(super) enum Beginning<'a> {
    /// A boot.
    Boot,
    /// A boot, to be what others begin with. It ends when that is written down.
    Golden,
    /// What a golden machine was.
    Woken(&'a Golden, Way),
}

/// What a VMM does with what was made ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Boot,
    Golden,
    Woken,
}

impl From<Beginning<'_>> for What {
    fn from(beginning: Beginning<'_>) -> Self {
        match beginning {
            Beginning::Boot => Self::Boot,
            Beginning::Golden => Self::Golden,
            Beginning::Woken(..) => Self::Woken,
        }
    }
}

/// A machine, whether it is there or not.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    pub config: CloudHypervisorConfig,
    pub hold: Hold,
    promise: Promise,
}

impl Machine {
    /// `state_dir` is where it is held.
    pub fn new(
        config: &CloudHypervisorConfig,
        state_dir: &Path,
        promise: &Promise,
        id: SandboxId,
    ) -> Self {
        let uids = jail::uids(config.first_uid, config.n_uids);
        let hold = Hold::new(state_dir, id, uids, launch::vmm_inside(id));
        Self { config: config.clone(), hold, promise: promise.clone() }
    }

    /// Opens a stream to the agent of a sandbox that runs.
    pub async fn connect(&self) -> Result<UnixStream> {
        vsock::connect(&self.run(), AGENT_PORT).await
    }

    /// The directory that its VMM may write to.
    pub fn run(&self) -> PathBuf {
        self.hold.directory.path.join("vm")
    }

    /// Starts the VMM and has it begin; returns once the agent answers, or with a golden machine once it
    /// has ended. What there is of it is on record from the first step on.
    #[tracing::instrument(name = "start", level = "debug", skip_all)]
    pub async fn start(
        &self,
        spec: &Spec,
        image: &Path,
        beginning: Beginning<'_>,
    ) -> Result<DateTime<Utc>> {
        let ready = self.make_ready(spec, image, beginning).await?;
        self.begin(spec, ready, beginning.into()).await
    }

    /// Makes all that a machine needs, up to a VMM that waits for one.
    pub async fn make_ready(
        &self,
        spec: &Spec,
        image: &Path,
        beginning: Beginning<'_>,
    ) -> Result<Ready> {
        self.hold.directory.create(spec)?;
        let uid = self.hold.claim_user().await?;
        Stamp::of(image.to_owned())?.write(&self.image_path())?;
        let begun = self.hold.begin_record()?;
        let door = self.furnish(spec, beginning, uid).await?;
        let launch = self.launch(spec, image, beginning.shared_memory(), uid)?;
        let started = self.start_vmm(spec, launch, begun).await?;
        let client = Client::new(self.run());
        let preparing = async {
            tokio::try_join!(
                self.open_network(started.process, uid, &spec.egress),
                answers_in_a_version(&client)
            )
        };
        let (card, ()) = tokio::select! {
            prepared = preparing => prepared?,
            failure = started.launcher.end() => return Err(failure),
        };
        Ok(Ready { started, card, door })
    }

    /// Takes over what was made ready for another one, which has a user of its own and whose lock is held.
    /// Its directory is this one's from then on, and there is nothing left of the other.
    pub async fn take_over(&self, spec: &Spec, other: &Self) -> Result<()> {
        let (from, to) = (&other.hold.directory, &self.hold.directory);
        from.create(spec)?;
        if let Some(all) = to.path.parent() {
            private_directory(all)?;
        }
        other.hold.pass_user_to(&self.hold).await?;
        fs::rename(&from.path, &to.path).doing("move into place", &to.path)
    }

    /// Has a VMM that waits begin with a machine; returns when `start` does.
    pub async fn begin(&self, spec: &Spec, ready: Ready, what: What) -> Result<DateTime<Utc>> {
        let directory = &self.hold.directory;
        let Ready { started: Started { mut record, launcher, process }, card, door } = ready;
        let now = || {
            directory.write(&record)?;
            directory.written_at()
        };
        tokio::select! {
            up = self.bring_up(spec, card.as_ref(), door, what, now) => up?,
            failure = launcher.end() => return Err(failure),
        }
        if what == What::Golden {
            // It may end before it answers; what counts is that it does.
            let _ = Client::new(self.run()).shut_down_vmm().await;
            let ended = timeout(GOLDEN_END, launcher.end()).await;
            ended.map_err(|_| Failure::timed_out("the VMM of a golden machine does not end"))?;
        } else {
            limit_cpu(&record, spec)?;
            record.inside = Some(process);
        }
        directory.write(&record)?;
        directory.written_at()
    }

    /// Where it is written down what its image was.
    pub fn image_path(&self) -> PathBuf {
        self.hold.directory.path.join("image.json")
    }

    /// Starts a VMM without a machine, whose user has been claimed and whose directory furnished.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn start_vmm(
        &self,
        spec: &Spec,
        launch: Launch,
        mut record: Record,
    ) -> Result<Started> {
        let limits = starting_limits(spec);
        let groups = Groups::make(&self.hold.id.to_string(), &limits, &self.promise)?;
        let mut launcher = Launcher::start(launch)?;
        record.launcher = Some(launcher.process);
        record.groups.clone_from(&groups.directories);
        self.hold.directory.write(&record)?;
        groups.join(launcher.process.pid)?;
        let process = launcher.go().await?;
        Ok(Started { record, launcher, process })
    }

    /// How a VMM is started. `golden` is the memory that its machine shares with others.
    #[tracing::instrument(level = "debug", skip_all)]
    pub fn launch(
        &self,
        spec: &Spec,
        image: &Path,
        golden: Option<PathBuf>,
        uid: Option<u32>,
    ) -> Result<Launch> {
        let config = &self.config;
        let vmm = config.vmm()?;
        let view = View {
            libraries: launch::libraries(&vmm).doing("read", &vmm)?,
            vmm,
            kernel: images::file("kernel", &config.kernel)?,
            initramfs: images::file("initramfs", &config.initramfs)?,
            image: image.to_owned(),
            golden,
            run: self.run(),
            kvm: config.kvm.clone(),
            tun: Network::of(config).map(|network| network.tun().to_owned()),
        };
        let n_processes = n_vmm_threads(spec);
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
            largest_file: Some(largest_file(spec)),
            stdin: Stdio::null(),
        })
    }

    /// Has the VMM make the machine, and the machine start its agent. `now` tells the time once the
    /// machine is up, which may take long.
    #[tracing::instrument(level = "debug", skip_all)]
    async fn bring_up(
        &self,
        spec: &Spec,
        card: Option<&Card>,
        door: Option<Door>,
        what: What,
        now: impl Fn() -> Result<DateTime<Utc>>,
    ) -> Result<()> {
        let client = Client::new(self.run());
        let net = if card.is_some() { Net::Card } else { Net::None };
        match (what, door) {
            (What::Woken, _) | (_, None) => client.restore(&convert::restore(Then::GoesOn)).await?,
            (What::Boot | What::Golden, Some(door)) => {
                let memory = if what == What::Golden { Memory::InFile } else { Memory::Own };
                client.create(&convert::vm_config(spec, landlock(), net, memory)).await?;
                client.boot().await?;
                door.knock().await?;
            }
        }
        if what == What::Golden {
            client.pause().await?;
            client.snapshot(&convert::snapshot()).await?;
            return Ok(());
        }
        let Spec { env, limits, .. } = spec;
        // However often it is told: a machine begins once.
        let now = &now;
        lastingly(move || async move {
            let mut machine = self.control().await?;
            let (id, n_pids, now) = (self.hold.id, limits.n_pids, now()?);
            Ok(machine.begin(&Begin { id, env, n_pids, now, network: card }).await?)
        })
        .await?;
        self.hello().await
    }

    /// Makes the machine's network, if it is to have one.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn open_network(
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

    /// Makes the directory that the VMM may write to, with the sandbox's disk in it. Only a machine that
    /// boots knocks.
    #[tracing::instrument(level = "debug", skip_all)]
    async fn furnish(
        &self,
        spec: &Spec,
        beginning: Beginning<'_>,
        uid: Option<u32>,
    ) -> Result<Option<Door>> {
        let run = self.run();
        private_directory(&run)?;
        let mut own = vec![run.clone()];
        let door = match beginning {
            Beginning::Woken(golden, way) => {
                own.extend(golden.copy_to(&run, way).await?);
                None
            }
            Beginning::Boot | Beginning::Golden => {
                let disk = run.join(DISK);
                make_disk(&disk, u64::from(spec.limits.disk_mib) << 20).await?;
                own.push(disk);
                Some(Door::make(&run)?)
            }
        };
        if matches!(beginning, Beginning::Golden) {
            let memory = run.join(MEMORY);
            let file = File::options().write(true).create_new(true).mode(0o600).open(&memory);
            let n_bytes = u64::from(spec.limits.memory_mib) << 20;
            file.and_then(|file| file.set_len(n_bytes)).doing("create", &memory)?;
            let snapshot = run.join(SNAPSHOT);
            private_directory(&snapshot)?;
            own.extend([memory, snapshot]);
        }
        if uid.is_some() {
            for path in &own {
                chown(path, uid, uid).doing("give away", path)?;
            }
        }
        Ok(door)
    }
}

impl Beginning<'_> {
    /// The memory that it begins with, if it does not get a copy.
    fn shared_memory(self) -> Option<PathBuf> {
        match self {
            Self::Woken(golden, Way::Clone) => Some(golden.memory()),
            Self::Woken(_, Way::Copy) | Self::Boot | Self::Golden => None,
        }
    }
}

/// What is known of a VMM that was just started.
pub(super) struct Started {
    pub record: Record,
    pub launcher: Launcher,
    pub process: Process,
}

/// A VMM that waits for a machine, and what that needs.
pub(super) struct Ready {
    started: Started,
    /// What the machine is told of its network, if it has one.
    card: Option<Card>,
    /// Where the machine will knock, if it boots.
    door: Option<Door>,
}

impl Ready {
    /// Whether the VMM still waits, and whoever waits for its end.
    pub fn is_alive(&self) -> bool {
        self.started.process.is_alive() && self.started.launcher.process.is_alive()
    }
}

/// Waits for the API of a VMM that was just started.
#[tracing::instrument(level = "debug", skip_all)]
pub(super) async fn answers_in_a_version(client: &Client) -> Result<()> {
    let answer = loop {
        match client.ping().await {
            Ok(answer) => break answer,
            // Whoever waits for this also waits for the VMM's end, and not for ever.
            Err(_) => tokio::time::sleep(API_RETRY).await,
        }
    };
    Version::check(&answer.version).map(drop)
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

/// Makes a disk with an empty file system, which takes no room before something is written to it.
#[tracing::instrument(level = "debug", skip_all)]
async fn make_disk(path: &Path, n_bytes: u64) -> Result<()> {
    let file = File::options().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|file| file.set_len(n_bytes)).doing("create", path)?;
    let arguments = ["-q", "-F", "-t", "ext4", "-m", "0", "-O", "^has_journal,^resize_inode"];
    // It ends with a server that is killed: nobody would know of it, and wait for its end.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "mke2fs"]).args(arguments);
    command.args(["-E", "nodiscard,root_owner=1000:1000"]).arg(path);
    command.env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin").stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.map_err(|error| {
        Failure::unsupported(format!("there is no setpriv ({error}); install util-linux"))
    })?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    if complaint.contains("failed to execute") {
        let complaint = complaint.trim();
        return Err(Failure::unsupported(format!("{complaint}; install e2fsprogs")));
    }
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
