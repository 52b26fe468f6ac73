//! What says that a golden machine is whole, and who uses it. Its file is changed last when one is used, and
//! locked for as long as one is: servers that share a host agree by it on which one nobody misses.

use std::{
    fs::{self, File},
    io,
    path::Path,
    time::SystemTime,
};

use rustix::fs::{FlockOperation, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, futimens};
use serde::{Deserialize, Serialize};

use super::{CONFIG, STATE, copy};
use crate::{
    cloud_hypervisor::convert::{DISK, MEMORY},
    jail::{
        failure::{Doing, Failure, Result},
        lock::{Grip, grip},
    },
};

const SEAL: &str = "seal.json";
/// What it is about.
const FILES: [&str; 4] = [MEMORY, DISK, CONFIG, STATE];

/// What a golden machine must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seal {
    memory: String,
    disk: String,
    config: String,
    state: String,
}

impl Seal {
    /// Of what is there now.
    pub fn of(directory: &Path) -> Result<Self> {
        let [memory, disk, config, state] = FILES.map(|name| copy::digest(&directory.join(name)));
        Ok(Self { memory: memory?, disk: disk?, config: config?, state: state? })
    }

    /// The one that was made, if it is there and no file is missing that it is about.
    pub fn read(directory: &Path) -> Result<Option<Self>> {
        for name in FILES {
            let path = directory.join(name);
            if !path.try_exists().doing("look at", &path)? {
                return Ok(None);
            }
        }
        let path = directory.join(SEAL);
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // What makes no sense says nothing.
            text => Ok(serde_json::from_slice(&text.doing("read", &path)?).ok()),
        }
    }

    /// Makes it, in a directory that has all the rest.
    pub fn write(&self, directory: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| Failure::host(format!("cannot write a seal: {error}")))?;
        let path = directory.join(SEAL);
        fs::write(&path, text).doing("write", &path)?;
        File::open(&path).and_then(|file| file.sync_all()).doing("write down", &path)
    }
}

/// When one was used last; `None` if it is of no use.
pub(super) fn used_at(directory: &Path) -> Option<SystemTime> {
    fs::metadata(directory.join(SEAL)).and_then(|seal| seal.modified()).ok()
}

/// Somebody's hold on a golden machine, until it is dropped.
#[derive(Debug)]
pub(super) struct Used(File);

impl Used {
    /// That of somebody who begins something with it, as others may too; `None` if it is being taken away.
    pub fn begin(directory: &Path) -> Result<Option<Self>> {
        Self::hold(directory, FlockOperation::NonBlockingLockShared)
    }

    /// That of somebody who takes it away; `None` if it is being used.
    pub fn end(directory: &Path) -> Result<Option<Self>> {
        Self::hold(directory, FlockOperation::NonBlockingLockExclusive)
    }

    /// Notes that it is used now.
    pub fn note(&self) -> io::Result<()> {
        let nanos = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
        let (last_access, last_modification) = (nanos(UTIME_OMIT), nanos(UTIME_NOW));
        Ok(futimens(&self.0, &Timestamps { last_access, last_modification })?)
    }

    fn hold(directory: &Path, how: FlockOperation) -> Result<Option<Self>> {
        let path = directory.join(SEAL);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.doing("open", &path)?,
        };
        Ok(match grip(file, &path, how)? {
            Grip::Held(file) => Some(Self(file)),
            Grip::Taken | Grip::Gone => None,
        })
    }
}
