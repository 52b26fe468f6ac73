//! The golden machines of a host: found by their recipes, adopted whole or not at all, and looked after at
//! a server's start. Makes none.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    fs::{self, File},
    io,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustix::process::{getegid, geteuid};
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use super::{
    CONFIG, Golden, Recipe, STATE,
    seal::{Seal, Used, used_at},
};
use crate::{
    cloud_hypervisor::{
        Start,
        convert::{DISK, MEMORY, SNAPSHOT},
    },
    jail::{
        failure::{Doing, Failure, Result},
        record::private_directory,
    },
};

/// As many different ones as a host keeps; each takes up to its memory on disk. The one that was used
/// longest ago makes room for another.
const MOST: usize = 16;
/// What came to nothing may have had bad luck, such as a host with too much to do.
const TRY_AGAIN: Duration = Duration::from_secs(600);
/// What is behind the name of one that is not whole yet.
const DRAFT: &str = "new";

/// Told how each sandbox started.
pub(in super::super) type Told = Arc<dyn Fn(Start) + Send + Sync>;

/// The golden machines of a host.
pub(in super::super) struct Stock {
    workshop: PathBuf,
    told: Option<Told>,
    busy: Mutex<Busy>,
    /// What was found to be what its seal says, in this process. Whoever looks has it.
    verified: Arc<tokio::sync::Mutex<Verified>>,
}

type Verified = BTreeMap<PathBuf, Seal>;

#[derive(Debug, Default)]
struct Busy {
    /// Recipes that are being followed.
    making: BTreeSet<String>,
    /// Those of which nothing useful came, in this process, and when.
    failed: BTreeMap<String, Instant>,
}

impl Stock {
    /// `state_dir` is the driver's.
    pub fn new(state_dir: &Path, told: Option<Told>) -> Self {
        let (workshop, busy) = (state_dir.join("warm"), Mutex::default());
        Self { workshop, told, busy, verified: Arc::default() }
    }

    /// Where they are made.
    pub fn workshop(&self) -> &Path {
        &self.workshop
    }

    /// Tells how a sandbox started.
    pub fn tell(&self, start: Start) {
        if let Some(told) = &self.told {
            told(start);
        }
    }

    /// The one of a recipe, if it is there and whole. Nobody takes it away to make room before the last clone
    /// of it is dropped.
    #[tracing::instrument(name = "find_golden", level = "debug", skip_all)]
    pub fn find(&self, recipe: &Recipe) -> Result<Option<Golden>> {
        let directory = self.shelf().join(recipe.key());
        let Some(used) = Used::begin(&directory)? else { return Ok(None) };
        if Seal::read(&directory)?.is_none() {
            return Ok(None);
        }
        let (memory, disk) = recipe.sizes();
        for (name, wanted) in [(MEMORY, memory), (DISK, disk)] {
            let path = directory.join(name);
            match fs::metadata(&path) {
                Ok(found) if found.len() == wanted => {}
                Ok(_) => {
                    warn!(
                        golden = recipe.key(),
                        name, "a golden machine has changed; it is made anew"
                    );
                    remove(&directory)?;
                    return Ok(None);
                }
                // Somebody has just taken it away.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error).doing("look at", &path),
            }
        }
        if let Err(error) = used.note() {
            // It goes earlier than it should when there is no more room.
            warn!(golden = recipe.key(), %error, "it could not be noted that a golden machine is used");
        }
        Ok(Some(Golden { directory, _used: Arc::new(used) }))
    }

    /// Whether one is to be made of a recipe now; then it is noted that somebody does.
    pub fn takes(&self, recipe: &Recipe) -> bool {
        let mut busy = self.busy();
        let n_there = fs::read_dir(self.shelf()).map_or(0, Iterator::count);
        let is_full = n_there + busy.making.len() >= MOST;
        let failed_at = busy.failed.get(recipe.key());
        let is_there =
            Seal::read(&self.shelf().join(recipe.key())).is_ok_and(|seal| seal.is_some());
        if is_there
            || failed_at.is_some_and(|failed_at| failed_at.elapsed() < TRY_AGAIN)
            // Those that are there are replaced one at a time.
            || (is_full && !busy.making.is_empty())
        {
            return false;
        }
        busy.making.insert(recipe.key().to_owned())
    }

    /// Nobody makes it any more.
    pub fn done(&self, recipe: &Recipe, made: bool) {
        let mut busy = self.busy();
        busy.making.remove(recipe.key());
        if !made {
            busy.failed.insert(recipe.key().to_owned(), Instant::now());
        }
    }

    /// Takes what a machine has left in its VMM's directory, whole or not at all.
    pub async fn adopt(&self, recipe: &Recipe, run: &Path) -> Result<()> {
        let (shelf, key, run) = (self.shelf(), recipe.key().to_owned(), run.to_owned());
        let adopting = spawn_blocking(move || {
            private_directory(&shelf)?;
            let draft = shelf.join(format!("{key}.{DRAFT}"));
            remove(&draft)?;
            private_directory(&draft)?;
            let snapshot = run.join(SNAPSHOT);
            for (name, from) in [
                (MEMORY, run.join(MEMORY)),
                (DISK, run.join(DISK)),
                (CONFIG, snapshot.join(CONFIG)),
                (STATE, snapshot.join(STATE)),
            ] {
                take(&from, &draft.join(name))?;
            }
            Seal::of(&draft)?.write(&draft)?;
            sync(&draft)?;
            let whole = shelf.join(&key);
            // One that was there was not whole, or nobody would have made another.
            remove(&whole)?;
            fs::rename(&draft, &whole).doing("move into place", &whole)?;
            sync(&shelf)?;
            if let Err(failure) = make_room(&shelf, &whole) {
                // One more than there should be does no harm.
                warn!(%failure, "no golden machine could be taken away to make room");
            }
            Ok(())
        });
        adopting.await.map_err(|error| Failure::host(format!("adopting broke off: {error}")))?
    }

