//! Gives each sandbox a user of its own when the server is root: a user namespace that maps the
//! host's root would keep root's access to everything that root owns. Claims are links in a
//! directory of the host, so that servers with different state directories share one range.

use std::{
    fs, io,
    ops::Range,
    os::unix::fs::{DirBuilderExt, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    failure::{Doing, Failure, Result},
    lock::Lock,
    processes,
};
use crate::driver::ErrorKind;

const LOCK_DEADLINE: Duration = Duration::from_secs(10);
/// How many ids at the beginning of the range are for trials.
const N_TRIALS: usize = 1;

/// A range of user ids that belongs to sandboxes.
#[derive(Debug, Clone)]
pub(crate) struct Uids {
    directory: PathBuf,
    first: u32,
    n_uids: u32,
}

impl Uids {
    pub fn new(directory: PathBuf, first: u32, n_uids: u32) -> Self {
        Self { directory, first, n_uids }
    }

    pub fn range(&self) -> Range<u32> {
        self.first..self.first.saturating_add(self.n_uids)
    }

    /// The id of trials, which no sandbox gets: whoever clears up after a sandbox kills every process
    /// with its id.
    pub fn trial(&self) -> u32 {
        self.first
    }

    /// Claims an id for the sandbox of this run directory; the same one when asked again.
    pub async fn claim(&self, run_directory: &Path) -> Result<u32> {
        let any = self.range().skip(N_TRIALS);
        let claimed = self.claim_of(run_directory, any).await?;
        claimed.ok_or_else(|| {
            let text = format!("all of the {} user ids for sandboxes are in use", self.n_uids);
            Failure::new(ErrorKind::NoCapacity, text)
        })
    }

    /// Claims the id that a sandbox had. Claims end with the host's boot, but what it had belongs to the id.
    pub async fn claim_again(&self, run_directory: &Path, had: u32) -> Result<()> {
        // Most are asked again whose claim is still there.
        if fs::read_link(self.path(had)).is_ok_and(|holder| holder == run_directory) {
            return Ok(());
        }
        let ours = self.range().skip(N_TRIALS).filter(|uid| *uid == had);
        if self.claim_of(run_directory, ours).await? == Some(had) {
            return Ok(());
        }
        let text = format!("user id {had}, which a suspended sandbox had, is another's now");
        Err(Failure::new(ErrorKind::NoCapacity, text))
    }

    /// Has another run directory hold the id of this one. Until that is there nobody seems to hold it, but no
    /// id is given away that some process has.
    pub async fn pass(&self, from: &Path, to: &Path) -> Result<()> {
        let lock = self.lock().await?;
        let Some(uid) = self.claimed(from)? else {
            return Err(Failure::host(format!("{} has no user id", from.display())));
        };
        let path = self.path(uid);
        fs::remove_file(&path).doing("remove", &path)?;
        symlink(to, &path).doing("claim", &path)?;
        drop(lock);
        Ok(())
    }

    async fn claim_of(
        &self,
        run_directory: &Path,
        candidates: impl Iterator<Item = u32> + Send,
    ) -> Result<Option<u32>> {
        let lock = self.lock().await?;
        let claim = self.claim_locked(run_directory, candidates);
        drop(lock);
        claim
    }

    async fn lock(&self) -> Result<Lock> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&self.directory)
            .doing("create", &self.directory)?;
        Lock::acquire(&self.directory.join("lock"), LOCK_DEADLINE).await
    }

    fn claim_locked(
        &self,
        run_directory: &Path,
        candidates: impl Iterator<Item = u32>,
    ) -> Result<Option<u32>> {
        if let Some(uid) = self.claimed(run_directory)? {
            return Ok(Some(uid));
        }
        // A claim whose sandbox is gone is stale, but a process may have outlived it.
        let in_use = processes::uids_in_use().doing("look at", Path::new("/proc"))?;
        for uid in candidates.filter(|uid| !in_use.contains(uid)) {
            let path = self.path(uid);
            match fs::read_link(&path) {
                Ok(holder) if holder.exists() => continue,
                Ok(_) => fs::remove_file(&path).doing("remove", &path)?,
                Err(_) => {}
            }
            symlink(run_directory, &path).doing("claim", &path)?;
            return Ok(Some(uid));
        }
        Ok(None)
    }

    /// The id that the sandbox of this run directory has claimed.
    pub fn claimed(&self, run_directory: &Path) -> Result<Option<u32>> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).doing("list", &self.directory),
        };
        for entry in entries {
            let entry = entry.doing("list", &self.directory)?;
            let uid = entry.file_name().to_str().and_then(|name| name.parse().ok());
            let holder = fs::read_link(entry.path()).ok();
            if let (Some(uid), Some(holder)) = (uid, holder)
                && holder == run_directory
            {
                return Ok(Some(uid));
            }
        }
        Ok(None)
    }

    /// Gives an id back. Nothing of the sandbox may run any more.
    pub fn release(&self, uid: u32) -> Result<()> {
        let path = self.path(uid);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).doing("remove", &path)
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn path(&self, uid: u32) -> PathBuf {
        self.directory.join(uid.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_id_has_one_holder_until_it_is_given_back_or_the_holder_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let holder = |name: &str| {
            let path = directory.path().join(name);
            fs::create_dir_all(&path).unwrap();
            path
        };
        // Far above what anything on the host uses.
        let uids = Uids::new(directory.path().join("uids"), 3_899_999_999, 3);
        assert_eq!(uids.trial(), 3_899_999_999, "and nobody else's");
        let (a, b, c) = (holder("a"), holder("b"), holder("c"));
        assert_eq!(uids.claim(&a).await.unwrap(), 3_900_000_000);
        assert_eq!(uids.claim(&b).await.unwrap(), 3_900_000_001);
        assert_eq!(uids.claim(&a).await.unwrap(), 3_900_000_000, "asked again");
        assert_eq!(uids.claim(&c).await.unwrap_err().kind, ErrorKind::NoCapacity);
        uids.release(3_900_000_001).unwrap();
        assert_eq!(uids.claim(&c).await.unwrap(), 3_900_000_001, "given back");
        fs::remove_dir(&a).unwrap();
        assert_eq!(uids.claim(&b).await.unwrap(), 3_900_000_000, "its holder is gone");
    }

    #[tokio::test]
    async fn an_id_comes_back_to_who_had_it_unless_another_has_it() {
        let directory = tempfile::tempdir().unwrap();
        let (a, b) = (directory.path().join("a"), directory.path().join("b"));
        fs::create_dir(&a).unwrap();
        fs::create_dir(&b).unwrap();
        let uids = Uids::new(directory.path().join("uids"), 3_899_999_989, 5);
        uids.claim_again(&a, 3_899_999_992).await.unwrap();
        uids.claim_again(&a, 3_899_999_992).await.unwrap();
        assert_eq!(uids.claim(&a).await.unwrap(), 3_899_999_992);
        for (uid, why) in
            [(3_899_999_992, "another's"), (3_899_999_989, "for trials"), (0, "root's")]
        {
            let error = uids.claim_again(&b, uid).await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::NoCapacity, "{why}");
            assert_eq!(uids.claimed(&b).unwrap(), None, "{why}");
        }
    }
}
