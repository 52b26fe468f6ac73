//! Warm starts: for each template, size and way of booting one machine is booted ahead and written down,
//! and sandboxes begin with what it was. Their memory is the file that it left, each with its own changes,
//! so it takes no time to read and is there once for all of them.
//!
//! `recipe` says which sandboxes may begin with the same; `stock` keeps what was made; `config` and
//! `copy` make of it what one sandbox begins with.

mod config;
mod copy;
mod recipe;
mod seal;
mod stock;

use std::{path::PathBuf, sync::Arc};

use tokio::task::spawn_blocking;

use super::convert::{DISK, MEMORY, SNAPSHOT};
use crate::jail::{
    failure::{Doing, Failure, Result},
    record::private_directory,
};

use self::seal::Used;
pub(super) use self::{
    recipe::{Recipe, Stamp},
    stock::Stock,
};

/// The configuration and the state, as the VMM names them.
pub(super) const CONFIG: &str = "config.json";
const STATE: &str = "state.json";

/// How a machine begins with what another one was, the best way first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// All share the memory, each with its own changes.
    Clone,
    /// Each gets a copy of the memory.
    Copy,
}

impl Way {
    /// Every way, in the order in which they are tried.
    pub const ALL: [Self; 2] = [Self::Clone, Self::Copy];

    /// The way as logs name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Clone => "clone",
            Self::Copy => "copy",
        }
    }
}

/// What a machine was when it had booted. Never changed, and not taken away to make room for as long as
/// somebody has this.
#[derive(Debug, Clone)]
pub(super) struct Golden {
    directory: PathBuf,
    _used: Arc<Used>,
}

impl Golden {
    /// Its memory.
    pub fn memory(&self) -> PathBuf {
        self.directory.join(MEMORY)
    }

    /// Puts what one machine needs of it into the directory that its VMM may write to, and returns what
    /// was put there.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn copy_to(&self, run: &std::path::Path, way: Way) -> Result<Vec<PathBuf>> {
        let (golden, run) = (self.clone(), run.to_owned());
        let copying = spawn_blocking(move || {
            let snapshot = run.join(SNAPSHOT);
            private_directory(&snapshot)?;
            let (config, state) = (snapshot.join(CONFIG), snapshot.join(STATE));
            let found = golden.directory.join(CONFIG);
            let text = std::fs::read_to_string(&found).doing("read", &found)?;
            std::fs::write(&config, config::of_clone(&text, way)?).doing("write", &config)?;
            let disk = run.join(DISK);
            copy::sparsely(&golden.directory.join(STATE), &state)?;
            copy::sparsely(&golden.directory.join(DISK), &disk)?;
            let mut own = vec![snapshot, config, state, disk];
            if way == Way::Copy {
                let memory = run.join(MEMORY);
                copy::sparsely(&golden.memory(), &memory)?;
                own.push(memory);
            }
            Ok(own)
        });
        copying.await.map_err(|error| Failure::host(format!("copying broke off: {error}")))?
    }
}
