//! One lock file per name, so that several server processes on a host agree on who works on a
//! sandbox. The kernel drops a lock with the process that holds it; nothing is ever left locked.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use tokio::time::{Instant, sleep};

use super::failure::{Doing, Failure, Result};

const RETRY: Duration = Duration::from_millis(10);

/// A lock that is held. Dropping it lets go.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Waits for the lock; a failure when somebody else holds it for longer than `deadline`.
    pub async fn acquire(path: &Path, deadline: Duration) -> Result<Self> {
        let give_up_at = Instant::now() + deadline;
        loop {
            if let Some(lock) = Self::acquire_now(path)? {
                return Ok(lock);
            }
            if Instant::now() >= give_up_at {
                let held = format!("{} is held by somebody else for too long", path.display());
                return Err(Failure::timed_out(held));
            }
            sleep(RETRY).await;
        }
    }

    /// Takes the lock if nobody holds it.
    pub fn acquire_now(path: &Path) -> Result<Option<Self>> {
        let open = || File::options().create(true).truncate(false).write(true).open(path);
        loop {
            let file = open().doing("open the lock", path)?;
            match grip(file, path, FlockOperation::NonBlockingLockExclusive)? {
                Grip::Held(file) => return Ok(Some(Self { path: path.to_owned(), _file: file })),
                Grip::Taken => return Ok(None),
                Grip::Gone => {}
            }
        }
    }

    /// Lets go and leaves no file behind.
    pub fn delete(self) {
        // A file that stays is only untidy.
        let _ = fs::remove_file(&self.path);
    }
}

/// What came of locking a file that others may delete.
#[derive(Debug)]
pub(crate) enum Grip {
    /// It is locked until this is dropped.
    Held(File),
    /// Somebody else has it.
    Taken,
    /// The holder before has deleted it; this would be a lock on nothing.
    Gone,
}

/// Locks an open file without waiting, if it is still the one at `path`.
pub(crate) fn grip(file: File, path: &Path, how: FlockOperation) -> Result<Grip> {
    match flock(&file, how) {
        Ok(()) => {}
        Err(Errno::AGAIN) => return Ok(Grip::Taken),
        Err(errno) => return Err(errno).doing("lock", path),
    }
    let locked = file.metadata().doing("look at", path)?;
    let is_there = fs::metadata(path).is_ok_and(|current| current.ino() == locked.ino());
    Ok(if is_there { Grip::Held(file) } else { Grip::Gone })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lock_has_one_holder() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let held = Lock::acquire_now(&path).unwrap().unwrap();
        assert!(Lock::acquire_now(&path).unwrap().is_none());
        let waiting = Lock::acquire(&path, Duration::ZERO).await;
        assert_eq!(waiting.unwrap_err().kind, crate::ErrorKind::TimedOut);
        held.delete();
        assert!(!path.exists());
        let again = Lock::acquire_now(&path).unwrap();
        assert!(again.is_some() && path.exists());
    }
}
