//! Makes what machines boot from what a distribution ships: an uncompressed kernel, and an initial file
//! system with the agent and the modules that the kernel needs to find its disks. Downloads nothing and
//! puts nothing in its place.

mod elf;
mod folder;
mod initramfs;
mod kernel;
mod modules;
mod unpack;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

pub use self::{
    folder::{Added, Folder, Found},
    initramfs::initramfs,
    kernel::Kernel,
    modules::{Module, modules},
};

/// Why something cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The host refused.
    #[error("cannot {doing} {}: {source}", path.display())]
    Host {
        /// What was tried, such as `read`.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
    /// What was given does not serve; the text says why.
    #[error("{0}")]
    Unfit(String),
}

/// What may fail while something is made.
pub type Result<T> = std::result::Result<T, BuildError>;

fn unfit<T>(text: impl Into<String>) -> Result<T> {
    Err(BuildError::Unfit(text.into()))
}

/// Says what was being done when an error of the host came.
trait Doing<T> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T> {
        self.map_err(|source| BuildError::Host { doing, path: path.to_owned(), source })
    }
}

/// No file that a machine boots from is larger; whatever is, was named by mistake.
const MAX_FILE: u64 = 512 << 20;

fn read(path: &Path) -> Result<Vec<u8>> {
    let length = fs::metadata(path).doing("look at", path)?.len();
    if length > MAX_FILE {
        return unfit(format!("{} is larger than any kernel or module", path.display()));
    }
    fs::read(path).doing("read", path)
}

/// Reads the agent, which is a machine's first process: nothing is there yet that it could be linked to.
///
/// # Errors
/// When it cannot be read, or is not a static program for this processor.
pub fn agent(path: &Path) -> Result<Vec<u8>> {
    let bytes = read(path)?;
    match elf::linkage(&bytes) {
        Some(elf::Linkage::Static) => Ok(bytes),
        Some(elf::Linkage::Dynamic) => unfit(format!(
            "{} is linked to libraries, which a machine's first process finds nowhere; \
             `scripts/guest` builds one that is not, and prints where it is",
            path.display()
        )),
        None => unfit(format!("{} is not a program for x86-64", path.display())),
    }
}