    /// Takes one away that is of no use. Machines that began with it keep what they have.
    pub fn reject(&self, golden: &Golden) -> Result<()> {
        let name = golden.directory.file_name().unwrap_or_default().to_string_lossy();
        self.busy().failed.insert(name.into_owned(), Instant::now());
        remove(&golden.directory)
    }

    /// Takes away what is not whole, or no longer what it was when it was adopted. To read all of it takes
    /// long: what was found to be right is not read again, and whoever comes while somebody reads does not
    /// wait for that.
    pub async fn check(&self) -> Result<()> {
        let Ok(mut verified) = Arc::clone(&self.verified).try_lock_owned() else { return Ok(()) };
        let shelf = self.shelf();
        let checking = spawn_blocking(move || {
            for path in list(&shelf)? {
                match is_right(&path, &mut verified) {
                    Ok(true) => {}
                    Ok(false) => {
                        let golden = path.display();
                        warn!(%golden, "a golden machine is not what it was; it is made anew");
                        remove(&path)?;
                    }
                    Err(failure) => {
                        let golden = path.display();
                        warn!(%golden, %failure, "a golden machine could not be checked; later");
                    }
                }
            }
            Ok(())
        });
        checking.await.map_err(|error| Failure::host(format!("checking broke off: {error}")))?
    }

    fn shelf(&self) -> PathBuf {
        self.workshop.join("golden")
    }

    fn busy(&self) -> MutexGuard<'_, Busy> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Stock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stock").field("workshop", &self.workshop).finish_non_exhaustive()
    }
}

/// Those on the shelf, but no drafts: those are somebody's who is at it, or are replaced by whoever is next.
fn list(shelf: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(shelf) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.doing("list", shelf)?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.doing("list", shelf)?.path();
        if path.extension().is_none_or(|extension| extension != DRAFT) {
            paths.push(path);
        }
    }
    Ok(paths)
}

/// Whether one is whole and what its seal says.
fn is_right(directory: &Path, verified: &mut Verified) -> Result<bool> {
    let Some(seal) = Seal::read(directory)? else { return Ok(false) };
    if verified.get(directory) == Some(&seal) {
        return Ok(true);
    }
    let is_right = Seal::of(directory)? == seal;
    if is_right {
        verified.insert(directory.to_owned(), seal);
    }
    Ok(is_right)
}

/// Takes away those that were used longest ago, if there are too many, but neither `newest` nor one that
/// somebody is about to begin with. Machines that began with one keep what they have.
fn make_room(shelf: &Path, newest: &Path) -> Result<()> {
    let there = list(shelf)?;
    let mut n_too_many = there.len().saturating_sub(MOST);
    let others = there.into_iter().filter(|path| path != newest);
    let mut old: Vec<_> = others.map(|path| (used_at(&path), path)).collect();
    old.sort_unstable();
    for (used_at, path) in old {
        if n_too_many == 0 {
            break;
        }
        // One that has no seal is of no use to anybody.
        let taken = Used::end(&path)?;
        if taken.is_none() && used_at.is_some() {
            continue;
        }
        remove(&path)?;
        n_too_many -= 1;
        let golden = path.display();
        info!(%golden, "the golden machine that was used longest ago makes room for another");
    }
    Ok(())
}

/// Moves a file from a VMM's directory, out of its user's reach.
fn take(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).doing(&format!("move {} to", from.display()), to)?;
    chown(to, Some(geteuid().as_raw()), Some(getegid().as_raw())).doing("take over", to)?;
    // Read by VMMs, whose users get at nothing but the file itself.
    fs::set_permissions(to, fs::Permissions::from_mode(0o444)).doing("protect", to)?;
    sync(to)
}

fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).doing("write down", path)
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).doing("remove", path),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cloud_hypervisor::CloudHypervisorConfig, contract::spec};

    #[test]
    fn what_came_to_nothing_is_tried_again_after_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let images = folder.path().join("images");
        fs::create_dir(&images).unwrap();
        for name in ["kernel", "initramfs", "base"] {
            fs::write(images.join(name), "").unwrap();
        }
        let config = CloudHypervisorConfig {
            vmm: "/bin/sh".into(),
            ..CloudHypervisorConfig::new(folder.path(), &images)
        };
        let recipe = Recipe::new(&config, &spec(), images.join("base")).unwrap();
        let stock = Stock::new(folder.path(), None);
        assert!(stock.takes(&recipe));
        assert!(!stock.takes(&recipe), "somebody is at it");
        stock.done(&recipe, false);
        assert!(!stock.takes(&recipe), "it has just failed");
        let long_ago = Instant::now().checked_sub(TRY_AGAIN).unwrap();
        stock.busy().failed.insert(recipe.key().to_owned(), long_ago);
        assert!(stock.takes(&recipe));
    }
}
