//! What is kept on the host about one sandbox: a directory of its own with the agent's socket and a
//! record of its processes. The record is written before each step that leaves something to be found
//! again; a sandbox without an agent on record never came up.

use std::{
    fs, io,
    os::unix::{
        fs::DirBuilderExt,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};
use domain::id::SandboxId;
use rustix::{
    fs::{Mode, OFlags, open},
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with},
};
use serde::{Deserialize, Serialize};

use super::{
    failure::{Doing, Failure, Result},
    processes::Process,
};
use crate::spec::Spec;

/// The record of a sandbox's processes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    /// The boot of the host that it was made in: process ids of another one mean nothing.
    pub host_boot: String,
    /// The bubblewrap process, or the shell that becomes it.
    pub launcher: Option<Process>,
    /// The agent, which is the first process inside. Absent until it has answered.
    pub agent: Option<Process>,
    /// The control groups that hold its processes, or are about to.
    pub groups: Vec<PathBuf>,
}

/// The directory of one sandbox.
#[derive(Debug, Clone)]
pub(super) struct RunDirectory {
    pub path: PathBuf,
}

impl RunDirectory {
    pub fn new(state_dir: &Path, id: SandboxId) -> Self {
        Self { path: all(state_dir).join(id.to_string()) }
    }

    /// The sandboxes that have a directory, whether they run or not.
    pub fn list(state_dir: &Path) -> Result<Vec<SandboxId>> {
        let path = all(state_dir);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).doing("list", &path),
        };
        let mut ids = Vec::new();
        for entry in entries {
            let name = entry.doing("list", &path)?.file_name();
            ids.extend(name.to_str().and_then(|name| name.parse::<SandboxId>().ok()));
        }
        ids.sort_unstable();
        Ok(ids)
    }

    pub fn create(&self, spec: &Spec) -> Result<()> {
        private_directory(&self.path)?;
        let spec = serde_json::to_vec_pretty(spec)
            .map_err(|error| Failure::host(format!("cannot write the spec: {error}")))?;
        let path = self.path.join("spec.json");
        fs::write(&path, spec).doing("write", &path)
    }

    /// Removes the directory; one that is missing is fine.
    pub fn delete(&self) -> Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).doing("remove", &self.path)
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Replaces the record as a whole, so that no reader ever sees half of one.
    pub fn write(&self, record: &Record) -> Result<()> {
        let (draft, path) = (self.path.join("record.new"), self.record_path());
        let text = serde_json::to_vec_pretty(record)
            .map_err(|error| Failure::host(format!("cannot write the record: {error}")))?;
        fs::write(&draft, text).doing("write", &draft)?;
        fs::rename(&draft, &path).doing("write", &path)
    }

    /// The record, if there is one of this boot of the host.
    pub fn read(&self) -> Result<Option<Record>> {
        let path = self.record_path();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).doing("read", &path),
        };
        // One that cannot be read is as good as none: the processes are found by other marks.
        let record: Option<Record> = serde_json::from_slice(&text).ok();
        let boot = host_boot()?;
        Ok(record.filter(|record| record.host_boot == boot))
    }

    /// When the record was written last, by the host's clock.
    pub fn written_at(&self) -> Result<DateTime<Utc>> {
        let path = self.record_path();
        let modified = fs::metadata(&path).and_then(|metadata| metadata.modified());
        modified.map(DateTime::from).doing("look at", &path)
    }

    pub fn listen(&self) -> Result<UnixListener> {
        let path = self.path.join(SOCKET);
        self.at_socket(UnixListener::bind).doing("listen on", &path)
    }

    /// Connects without ever waiting: a sandbox can keep its agent from accepting, and the kernel
    /// lets whoever connects to a full queue wait for ever. Here that is an error.
    pub fn connect(&self) -> io::Result<UnixStream> {
        self.at_socket(|path| {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
            Ok(UnixStream::from(socket))
        })
    }

    /// Uses the socket by way of its open directory: the address of a Unix socket holds about a
    /// hundred bytes, and a state directory may be longer than that.
    fn at_socket<T>(&self, use_it: impl FnOnce(PathBuf) -> io::Result<T>) -> io::Result<T> {
        use std::os::fd::AsRawFd;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = open(&self.path, flags, Mode::empty())?;
        use_it(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()).into())
    }

    fn record_path(&self) -> PathBuf {
        self.path.join("record.json")
    }
}

const SOCKET: &str = "guest.sock";

fn all(state_dir: &Path) -> PathBuf {
    state_dir.join("sandboxes")
}

/// Makes a directory, and those above it, that nobody else can look into.
pub(super) fn private_directory(path: &Path) -> Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).doing("create", path)
}

/// What tells this boot of the host from all others.
pub(super) fn host_boot() -> Result<String> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    fs::read_to_string(path).map(|text| text.trim().to_owned()).doing("read", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_is_an_error_and_no_wait() {
        let folder = tempfile::tempdir().unwrap();
        let directory = RunDirectory { path: folder.path().to_owned() };
        let listener = directory.listen().unwrap();
        rustix::net::listen(&listener, 1).unwrap();
        // Nobody accepts, as if the agent had been stopped. A connection that was dropped again still
        // takes its place.
        let refused = (0..10).find_map(|_| directory.connect().err());
        assert_eq!(refused.map(|error| error.kind()), Some(io::ErrorKind::WouldBlock));
    }
}
