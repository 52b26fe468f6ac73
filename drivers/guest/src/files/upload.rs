//! Receives a file: into a temporary name in the target's directory, which takes the target's name
//! at the end. A target appears whole or not at all, and nothing is left of an upload that was cut
//! off.

use std::{
    ffi::OsString,
    fs::File,
    io::Write as _,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use protocol::{FileStat, Reason, WriteChunk, WriteOpen, write_chunk::Part};
use rustix::{
    fs::{
        AtFlags, Mode, OFlags, RenameFlags, Stat, fchmod, fchown, fstat, openat, renameat_with,
        statat, unlinkat,
    },
    io::Errno,
    process::{Gid, Uid},
};
use tonic::{Status, Streaming};

use super::{
    Refusal, Workspace, blocking, describe_at,
    path::UserPath,
    read::check_regular,
    resolve::{Last, Parents, Place},
};

/// Receives one upload to its end.
pub async fn receive(
    workspace: Arc<Workspace>,
    mut chunks: Streaming<WriteChunk>,
) -> Result<FileStat, Status> {
    let first = chunks.message().await?.and_then(|chunk| chunk.part);
    let Some(Part::Open(open)) = first else {
        return Err(Status::invalid_argument("the first message must open a file"));
    };
    let mut upload = blocking(move || Upload::open(&workspace, &open)).await?;
    loop {
        match chunks.message().await?.map(|chunk| chunk.part) {
            Some(Some(Part::Data(data))) => {
                upload = blocking(move || upload.append(&data).map(|()| upload)).await?;
            }
            Some(Some(Part::Commit(_))) => return blocking(move || upload.commit()).await,
            Some(Some(Part::Open(_)) | None) => {
                return Err(Status::invalid_argument("data or commit is expected"));
            }
            None => return Err(Status::aborted("the upload was cut off")),
        }
    }
}

/// An upload under way. Dropped before it is committed, it leaves nothing.
struct Upload {
    temporary: Temporary,
    file: File,
    path: UserPath,
    target: OsString,
    overwrite: bool,
    n_bytes: u64,
    max_bytes: u64,
}

impl Upload {
    fn open(workspace: &Workspace, open: &WriteOpen) -> Result<Self, Refusal> {
        let path: UserPath = open.path.parse()?;
        let parents = if open.create_parents { Parents::Make } else { Parents::Require };
        let place = workspace.resolve(&path, Last::Follow, parents)?;
        let Place::Entry { parent, name: target, found } = place else {
            return Err(Errno::ISDIR.into());
        };
        check_target(found.as_ref(), open.overwrite)?;
        let (temporary, file) = Temporary::make(workspace, parent)?;
        Ok(Self {
            temporary,
            file,
            path,
            target,
            overwrite: open.overwrite,
            n_bytes: 0,
            max_bytes: open.max_bytes,
        })
    }

    fn append(&mut self, data: &[u8]) -> Result<(), Refusal> {
        self.n_bytes = self.n_bytes.saturating_add(data.len() as u64);
        if self.max_bytes > 0 && self.n_bytes > self.max_bytes {
            return Err(Refusal::new(Reason::FileTooLarge, "more bytes than allowed"));
        }
        Ok(self.file.write_all(data)?)
    }

    fn commit(self) -> Result<FileStat, Refusal> {
        let Self { temporary, file, target, .. } = &self;
        let replaced = match statat(&*temporary.parent, target, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Some(stat),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(error.into()),
        };
        // A link here was put there just now: it is replaced, not followed.
        let replaced = replaced.filter(|stat| check_regular(stat).is_ok());
        keep_mode(file, replaced.as_ref())?;
        let flags = if self.overwrite { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        renameat_with(&*temporary.parent, &temporary.name, &*temporary.parent, target, flags)
            .map_err(|error| {
                // The directory has been removed since, and the temporary name with it.
                Refusal::from(error).instead_of(Reason::FileNotFound, Reason::ParentNotFound)
            })?;
        Ok(describe_at(&self.path, &fstat(file)?))
    }
}

fn check_target(found: Option<&Stat>, overwrite: bool) -> Result<(), Refusal> {
    let Some(stat) = found else { return Ok(()) };
    check_regular(stat)?;
    if overwrite { Ok(()) } else { Err(Errno::EXIST.into()) }
}

/// Gives the new file the mode, and where allowed the owner, of the one it replaces. Set-id bits are
/// dropped, as they are by any write.
fn keep_mode(file: &File, replaced: Option<&Stat>) -> Result<(), Refusal> {
    let mode = replaced.map_or(0o644, |stat| stat.st_mode & 0o777);
    if let Some(stat) = replaced {
        let own = fstat(file)?;
        if (own.st_uid, own.st_gid) != (stat.st_uid, stat.st_gid) {
            let owner = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
            // Only the superuser may; for others the file becomes theirs, as with any editor.
            let _ = fchown(file, Some(owner.0), Some(owner.1));
        }
    }
    Ok(fchmod(file, Mode::from_raw_mode(mode))?)
}

/// A name that is removed when it is not needed any more; once renamed, it does not exist.
struct Temporary {
    parent: Arc<OwnedFd>,
    name: String,
}

impl Temporary {
    fn make(workspace: &Workspace, parent: Arc<OwnedFd>) -> Result<(Self, File), Refusal> {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        // The boot id is random, so the name is free unless a command guesses on purpose.
        let name = format!("{}{serial}", workspace.upload_prefix());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let fd = openat(&parent, &name, flags, Mode::RUSR | Mode::WUSR).map_err(|error| {
            // The directory was found a moment ago.
            Refusal::from(error).instead_of(Reason::FileNotFound, Reason::ParentNotFound)
        })?;
        Ok((Self { parent, name }, File::from(fd)))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Fails when it was renamed, which is as well.
        let _ = unlinkat(&*self.parent, &self.name, AtFlags::empty());
    }
}
