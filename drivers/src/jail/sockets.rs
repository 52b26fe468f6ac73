//! Unix sockets in directories of sandboxes. Their paths may be longer than an address, and what is in
//! such a directory may have been put there by whoever is kept in: nothing is followed, nothing waits.

use std::{
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FileType, Mode, OFlags, fstat, open, openat},
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with},
};

/// Makes a socket of this name and listens on it.
pub(crate) fn listen(directory: &Path, name: &str) -> io::Result<UnixListener> {
    let directory = open_directory(directory)?;
    UnixListener::bind(through(&directory).join(name))
}

/// Connects without ever waiting: a sandbox can keep its agent from accepting, and the kernel lets
/// whoever connects to a full queue wait for ever. Here that is an error. So is a link: it may lead to
/// the socket of another sandbox.
pub(crate) fn connect(directory: &Path, name: &str) -> io::Result<UnixStream> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(open_directory(directory)?, name, flags, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::Socket {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a socket"));
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(through(&file))?)?;
    Ok(UnixStream::from(socket))
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(open(path, flags, Mode::empty())?)
}

/// A path to what a descriptor holds: the address of a Unix socket has room for about a hundred bytes.
fn through(descriptor: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", descriptor.as_raw_fd()).into()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn a_full_queue_is_an_error_and_no_wait() {
        let folder = tempfile::tempdir().unwrap();
        let listener = listen(folder.path(), "socket").unwrap();
        rustix::net::listen(&listener, 1).unwrap();
        // Nobody accepts, as if the agent had been stopped. A connection that was dropped again still
        // takes its place.
        let refused = (0..10).find_map(|_| connect(folder.path(), "socket").err());
        assert_eq!(refused.map(|error| error.kind()), Some(io::ErrorKind::WouldBlock));
    }

    #[test]
    fn a_link_to_a_socket_is_not_followed() {
        let (mine, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let _listener = listen(other.path(), "socket").unwrap();
        connect(other.path(), "socket").unwrap();
        symlink(other.path().join("socket"), mine.path().join("socket")).unwrap();
        fs::write(mine.path().join("file"), "").unwrap();
        for name in ["socket", "file", "missing"] {
            assert!(connect(mine.path(), name).is_err(), "{name}");
        }
    }
}
