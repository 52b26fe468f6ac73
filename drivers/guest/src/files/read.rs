//! Looking at the workspace: stat, list, open to read. Changes nothing.

use std::{ffi::OsStr, fs::File, os::unix::ffi::OsStrExt as _};

use protocol::{FileStat, Reason};
use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, openat, statat},
    io::Errno,
};

use super::{
    Refusal, Workspace, describe, describe_at,
    path::UserPath,
    resolve::{Last, Parents, Place},
};

const MAX_ENTRIES: usize = 10_000;
/// Bounds the answer where names are long; some room for numbers is counted for each entry.
const MAX_LISTING: usize = 2 << 20;
const ENTRY_OVERHEAD: usize = 48;
/// How often a file may become something else between being looked at and being opened.
const MAX_TRIES: usize = 8;

/// A regular file that was opened to read.
pub struct Opened {
    /// What it was like at that moment; no more than its size is read.
    pub stat: FileStat,
    /// The file.
    pub file: File,
}

impl Workspace {
    /// Describes what a path leads to.
    pub fn stat(&self, path: &UserPath) -> Result<FileStat, Refusal> {
        Ok(describe_at(path, self.look(path)?.existing()?))
    }

    /// Lists a directory, sorted by name. Leaves out the paths: they all start with the one that the
    /// client knows, and a long one in each entry would make the answer large.
    pub fn list(&self, path: &UserPath) -> Result<Vec<FileStat>, Refusal> {
        let directory = self.open_directory(path)?;
        let hidden = self.upload_prefix();
        let mut entries = Vec::new();
        let mut n_bytes = 0;
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." || name.starts_with(hidden.as_bytes()) {
                continue;
            }
            let stat = match statat(&directory, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW)
            {
                Ok(stat) => stat,
                // It has just been removed.
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            };
            let shown = String::from_utf8_lossy(name).into_owned();
            n_bytes += shown.len() + ENTRY_OVERHEAD;
            if entries.len() == MAX_ENTRIES || n_bytes > MAX_LISTING {
                return Err(Refusal::new(Reason::TooManyEntries, "the directory is too large"));
            }
            let stat = self.behind_link(&shown, path, stat);
            entries.push((name.to_vec(), describe(String::new(), shown, &stat)));
        }
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(entries.into_iter().map(|(_, entry)| entry).collect())
    }

    /// Opens a regular file; `max_bytes` of 0 is no limit.
    pub fn open_to_read(&self, path: &UserPath, max_bytes: u64) -> Result<Opened, Refusal> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        for _ in 0..MAX_TRIES {
            let place = self.look(path)?;
            // Looked at before it is opened, because opening a device or a pipe has effects.
            check_regular(place.existing()?)?;
            let Place::Entry { parent, name, .. } = place else { return Err(Errno::ISDIR.into()) };
            let fd = match openat(&parent, &name, flags, Mode::empty()) {
                Ok(fd) => fd,
                Err(Errno::LOOP) => continue,
                Err(error) => return Err(error.into()),
            };
            let stat = fstat(&fd)?;
            check_regular(&stat)?;
            let stat = describe_at(path, &stat);
            if max_bytes > 0 && stat.size_bytes > max_bytes {
                return Err(Refusal::new(Reason::FileTooLarge, "the file is too large"));
            }
            return Ok(Opened { stat, file: File::from(fd) });
        }
        Err(Refusal::new(Reason::FileNotFound, "the file keeps changing"))
    }

    fn look(&self, path: &UserPath) -> Result<Place, Refusal> {
        self.resolve(path, Last::Follow, Parents::Require)
            .map_err(|refusal| refusal.instead_of(Reason::ParentNotFound, Reason::FileNotFound))
    }

    /// What a link leads to; a link that leads nowhere or outside stays what it is.
    fn behind_link(&self, name: &str, directory: &UserPath, stat: Stat) -> Stat {
        if !FileType::from_raw_mode(stat.st_mode).is_symlink() {
            return stat;
        }
        let found = format!("{directory}/{name}").parse().and_then(|path| self.look(&path));
        found.ok().and_then(|place| place.found().copied()).unwrap_or(stat)
    }
}

/// Refuses what cannot be read or replaced as a file.
pub fn check_regular(stat: &Stat) -> Result<(), Refusal> {
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind.is_dir() {
        return Err(Errno::ISDIR.into());
    }
    if kind.is_file() {
        return Ok(());
    }
    Err(Refusal::new(Reason::NotRegularFile, "not a regular file"))
}
