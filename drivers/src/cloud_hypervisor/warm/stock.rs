//! The golden machines of a host: found by their recipes, adopted whole or not at all, and looked after at
//! a server's start. Makes none.

use std::{
    collections::BTreeSet,
    fmt,
    fs::{self, File},
    io,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustix::process::{getegid, geteuid};
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;
use tracing::warn;

use super::{CONFIG, Golden, Recipe, STATE, copy};
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

/// As many different ones as a host keeps; each takes up to its memory on disk. Sandboxes beyond boot.
const MOST: usize = 16;
const SEAL: &str = "seal.json";
/// What is behind the name of one that is not whole yet.
const DRAFT: &str = "new";

/// What says that a golden machine is whole, and what it must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Seal {
    memory: String,
    disk: String,
    config: String,
    state: String,
}

impl Seal {
    fn of(directory: &Path) -> Result<Self> {
        let digest = |name: &str| copy::digest(&directory.join(name));
        Ok(Self {
            memory: digest(MEMORY)?,
            disk: digest(DISK)?,
            config: digest(CONFIG)?,
            state: digest(STATE)?,
        })
    }

    fn read(directory: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(directory.join(SEAL)).ok()?).ok()
    }
}

/// Told how each sandbox started.
pub(in super::super) type Told = Arc<dyn Fn(Start) + Send + Sync>;

/// The golden machines of a host.
pub(in super::super) struct Stock {
    workshop: PathBuf,
    told: Option<Told>,
    busy: Mutex<Busy>,
}

#[derive(Debug, Default)]
struct Busy {
    /// Recipes that are being followed.
    making: BTreeSet<String>,
    /// Those of which nothing useful came, in this process.
    failed: BTreeSet<String>,
}

impl Stock {
    /// `state_dir` is the driver's.
    pub fn new(state_dir: &Path, told: Option<Told>) -> Self {
        Self { workshop: state_dir.join("warm"), told, busy: Mutex::default() }
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

    /// The one of a recipe, if it is there and whole.
    #[tracing::instrument(name = "find_golden", level = "debug", skip_all)]
    pub fn find(&self, recipe: &Recipe) -> Result<Option<Golden>> {
        let directory = self.shelf().join(recipe.key());
        if Seal::read(&directory).is_none() {
            return Ok(None);
        }
        let (memory, disk) = recipe.sizes();
        for (name, wanted) in [(MEMORY, memory), (DISK, disk)] {
            let path = directory.join(name);
            if fs::metadata(&path).doing("look at", &path)?.len() != wanted {
                warn!(golden = recipe.key(), name, "a golden machine has changed; it is made anew");
                remove(&directory)?;
                return Ok(None);
            }
        }
        Ok(Some(Golden { directory }))
    }

    /// Whether one is to be made of a recipe now; then it is noted that somebody does.
    pub fn takes(&self, recipe: &Recipe) -> bool {
        let mut busy = self.busy();
        let n_there = fs::read_dir(self.shelf()).map_or(0, Iterator::count);
        if n_there + busy.making.len() >= MOST || busy.failed.contains(recipe.key()) {
            return false;
        }
        busy.making.insert(recipe.key().to_owned())
    }

    /// Nobody makes it any more.
    pub fn done(&self, recipe: &Recipe, made: bool) {
        let mut busy = self.busy();
        busy.making.remove(recipe.key());
        if !made {
            busy.failed.insert(recipe.key().to_owned());
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
            let seal = serde_json::to_vec_pretty(&Seal::of(&draft)?)
                .map_err(|error| Failure::host(format!("cannot write a seal: {error}")))?;
            let path = draft.join(SEAL);
            fs::write(&path, seal).doing("write", &path)?;
            sync(&path)?;
            sync(&draft)?;
            let whole = shelf.join(&key);
            // One that was there was not whole, or nobody would have made another.
            remove(&whole)?;
            fs::rename(&draft, &whole).doing("move into place", &whole)?;
            sync(&shelf)
        });
        adopting.await.map_err(|error| Failure::host(format!("adopting broke off: {error}")))?
    }

    /// Takes one away that is of no use. Machines that began with it keep what they have.
    pub fn reject(&self, golden: &Golden) -> Result<()> {
        let name = golden.directory.file_name().unwrap_or_default().to_string_lossy();
        self.busy().failed.insert(name.into_owned());
        remove(&golden.directory)
    }

    /// Takes away what is not whole, or no longer what it was when it was adopted.
    pub async fn check(&self) -> Result<()> {
        let shelf = self.shelf();
        let checking = spawn_blocking(move || {
            let entries = match fs::read_dir(&shelf) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                entries => entries.doing("list", &shelf)?,
            };
            for entry in entries {
                let path = entry.doing("list", &shelf)?.path();
                // A draft is somebody's who is at it, or is replaced by whoever is next.
                let is_draft = path.extension().is_some_and(|extension| extension == DRAFT);
                if is_draft
                    || Seal::read(&path)
                        .is_some_and(|seal| Seal::of(&path).is_ok_and(|is| is == seal))
                {
                    continue;
                }
                warn!(golden = %path.display(), "a golden machine is not what it was; it is made anew");
                remove(&path)?;
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
