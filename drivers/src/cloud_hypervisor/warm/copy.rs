//! Copies files of which most is nothing: disks, and memory that nobody has touched. Knows no meaning of
//! what is in them.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use rustix::{
    fs::{SeekFrom as Extent, ioctl_ficlone, seek},
    io::Errno,
};
use sha2::{Digest as _, Sha256};

use crate::jail::failure::{Doing, Result};

const BLOCK: usize = 4096;

/// Copies a file to a new one that only its owner may use. File systems that can, share the content.
pub(super) fn sparsely(from: &Path, to: &Path) -> Result<()> {
    let copying = || {
        let source = File::open(from)?;
        let target = File::options().write(true).create_new(true).mode(0o600).open(to)?;
        if ioctl_ficlone(&target, &source).is_ok() {
            return Ok(());
        }
        let n_bytes = source.metadata()?.len();
        target.set_len(n_bytes)?;
        let (mut source, mut target) = (source, target);
        each_extent(&source.try_clone()?, n_bytes, |start, length| {
            source.seek(SeekFrom::Start(start))?;
            target.seek(SeekFrom::Start(start))?;
            let copied = io::copy(&mut (&source).take(length), &mut target)?;
            if copied == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
        })
    };
    let copied: io::Result<()> = copying();
    copied.doing(&format!("copy {} to", from.display()), to)
}

/// What tells a file's content from any other, however much of it is stored.
pub(super) fn digest(path: &Path) -> Result<String> {
    let digesting = || {
        let file = File::open(path)?;
        let n_bytes = file.metadata()?.len();
        let mut digest = Sha256::new();
        digest.update(n_bytes.to_be_bytes());
        each_extent(&file.try_clone()?, n_bytes, |start, length| {
            // Where stored content begins and ends may change; which blocks are not empty does not.
            let block_size = u64::try_from(BLOCK).map_err(io::Error::other)?;
            let mut at = start - start % block_size;
            let end = start + length;
            (&file).seek(SeekFrom::Start(at))?;
            let mut block = [0; BLOCK];
            while at < end {
                let wanted = (n_bytes - at).min(block_size);
                let part = usize::try_from(wanted).map_err(io::Error::other)?;
                (&file).read_exact(&mut block[..part])?;
                if block[..part].iter().any(|byte| *byte != 0) {
                    digest.update(at.to_be_bytes());
                    digest.update(&block[..part]);
                }
                at += wanted;
            }
            Ok(())
        })?;
        Ok(hex::encode(digest.finalize()))
    };
    let digested: io::Result<String> = digesting();
    digested.doing("read", path)
}

/// Calls with the start and length of each part of a file that is stored. `file` is used for looking only.
fn each_extent(
    file: &File,
    n_bytes: u64,
    mut call: impl FnMut(u64, u64) -> io::Result<()>,
) -> io::Result<()> {
    // A descriptor of its own: the places of the others are their own.
    let file = File::open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file)))?;
    let mut at = 0;
    while at < n_bytes {
        let start = match seek(&file, Extent::Data(at)) {
            Ok(start) => start,
            // Nothing comes any more.
            Err(Errno::NXIO) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        let end = seek(&file, Extent::Hole(start))?.min(n_bytes);
        call(start, end.saturating_sub(start))?;
        at = end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, os::unix::fs::MetadataExt as _};

    use super::*;

    #[test]
    fn a_copy_is_the_same_and_takes_as_little() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        let mut file = File::create(&from).unwrap();
        file.set_len(64 << 20).unwrap();
        for (at, bytes) in [(0, &b"first"[..]), (5 << 20, b"middle"), ((64 << 20) - 4, b"last")] {
            file.seek(SeekFrom::Start(at)).unwrap();
            file.write_all(bytes).unwrap();
        }
        file.sync_all().unwrap();
        sparsely(&from, &to).unwrap();
        assert_eq!(std::fs::read(&from).unwrap(), std::fs::read(&to).unwrap());
        assert_eq!(digest(&from).unwrap(), digest(&to).unwrap());
        let taken = std::fs::metadata(&to).unwrap().blocks() * 512;
        assert!(taken < 4 << 20, "{taken} bytes");
        assert!(sparsely(&from, &to).is_err(), "nothing is overwritten");
    }

    #[test]
    fn a_digest_knows_content_and_not_how_it_is_stored() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("stored"), vec![0; 3 * BLOCK]).unwrap();
        File::create(path("hole")).unwrap().set_len(3 * 4096).unwrap();
        assert_eq!(digest(&path("stored")).unwrap(), digest(&path("hole")).unwrap());
        std::fs::write(path("other"), [vec![0; 2 * BLOCK], vec![1]].concat()).unwrap();
        std::fs::write(path("moved"), [vec![0; BLOCK], vec![1]].concat()).unwrap();
        let all = ["hole", "other", "moved"].map(|name| digest(&path(name)).unwrap());
        assert!(all[0] != all[1] && all[1] != all[2] && all[0] != all[2], "{all:?}");
    }
}
