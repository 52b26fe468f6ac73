//! The baseline: the VMM as a plain child process that is told over its API the least with which a machine
//! like the driver's runs a command. No jail, no network, no control groups, no locks, nothing on record.

use std::{
    fs::{self, File},
    io::{Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use drivers::{
    Spec,
    cloud_hypervisor::{
        CloudHypervisorConfig,
        client::Client,
        vsock::{self, Door},
        wire::{MemoryConfig, MemoryRestoreMode, RestoreConfig, VmConfig},
    },
    contract::new_id,
    guest::{Begin, Guest, MachineControl},
};
use protocol::{AGENT_PORT, MACHINE_PORT};
use serde_json::{Value, json};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};

use crate::made::{Made, Maker};

/// How long the API takes at most, and between two looks for it.
const START: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// Names in a machine's folder, in which its VMM runs.
const DISK: &str = "disk";
const SNAPSHOT: &str = "snapshot";
const SOCKETS: [&str; 2] = ["api", "vsock"];
const BLOCK: usize = 4096;

/// What its machines begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    Boot,
    Golden,
}

/// The VMM without anything around it.
pub struct Bare {
    from: From,
    vmm: PathBuf,
    /// What to boot, and what to restore: the same machine, with paths that end in its own folder.
    config: VmConfig,
    snapshot: PathBuf,
    disk: Disk,
    folder: PathBuf,
    n_made: AtomicUsize,
    spec: Spec,
}

impl Bare {
    /// Its machines are as the golden one in a directory of the driver's.
    pub async fn new(
        from: From,
        images: &CloudHypervisorConfig,
        golden: &Path,
        folder: &Path,
        spec: &Spec,
    ) -> Result<Self> {
        let folder = folder.join(match from {
            From::Boot => "boot",
            From::Golden => "golden",
        });
        let snapshot = folder.join(SNAPSHOT);
        fs::create_dir_all(&snapshot)?;
        let text = fs::read_to_string(golden.join("config.json"))?;
        let (written, config) = configurations(&text, images, golden, spec)?;
        fs::write(snapshot.join("config.json"), written)?;
        std::os::unix::fs::symlink(golden.join("state.json"), snapshot.join("state.json"))?;
        let disk = match from {
            From::Golden => Disk::read(&golden.join(DISK))?,
            From::Boot => Disk::formatted(&folder.join(DISK), spec).await?,
        };
        let (vmm, spec, n_made) = (images.vmm.clone(), spec.clone(), AtomicUsize::new(0));
        Ok(Self { from, vmm, config, snapshot, disk, folder, n_made, spec })
    }
}

#[async_trait]
impl Maker for Bare {
    fn name(&self) -> &'static str {
        "bare VMM"
    }

    async fn create(&self) -> Result<Box<dyn Made>> {
        let folder = self.folder.join(self.n_made.fetch_add(1, Ordering::Relaxed).to_string());
        fs::create_dir(&folder)?;
        self.disk.write(&folder.join(DISK))?;
        let door = match self.from {
            From::Boot => Some(Door::make(&folder)?),
            From::Golden => None,
        };
        let (child, client) = spawn(&self.vmm, &folder).await?;
        match door {
            Some(door) => {
                client.create(&self.config).await?;
                client.boot().await?;
                door.knock().await?;
            }
            None => client.restore(&restore(&self.snapshot)).await?,
        }
        let Spec { env, limits, .. } = &self.spec;
        let (folder, id) = (&folder, new_id());
        patiently(move || async move {
            let begin = Begin { id, env, n_pids: limits.n_pids, now: now(), network: None };
            Ok(control(folder).await?.begin(&begin).await?)
        })
        .await?;
        let folder = folder.clone();
        let guest = guest(&folder).await?;
        Ok(Box::new(Machine { vmm: self.vmm.clone(), folder, child, client, guest }))
    }
}

/// A machine and its VMM, which ends when this is dropped.
struct Machine {
    vmm: PathBuf,
    folder: PathBuf,
    child: Child,
    client: Client,
    guest: Guest,
}

#[async_trait]
impl Made for Machine {
    fn guest(&self) -> &Guest {
        &self.guest
    }

    fn processes(&self) -> Result<Vec<u32>> {
        Ok(vec![self.child.id().context("the VMM runs")?])
    }

    async fn suspend(&mut self) -> Result<()> {
        let snapshot = self.folder.join(SNAPSHOT);
        if snapshot.exists() {
            fs::remove_dir_all(&snapshot)?;
        }
        fs::create_dir(&snapshot)?;
        self.client.pause().await?;
        self.client.snapshot(&snapshot).await?;
        self.child.kill().await?;
        for socket in SOCKETS {
            fs::remove_file(self.folder.join(socket))?;
        }
        Ok(())
    }

    async fn wake(&mut self) -> Result<()> {
        (self.child, self.client) = spawn(&self.vmm, &self.folder).await?;
        self.client.restore(&restore(&self.folder.join(SNAPSHOT))).await?;
        let folder = &self.folder;
        patiently(move || async move { Ok(control(folder).await?.refresh(now()).await?) }).await?;
        self.guest = guest(&self.folder).await?;
        Ok(())
    }

