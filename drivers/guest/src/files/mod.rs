//! Files in the workspace. Every call resolves its path step by step below the workspace's own
//! descriptor, so that no link and no race leads outside. Works synchronously; callers use
//! [`blocking`].

mod change;
pub mod download;
mod path;
mod read;
mod refusal;
mod resolve;
pub mod upload;

use std::{fs, io, os::fd::OwnedFd, path::Path, sync::Arc};

use protocol::{FileStat, FileType};
use rustix::fs::{FileType as Kind, Mode, OFlags, Stat};
use tokio::task;
use tonic::Status;

use self::path::UserPath;
pub use self::refusal::Refusal;

/// The last second of the year 9999.
const MAX_SECONDS: i64 = 253_402_300_799;

/// The directory that clients see as `/workspace`.
pub struct Workspace {
    root: Arc<OwnedFd>,
    boot_id: String,
}

impl Workspace {
    /// Opens the directory once; whatever its path leads to later does not matter.
    ///
    /// # Errors
    /// It does not exist or cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = Arc::new(rustix::fs::open(path, flags, Mode::empty())?);
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().replace('-', "");
        Ok(Self { root, boot_id })
    }

    /// A random text, another one at each start of the agent.
    pub fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// What the names of unfinished uploads of this agent start with.
    fn upload_prefix(&self) -> String {
        format!(".crownest-upload-{}-", self.boot_id)
    }
}

/// Runs file work on a thread that may block.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Status> {
    match task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(error) => Err(Status::internal(format!("file work was given up: {error}"))),
    }
}

/// Describes what was found at a path. Sockets, pipes and devices appear as files of 0 bytes.
fn describe(path: String, name: String, stat: &Stat) -> FileStat {
    let kind = Kind::from_raw_mode(stat.st_mode);
    let r#type = if kind.is_dir() { FileType::Directory } else { FileType::File };
    let size_bytes = if kind.is_file() { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 };
    let micros = i64::try_from(stat.st_mtime_nsec / 1000).unwrap_or(0);
    // Anybody can set this to anything; not everybody can read a year of six digits.
    let seconds = stat.st_mtime.clamp(0, MAX_SECONDS);
    let modified_at_unix_micros = seconds.saturating_mul(1_000_000).saturating_add(micros);
    FileStat { path, name, r#type: r#type.into(), size_bytes, modified_at_unix_micros }
}

/// The same for the path that a client gave.
fn describe_at(path: &UserPath, stat: &Stat) -> FileStat {
    describe(path.to_string(), path.name().to_owned(), stat)
}
