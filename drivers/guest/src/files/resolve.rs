//! Walks a path below the workspace, one name at a time. Each step opens one name relative to a
//! descriptor of the directory before it and never lets the kernel follow a link, so neither a link
//! nor a race can lead outside: `..` in a link goes back to a descriptor that was walked through, and
//! an absolute link starts again at the workspace's descriptor or is refused. Opens nothing for
//! reading or writing.

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    sync::Arc,
};

use protocol::{Reason, WORKSPACE};
use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, mkdirat, openat, readlinkat, statat},
    io::Errno,
};

use super::{Refusal, Workspace, path::UserPath};

/// As many links as the kernel follows.
const MAX_LINKS: usize = 40;
/// How often one step may find that somebody has just changed what it looked at.
const MAX_TRIES: usize = 8;

/// What to do when the last name is a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    /// Go where it leads.
    Follow,
    /// The link itself is meant.
    Keep,
}

/// What to do when a directory on the way is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parents {
    /// Refuse: `parent_not_found`.
    Require,
    /// Make it.
    Make,
}

/// Where a path leads.
pub enum Place {
    /// A name in a directory, and what was found there: `None` if nothing.
    Entry { parent: Arc<OwnedFd>, name: OsString, found: Option<Stat> },
    /// A directory that was reached without a name: the workspace, or by a link that ends in `..`.
    Directory { fd: Arc<OwnedFd>, stat: Stat },
}

impl Place {
    /// What was found.
    pub fn found(&self) -> Option<&Stat> {
        match self {
            Self::Entry { found, .. } => found.as_ref(),
            Self::Directory { stat, .. } => Some(stat),
        }
    }

    /// What was found; nothing is `file_not_found`.
    pub fn existing(&self) -> Result<&Stat, Refusal> {
        Ok(self.found().ok_or(Errno::NOENT)?)
    }
}

impl Workspace {
    /// Walks to where the path leads. A missing last name is fine.
    pub fn resolve(&self, path: &UserPath, last: Last, parents: Parents) -> Result<Place, Refusal> {
        let root = Arc::clone(&self.root);
        let mut walk = Walk { above: vec![root], todo: VecDeque::new(), n_links: 0, n_tries: 0 };
        walk.todo.extend(path.names().iter().map(OsString::from));
        walk.go(last, parents)
    }

    /// Opens a directory for listing it or for starting a command in it.
    pub fn open_directory(&self, path: &UserPath) -> Result<OwnedFd, Refusal> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let place = self
            .resolve(path, Last::Follow, Parents::Require)
            .map_err(|refusal| refusal.instead_of(Reason::ParentNotFound, Reason::FileNotFound))?;
        Ok(match place {
            Place::Directory { fd, .. } => openat(fd, ".", flags, Mode::empty())?,
            Place::Entry { parent, name, .. } => openat(parent, name, flags, Mode::empty())?,
        })
    }
}

struct Walk {
    /// The directories from the workspace down to where the walk is; never empty.
    above: Vec<Arc<OwnedFd>>,
    todo: VecDeque<OsString>,
    n_links: usize,
    n_tries: usize,
}

impl Walk {
    fn go(mut self, last: Last, parents: Parents) -> Result<Place, Refusal> {
        while let Some(name) = self.todo.pop_front() {
            if name == ".." {
                self.up()?;
                continue;
            }
            let is_last = self.todo.is_empty();
            let here = self.here()?;
            // The link itself, not where it leads; a single name cannot lead anywhere else.
            let found = match statat(&here, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => Some(stat),
                Err(Errno::NOENT) => None,
                Err(error) => return Err(error.into()),
            };
            let kind = found.as_ref().map(|stat| FileType::from_raw_mode(stat.st_mode));
            match kind {
                Some(FileType::Symlink) if !is_last || last == Last::Follow => {
                    self.follow(&here, &name)?;
                }
                _ if is_last => return Ok(Place::Entry { parent: here, name, found }),
                Some(FileType::Directory) => self.down(&here, name)?,
                Some(_) => return Err(Errno::NOTDIR.into()),
                None => match parents {
                    Parents::Require => {
                        return Err(Refusal::new(Reason::ParentNotFound, "no such directory"));
                    }
                    Parents::Make => self.make(&here, name)?,
                },
            }
        }
        let fd = self.here()?;
        let stat = fstat(&fd)?;
        Ok(Place::Directory { fd, stat })
    }

    fn here(&self) -> Result<Arc<OwnedFd>, Refusal> {
        self.above.last().map(Arc::clone).ok_or_else(outside)
    }

    fn up(&mut self) -> Result<(), Refusal> {
        self.above.pop();
        self.here().map(drop)
    }

    fn down(&mut self, here: &OwnedFd, name: OsString) -> Result<(), Refusal> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(here, &name, flags, Mode::empty()) {
            Ok(fd) => {
                self.above.push(Arc::new(fd));
                self.n_tries = 0;
            }
            // It has just become something else or vanished: look again.
            Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => self.again(name)?,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn make(&mut self, here: &OwnedFd, name: OsString) -> Result<(), Refusal> {
        match mkdirat(here, &name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => self.again(name),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the same step again, but not for ever.
    fn again(&mut self, name: OsString) -> Result<(), Refusal> {
        self.n_tries += 1;
        if self.n_tries > MAX_TRIES {
            return Err(Refusal::new(Reason::ParentNotFound, "the directory keeps changing"));
        }
        self.todo.push_front(name);
        Ok(())
    }

    fn follow(&mut self, here: &OwnedFd, name: &OsStr) -> Result<(), Refusal> {
        self.n_links += 1;
        if self.n_links > MAX_LINKS {
            return Err(Errno::LOOP.into());
        }
        let target = match readlinkat(here.as_fd(), name, Vec::new()) {
            Ok(target) => target.into_bytes(),
            // It is no link any more.
            Err(Errno::INVAL | Errno::NOENT) => return self.again(name.to_owned()),
            Err(error) => return Err(error.into()),
        };
        let mut names = target
            .split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty() && *name != b".")
            .map(|name| OsString::from_vec(name.to_vec()))
            .peekable();
        if target.starts_with(b"/") {
            // The workspace may be mounted elsewhere; inside it has this one name.
            let workspace = OsStr::from_bytes(WORKSPACE.trim_start_matches('/').as_bytes());
            names.next_if(|name| name == workspace).ok_or_else(outside)?;
            self.above.truncate(1);
        }
        for name in names.collect::<Vec<_>>().into_iter().rev() {
            self.todo.push_front(name);
        }
        Ok(())
    }
}

fn outside() -> Refusal {
    Refusal::new(Reason::OutsideWorkspace, "the path leads outside")
}