    async fn remove(mut self: Box<Self>) -> Result<()> {
        self.child.kill().await?;
        Ok(fs::remove_dir_all(&self.folder)?)
    }
}

/// Starts the VMM in a machine's folder, and waits for its API.
#[tracing::instrument(skip_all)]
async fn spawn(vmm: &Path, folder: &Path) -> Result<(Child, Client)> {
    let mut command = Command::new(vmm);
    command.args(["--api-socket", "path=api", "--log-file", "/dev/null"]).current_dir(folder);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let (client, deadline) = (Client::new(folder), Instant::now() + START);
    while let Err(failure) = client.ping().await {
        ensure!(child.try_wait()?.is_none(), "the VMM ended");
        ensure!(Instant::now() < deadline, "the VMM does not answer: {failure}");
        sleep(LOOK_AGAIN).await;
    }
    Ok((child, client))
}

/// Says something to a machine that was just woken, which may drop the first connections: then again.
async fn patiently<Said>(say: impl Fn() -> Said) -> Result<()>
where
    Said: Future<Output = Result<()>>,
{
    let deadline = Instant::now() + START;
    loop {
        match say().await {
            Err(_) if Instant::now() < deadline => sleep(LOOK_AGAIN).await,
            said => return said,
        }
    }
}

fn restore(snapshot: &Path) -> RestoreConfig {
    RestoreConfig {
        source_url: format!("file://{}", snapshot.display()),
        memory_restore_mode: MemoryRestoreMode::Copy,
        resume: true,
    }
}

async fn control(folder: &Path) -> Result<MachineControl> {
    let stream = vsock::connect(folder, MACHINE_PORT).await?;
    Ok(MachineControl::over(Box::new(stream)).await?)
}

async fn guest(folder: &Path) -> Result<Guest> {
    Ok(Guest::over(Box::new(vsock::connect(folder, AGENT_PORT).await?)).await?)
}

#[expect(clippy::disallowed_methods, reason = "the host's clock is what a machine is told")]
fn now() -> DateTime<Utc> {
    Utc::now()
}

/// The golden machine's configuration for one that begins with it, as text since the VMM wrote more than the
/// driver knows of, and for one that boots.
fn configurations(
    golden_config: &str,
    images: &CloudHypervisorConfig,
    golden: &Path,
    spec: &Spec,
) -> Result<(String, VmConfig)> {
    let mut config: Value = serde_json::from_str(golden_config)?;
    ensure!(config["net"].as_array().is_none_or(Vec::is_empty), "it has a network");
    config["payload"]["kernel"] = json!(images.kernel);
    config["payload"]["initramfs"] = json!(images.initramfs);
    let image = fs::canonicalize(images.images.join(&spec.template.slug))?;
    config["disks"][0]["path"] = json!(image);
    config["disks"][1]["path"] = json!(DISK);
    config["vsock"]["socket"] = json!("vsock");
    config["landlock_enable"] = json!(false);
    config["landlock_rules"] = Value::Null;
    config["memory"]["zones"][0]["file"] = json!(golden.join("memory"));
    config["memory"]["zones"][0]["shared"] = json!(false);
    let booted: VmConfig = serde_json::from_value(config.clone())?;
    let zones = booted.memory.zones.iter().flatten();
    let memory = MemoryConfig { size: zones.map(|zone| zone.size).sum(), zones: None };
    Ok((config.to_string(), VmConfig { memory, ..booted }))
}

/// What is on a disk of which most is nothing.
struct Disk {
    n_bytes: usize,
    /// Where they begin, and what they hold.
    blocks: Vec<(u64, Vec<u8>)>,
}

impl Disk {
    fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path)?;
        let blocks = bytes.chunks(BLOCK).enumerate();
        let blocks = blocks.filter(|(_, block)| block.iter().any(|byte| *byte != 0));
        let blocks = blocks.map(|(at, block)| Ok((u64::try_from(at * BLOCK)?, block.to_vec())));
        Ok(Self { n_bytes: bytes.len(), blocks: blocks.collect::<Result<_>>()? })
    }

    /// An empty file system like that of a machine that boots.
    async fn formatted(path: &Path, spec: &Spec) -> Result<Self> {
        File::create(path)?.set_len(u64::from(spec.limits.disk_mib) << 20)?;
        let mut command = Command::new("mke2fs");
        command.args(["-q", "-F", "-t", "ext4", "-m", "0", "-O", "^has_journal,^resize_inode"]);
        command.args(["-E", "nodiscard,root_owner=1000:1000"]).arg(path);
        let status = command.env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin").status().await?;
        ensure!(status.success(), "mke2fs: {status}");
        Self::read(path)
    }

    fn write(&self, path: &Path) -> Result<()> {
        let mut file = File::create_new(path)?;
        file.set_len(u64::try_from(self.n_bytes)?)?;
        for (at, block) in &self.blocks {
            file.seek(SeekFrom::Start(*at))?;
            file.write_all(block)?;
        }
        Ok(())
    }
}
