//! `kernel`: what machines boot from, of a Debian package or of files that the operator names.

use std::{
    ffi::OsStr,
    fs,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use drivers::cloud_hypervisor::build::{self, Folder, Kernel};

use super::{
    Failure,
    import::{mebibytes, told},
    script::Script,
};
use crate::{config::Config, serve};

const SCRIPT: Script = Script {
    name: "kernel.sh",
    text: include_str!("kernel.sh"),
    // Most of it is downloading, which is as slow as the mirror.
    deadline: Duration::from_secs(1_800),
};

/// Where it comes from.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A Debian package with a kernel, or one that depends on it; apt of this host gets it.
    #[arg(long, value_name = "NAME", default_value = "linux-image-cloud-amd64")]
    package: String,
    /// A kernel instead: a boot image, or better a vmlinux, for x86-64.
    #[arg(long, value_name = "FILE", conflicts_with = "package")]
    kernel: Option<PathBuf>,
    /// The modules of that kernel, such as /lib/modules/6.12; none if it has built in all that machines
    /// need.
    #[arg(long, value_name = "FOLDER", requires = "kernel")]
    modules: Option<PathBuf>,
    /// The agent, linked statically; by default the one that the driver `local` uses.
    #[arg(long, value_name = "FILE")]
    guest: Option<PathBuf>,
}

pub(super) async fn run(
    config: &Config,
    arguments: Arguments,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let agent = match arguments.guest {
        Some(path) => path,
        None => serve::guest_agent(config)?,
    };
    let agent = build::agent(&agent).map_err(told)?;
    let unpacked = tempfile::tempdir().context("making a folder for the package")?;
    let (kernel, modules) = match arguments.kernel {
        Some(kernel) => (kernel, arguments.modules),
        None => {
            let words: [&OsStr; 2] = [arguments.package.as_ref(), unpacked.path().as_ref()];
            SCRIPT.run(&words, &[]).await?;
            let (kernel, modules) = found(unpacked.path())?;
            (kernel, Some(modules))
        }
    };
    let kernel = Kernel::read(&kernel).await.map_err(told)?;
    let modules = match modules {
        Some(folder) => build::modules(&folder, &kernel.release).await.map_err(told)?,
        None => Vec::new(),
    };
    let initramfs = build::initramfs(&agent, &modules).map_err(told)?;
    let folder = Folder::new(config.images());
    let (release, place) = (kernel.release.clone(), folder.path().to_owned());
    let sizes = [kernel.image.len(), initramfs.len()].map(|n| u64::try_from(n).unwrap_or(u64::MAX));
    let install = move || folder.boot_from(&kernel, &initramfs);
    let installed = tokio::task::spawn_blocking(install).await;
    installed.context("installing").map_err(Failure::from)?.map_err(told)?;
    let [kernel, initramfs] = sizes.map(mebibytes);
    let n_modules = modules.len();
    writeln!(
        out,
        "machines boot from Linux {release} ({kernel}) with {n_modules} modules (initramfs of \
         {initramfs}), in {}",
        place.display()
    )?;
    Ok(())
}

/// The kernel and the modules in a package. Debian has moved the modules below /usr.
fn found(root: &Path) -> Result<(PathBuf, PathBuf), Failure> {
    const KERNEL: &str = "vmlinuz-";
    let boot = root.join("boot");
    for entry in fs::read_dir(&boot).context("reading the package")? {
        let entry = entry.context("reading the package")?;
        let name = entry.file_name();
        let Some(release) = name.to_str().and_then(|name| name.strip_prefix(KERNEL)) else {
            continue;
        };
        let places = ["lib/modules", "usr/lib/modules"];
        let modules = places.map(|place| root.join(place).join(release));
        if let Some(modules) = modules.into_iter().find(|folder| folder.is_dir()) {
            return Ok((entry.path(), modules));
        }
    }
    Err(Failure::Argument("package: it has no kernel with modules".to_owned()))
}
