//! What is kept on the host about one sandbox: a directory of its own with the agent's socket and a
//! record of its processes. The record is written before each step that leaves something to be found
//! again; a sandbox without a first process on record never came up.

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
use serde::{Deserialize, Serialize};

use super::{
    failure::{Doing, Failure, Result},
    processes::Process,
    sockets,
};
use crate::spec::Spec;

/// The record of a sandbox's processes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The boot of the host that it was made in: process ids of another one mean nothing.
    pub host_boot: String,
    /// The bubblewrap process, or the shell that becomes it.
    pub launcher: Option<Process>,
    /// The first process inside: the agent, or the VMM. Absent until the agent has answered.
    #[serde(rename = "agent")]
    pub inside: Option<Process>,
    /// The control groups that hold its processes, or are about to.
    pub groups: Vec<PathBuf>,
}

/// What may be so of a sandbox besides its processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// It is written down, and does not run whatever processes there are.
    Suspended,
    /// Its processes may be held: it is about to be written down, or to go on.
    Held,
}

impl Mark {
    const fn name(self) -> &'static str {
        match self {
            Self::Suspended => "suspended",
            Self::Held => "held",
        }
    }
}

/// The directory of one sandbox.
#[derive(Debug, Clone)]
pub(crate) struct RunDirectory {
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

    /// What the sandbox was made from.
    pub fn spec(&self) -> Result<Spec> {
        let path = self.path.join("spec.json");
        let text = fs::read(&path).doing("read", &path)?;
        serde_json::from_slice(&text)
            .map_err(|error| Failure::host(format!("{} makes no sense: {error}", path.display())))
    }

    /// Whether something is so that only a file says.
    pub fn is(&self, mark: Mark) -> bool {
        self.path.join(mark.name()).exists()
    }

    /// Says that it is, and returns when that was, by the host's clock.
    pub fn set(&self, mark: Mark) -> Result<DateTime<Utc>> {
        let path = self.path.join(mark.name());
        fs::write(&path, "\n").doing("write", &path)?;
        let modified = fs::metadata(&path).and_then(|metadata| metadata.modified());
        modified.map(DateTime::from).doing("look at", &path)
    }

    /// Says that it is not.
    pub fn unset(&self, mark: Mark) -> Result<()> {
        let path = self.path.join(mark.name());
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).doing("remove", &path)
            }
            Ok(()) | Err(_) => Ok(()),
        }
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

    /// Makes the agent's socket.
    pub fn listen(&self) -> Result<UnixListener> {
        sockets::listen(&self.path, SOCKET).doing("listen on a socket in", &self.path)
    }

    /// Connects to the agent's socket.
    pub fn connect(&self) -> io::Result<UnixStream> {
        sockets::connect(&self.path, SOCKET)
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
pub(crate) fn private_directory(path: &Path) -> Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).doing("create", path)
}

/// What tells this boot of the host from all others.
pub(crate) fn host_boot() -> Result<String> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    fs::read_to_string(path).map(|text| text.trim().to_owned()).doing("read", path)
}
