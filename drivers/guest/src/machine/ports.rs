//! Where a machine is reached, and where it knocks: on its vsock, or at Unix sockets that stand for that.

use std::{
    fs, io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::PathBuf,
};

use nix::{
    libc::{VMADDR_CID_ANY, VMADDR_CID_HOST},
    sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, VsockAddr, bind, connect, listen, socket,
    },
};
use protocol::READY_PORT;

/// The ports of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ports {
    /// Unix sockets in a directory, named by their numbers; at `host-1025` the host listens.
    Directory(PathBuf),
    /// Those of the machine's vsock.
    Vsock,
}

impl Ports {
    /// Opens a port to the host.
    pub fn listen(&self, port: u32) -> io::Result<OwnedFd> {
        match self {
            Self::Directory(directory) => {
                let path = directory.join(port.to_string());
                // A socket left by a machine before this one is in the way of nobody.
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    Ok(()) | Err(_) => {}
                }
                Ok(UnixListener::bind(path)?.into())
            }
            Self::Vsock => {
                let listener = vsock()?;
                bind(listener.as_raw_fd(), &VsockAddr::new(VMADDR_CID_ANY, port))?;
                listen(&listener, Backlog::MAXCONN)?;
                Ok(listener)
            }
        }
    }

    /// Tells the host that the ports are open. Says nothing: whoever hears the knock may be gone by then.
    pub fn knock(&self) -> io::Result<()> {
        match self {
            Self::Directory(directory) => {
                UnixStream::connect(directory.join(format!("host-{READY_PORT}"))).map(drop)
            }
            Self::Vsock => {
                let host = VsockAddr::new(VMADDR_CID_HOST, READY_PORT);
                Ok(connect(vsock()?.as_raw_fd(), &host)?)
            }
        }
    }
}

fn vsock() -> io::Result<OwnedFd> {
    Ok(socket(AddressFamily::Vsock, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?)
}
