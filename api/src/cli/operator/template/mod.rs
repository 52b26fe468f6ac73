//! `crownest template`: what machines of the Cloud Hypervisor driver are made from - an image for each
//! template version, a kernel, and the initial file system with the agent.

mod build;
mod import;
mod kernel;
mod list;
mod script;

use std::io::Write;

use clap::Subcommand;

use super::{Ending, Failure, help, open, output};
use crate::{
    app::App,
    cli::{Form, interrupts},
    config::Config,
};

/// What to do with what machines are made from.
#[derive(Debug, Subcommand)]
pub enum Command {
    #[command(flatten)]
    Images(Images),
    /// Make what machines on this host boot from: the kernel, and an initramfs with the agent.
    ///
    /// Machines that run keep what they have. The agent has to be linked statically: `scripts/guest` of the
    /// source builds it.
    #[command(after_help = help::with(
        &[
            "crownest template kernel --guest target/x86_64-unknown-linux-gnu/release/crownest-guest",
            "crownest template kernel --kernel /boot/vmlinuz-6.12 --modules /lib/modules/6.12",
        ],
        help::BUILD,
    ))]
    Kernel(kernel::Arguments),
}

/// What to do with images, which templates' versions are made of.
#[derive(Debug, Subcommand)]
pub enum Images {
    /// Build images from Debian packages, and import each.
    ///
    /// Needs mmdebstrap and erofs-utils, and root or user namespaces. It takes a minute or two for each
    /// template, and room for its tree in TMPDIR.
    #[command(after_help = help::with(
        &[
            "crownest template build base python node python-node",
            "crownest template build python --suite trixie --include build-essential,python3-dev",
        ],
        help::BUILD,
    ))]
    Build(build::Arguments),
    /// Import an image: new sandboxes of the template are made from it, from now on.
    ///
    /// The image, EROFS or squashfs, is copied into `machine_images` under the digest of its content, and a
    /// version of the template is published that is it and never anything else. The same image again is
    /// the same version. Where several hosts share the database, import it on each: those that follow get
    /// the version that the first one published.
    #[command(after_help = help::with(
        &[
            "crownest template import python python.erofs",
            "crownest template import base base.squashfs --version 2031-01",
        ],
        help::OPERATOR,
    ))]
    Import(import::Arguments),
    /// List the templates' versions, newest first, and whether this host has their images.
    ///
    /// Ends with 1 if --verify finds an image that is missing or changed.
    #[command(after_help = help::with(
        &["crownest template list", "crownest template list --verify --json"],
        help::CHECK,
    ))]
    List(list::Arguments),
}

impl Command {
    /// For whom complaints are.
    #[must_use]
    pub const fn form(&self) -> Form {
        match self {
            Self::Images(Images::List(arguments)) => arguments.form(),
            Self::Images(Images::Build(_) | Images::Import(_)) | Self::Kernel(_) => Form::People,
        }
    }
}

/// Does what was asked; answers go to `out`.
///
/// # Errors
/// As [`Failure`] says.
pub async fn run(
    config: Config,
    command: Command,
    out: &mut impl Write,
) -> Result<Ending, Failure> {
    match command {
        Command::Images(command) => images(&*open(config).await?, command, out).await,
        Command::Kernel(arguments) => {
            kernel::run(&config, arguments, out).await?;
            Ok(Ending::Done)
        }
    }
}

/// Does what was asked about images; answers go to `out`.
///
/// # Errors
/// As [`Failure`] says.
pub async fn images(app: &App, command: Images, out: &mut impl Write) -> Result<Ending, Failure> {
    match command {
        Images::Build(arguments) => build::run(app, arguments, out).await?,
        Images::Import(arguments) => import::run(app, arguments, out).await?,
        Images::List(arguments) => return list::run(app, &arguments, out).await,
    }
    Ok(Ending::Done)
}
