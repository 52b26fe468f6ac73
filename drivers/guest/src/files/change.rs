//! Changing the workspace without carrying bytes: delete, make a directory, rename. Every change is
//! one call of the kernel on a name in a directory that is held open, and never follows a link.

use protocol::{FileStat, Reason};
use rustix::{
    fs::{AtFlags, FileType, Mode, RenameFlags, mkdirat, renameat_with, statat, unlinkat},
    io::Errno,
};

use super::{
    Refusal, Workspace, describe_at,
    path::UserPath,
    resolve::{Last, Parents, Place},
};

impl Workspace {
    /// Removes a file, a link or an empty directory.
    pub fn delete(&self, path: &UserPath) -> Result<(), Refusal> {
        let place = self
            .resolve(path, Last::Keep, Parents::Require)
            .map_err(|refusal| refusal.instead_of(Reason::ParentNotFound, Reason::FileNotFound))?;
        let is_directory = FileType::from_raw_mode(place.existing()?.st_mode).is_dir();
        let Place::Entry { parent, name, .. } = place else { return Err(workspace_root()) };
        let flags = if is_directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        match unlinkat(&parent, &name, flags) {
            Err(Errno::EXIST) => Err(Errno::NOTEMPTY.into()),
            done => Ok(done?),
        }
    }

    /// Makes a directory, and those on the way to it if wanted.
    pub fn make_directory(&self, path: &UserPath, parents: bool) -> Result<FileStat, Refusal> {
        let (last, missing) =
            if parents { (Last::Follow, Parents::Make) } else { (Last::Keep, Parents::Require) };
        let place = self.resolve(path, last, missing)?;
        let made = match &place {
            Place::Entry { parent, name, .. } => mkdirat(parent, name, Mode::from_raw_mode(0o755))
                .and_then(|()| statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)),
            Place::Directory { .. } => Err(Errno::EXIST),
        };
        match made {
            Ok(stat) => Ok(describe_at(path, &stat)),
            Err(Errno::EXIST) if parents => {
                let stat = self.stat(path)?;
                let is_directory = stat.r#type() == protocol::FileType::Directory;
                if is_directory { Ok(stat) } else { Err(Errno::EXIST.into()) }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Renames a file, a link or a directory.
    pub fn rename(
        &self,
        from: &UserPath,
        to: &UserPath,
        overwrite: bool,
    ) -> Result<FileStat, Refusal> {
        if from.is_root() || to.is_root() {
            return Err(workspace_root());
        }
        let source = self
            .resolve(from, Last::Keep, Parents::Require)
            .map_err(|refusal| refusal.instead_of(Reason::ParentNotFound, Reason::FileNotFound))?;
        source.existing()?;
        let target = self.resolve(to, Last::Keep, Parents::Require)?;
        let (
            Place::Entry { parent: from_parent, name: from_name, found: moved },
            Place::Entry { parent: to_parent, name: to_name, found: replaced },
        ) = (source, target)
        else {
            return Err(workspace_root());
        };
        let flags = if overwrite { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        match renameat_with(&from_parent, &from_name, &to_parent, &to_name, flags) {
            Ok(()) => {
                let moved = statat(&to_parent, &to_name, AtFlags::SYMLINK_NOFOLLOW).ok().or(moved);
                // What a link leads to is described by its path now; a dangling one by itself.
                self.stat(to).or_else(|refusal| match moved {
                    Some(stat) => Ok(describe_at(to, &stat)),
                    None => Err(refusal),
                })
            }
            // A directory can replace neither a file nor a directory with something in it.
            Err(Errno::NOTDIR | Errno::NOTEMPTY) if replaced.is_some() => Err(Errno::EXIST.into()),
            Err(Errno::INVAL) => {
                let is_directory =
                    moved.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir());
                let why = if is_directory { "into itself" } else { "not supported here" };
                Err(Refusal::new(Reason::InvalidPath, why))
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn workspace_root() -> Refusal {
    Refusal::new(Reason::WorkspaceRoot, "that is the workspace itself")
}
