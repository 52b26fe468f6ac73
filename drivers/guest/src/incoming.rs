//! Accepts connections, a bounded number at a time, on a Unix socket or a vsock. A connection beyond that
//! waits in the kernel's queue. Knows nothing of what is spoken on them.

use std::{
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::net::UnixStream as StdStream,
    },
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Stream, stream};
use nix::{
    libc::VMADDR_CID_HOST,
    sys::socket::{AddressFamily, SockaddrLike as _, SockaddrStorage, getpeername},
};
use rustix::net::{SocketFlags, accept_with};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf, unix::AsyncFd},
    net::UnixStream,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tonic::transport::server::Connected;

/// Clients are the processes of one server; a few connections are plenty.
const MAX_CONNECTIONS: usize = 64;

/// How long to wait after accepting failed, which happens while the host is out of some resource.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// The connections of a listening socket, as they come. Never ends.
///
/// # Errors
/// When the socket cannot be waited for; called outside of a runtime, it panics as tokio does.
pub fn connections(
    listener: OwnedFd,
) -> io::Result<impl Stream<Item = io::Result<Connection>> + use<>> {
    rustix::io::ioctl_fionbio(&listener, true)?;
    let listener = wait_for(listener)?;
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    Ok(stream::unfold((listener, places), |(listener, places)| async move {
        let place = Arc::clone(&places).acquire_owned().await.ok()?;
        loop {
            match accept(&listener).await {
                Ok(Some(stream)) => {
                    let connection = Connection { stream, _place: place };
                    return Some((Ok(connection), (listener, places)));
                }
                Ok(None) => {}
                Err(_) => tokio::time::sleep(AFTER_FAILURE).await,
            }
        }
    }))
}

#[expect(
    deprecated,
    reason = "its successor is unsafe to call; one that is owned is safe to wait for"
)]
fn wait_for(listener: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(listener)
}

/// The next connection; `None` for one that is refused.
async fn accept(listener: &AsyncFd<OwnedFd>) -> io::Result<Option<UnixStream>> {
    let accepting = |listener: &OwnedFd| {
        Ok(accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?)
    };
    let mut ready = listener.readable().await?;
    let Ok(accepted) = ready.try_io(|listener| accepting(listener.get_ref())) else {
        return Ok(None);
    };
    let connection: OwnedFd = accepted?;
    if !may_connect(&connection)? {
        return Ok(None);
    }
    // To read and to write, a stream socket is like any other; nothing here asks for an address.
    UnixStream::from_std(StdStream::from(connection)).map(Some)
}

/// Whether a peer may be here: on a vsock the host, on a Unix socket whoever got as far as that.
fn may_connect(connection: &OwnedFd) -> io::Result<bool> {
    let peer: SockaddrStorage = getpeername(connection.as_raw_fd())?;
    if peer.family() != Some(AddressFamily::Vsock) {
        return Ok(true);
    }
    Ok(peer.as_vsock_addr().is_some_and(|peer| peer.cid() == VMADDR_CID_HOST))
}

/// A connection and its place among the bounded number.
pub struct Connection {
    stream: UnixStream,
    _place: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
