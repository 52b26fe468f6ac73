//! Finds out whether this host has what microVMs need, and what it cannot enforce. Whether that can be used is
//! found out by starting a VMM in its jail, which comes after this.

use std::{fs::File, path::Path, process::Stdio, time::Duration};

use tokio::{process::Command, time::timeout};

use super::{
    CloudHypervisorConfig,
    convert::Landlock,
    images,
    machine::{kvm_group, landlock},
    network,
    version::Version,
};
use crate::{
    jail::{
        self,
        failure::{Failure, Result},
        groups::{Controller, Promise},
        program, record,
    },
    spec::Limitation,
};

const DEADLINE: Duration = Duration::from_secs(10);

pub(super) async fn check(
    config: &CloudHypervisorConfig,
    promise: &Promise,
) -> Result<Vec<Limitation>> {
    record::private_directory(&config.state_dir)?;
    let vmm = config.vmm()?;
    program::find_bwrap(&config.bwrap)?;
    images::file("kernel", &config.kernel)?;
    images::file("initramfs", &config.initramfs)?;
    for name in ["mke2fs", "unshare", "setpriv", "prlimit"] {
        needed(name)?;
    }
    Version::check(&version(&vmm).await?)?;
    open_kvm(&config.kvm)?;
    let enforced = promise.renew();
    let unlimited = Controller::ALL.into_iter().filter(|one| !enforced.contains(one));
    let mut limitations: Vec<_> = unlimited.map(jail::unlimited).collect();
    limitations.extend(jail::shared_users(jail::uids(config.first_uid, config.n_uids)));
    if !images::any(&config.images) {
        limitations.push(Limitation {
            what: format!("There is no image of any template in {}.", config.images.display()),
            remedy: "Build them with `crownest template build base python node python-node`."
                .to_owned(),
        });
    }
    if is_in_memory(&config.state_dir) {
        limitations.push(Limitation {
            what: format!(
                "{} is in memory: what a machine writes to its disk, and is written down of it, counts \
                 against its own memory and may end it.",
                config.state_dir.display()
            ),
            remedy: "Set state_dir to a directory on a disk.".to_owned(),
        });
    }
    if landlock() == Landlock::Off {
        limitations.push(Limitation {
            what: "VMMs are not confined by Landlock besides the rest of their jail.".to_owned(),
            remedy: "Boot a kernel of 6.2 or later with lsm=landlock, and mount securityfs."
                .to_owned(),
        });
    }
    limitations.extend(network::check(config).await?);
    Ok(limitations)
}

/// Whether a directory is in a tmpfs.
fn is_in_memory(path: &Path) -> bool {
    const TMPFS: rustix::fs::FsWord = 0x0102_1994;
    rustix::fs::statfs(path).is_ok_and(|found| found.f_type == TMPFS)
}

/// A program of the host that is started by its name.
fn needed(name: &str) -> Result<()> {
    let places = ["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/bin", "/usr/local/sbin"];
    if places.iter().any(|place| program::is_executable(&Path::new(place).join(name))) {
        return Ok(());
    }
    Err(Failure::unsupported(format!("there is no {name}; install util-linux and e2fsprogs")))
}

/// What the VMM says of itself, such as `cloud-hypervisor v53.0.0`.
async fn version(vmm: &Path) -> Result<String> {
    let mut command = Command::new(vmm);
    command.arg("--version").env_clear().current_dir("/");
    command.stdin(Stdio::null()).kill_on_drop(true);
    let ended = timeout(DEADLINE, command.output()).await;
    let ended = ended.map_err(|_| Failure::timed_out("the VMM does not say its version"))?;
    let output = ended.map_err(|error| {
        Failure::unsupported(format!("{} cannot be started: {error}", vmm.display()))
    })?;
    let said = String::from_utf8_lossy(&output.stdout);
    let word = said.split_whitespace().nth(1).unwrap_or_default();
    Ok(word.to_owned())
}

fn open_kvm(path: &Path) -> Result<()> {
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
    // What stands for it in a test is a socket, which cannot be opened.
    if path.metadata().is_ok_and(|found| found.file_type().is_socket()) {
        return Ok(());
    }
    let opened = File::options().read(true).write(true).open(path);
    let mode = opened.and_then(|file| file.metadata()).map(|found| found.mode());
    let mode = mode.map_err(|error| {
        Failure::unsupported(format!(
            "{} cannot be used ({error}): the processor's virtualization is off, the module kvm is not \
             loaded, or the server's user is not in its group",
            path.display()
        ))
    })?;
    let everybody_uses = mode & 0o006 == 0o006;
    if !jail::is_root() || everybody_uses || kvm_group(path)?.is_some() {
        return Ok(());
    }
    let path = path.display();
    Err(Failure::unsupported(format!(
        "VMMs run as users of their own, which may not use {path}: \
         chgrp kvm {path} && chmod 660 {path}"
    )))
}
