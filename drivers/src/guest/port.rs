//! A byte stream to a port inside the sandbox. Knows nothing of what is spoken on it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::StreamExt as _;
use protocol::{ConnectChunk, connect_chunk::Part};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf, join},
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::PollSender;
use tonic::Streaming;

use super::{CALL_DEADLINE, Guest, GuestError, GuestErrorKind, within};
use crate::driver::BoxedStream;

/// The largest piece that one write passes on.
const CHUNK: usize = 64 << 10;

impl Guest {
    /// Connects to a port inside the sandbox. Shutting the stream down closes one direction; dropping
    /// it closes both.
    ///
    /// # Errors
    /// Refused with `connection_refused`.
    pub async fn dial(&self, port: u16) -> Result<BoxedStream, GuestError> {
        let (chunks, to_agent) = mpsc::channel(1);
        let first = ConnectChunk { part: Some(Part::Port(port.into())) };
        chunks.try_send(first).map_err(|error| GuestError::new(GuestErrorKind::Protocol, error))?;
        let mut client = self.client.clone();
        let answer = within(CALL_DEADLINE, client.dial(ReceiverStream::new(to_agent))).await?;
        let read = Read { answer, rest: Bytes::new(), ended: false };
        let write = Write { chunks: PollSender::new(chunks) };
        Ok(Box::new(join(read, write)))
    }
}

/// The direction from the port. Kept when it has ended, because dropping the answer gives up the whole
/// call, and the other direction may go on.
struct Read {
    answer: Streaming<ConnectChunk>,
    rest: Bytes,
    ended: bool,
}

impl AsyncRead for Read {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.rest.is_empty() && !self.ended {
            match ready!(self.answer.poll_next_unpin(cx)) {
                Some(Ok(ConnectChunk { part: Some(Part::Data(bytes)) })) => {
                    self.ended = bytes.is_empty();
                    self.rest = bytes;
                }
                Some(Ok(_)) => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
                Some(Err(status)) => {
                    let error = io::Error::new(io::ErrorKind::ConnectionReset, status);
                    return Poll::Ready(Err(error));
                }
                None => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            }
        }
        let n = self.rest.len().min(buf.remaining());
        buf.put_slice(&self.rest.split_to(n));
        Poll::Ready(Ok(()))
    }
}

/// The direction towards the port.
struct Write {
    chunks: PollSender<ConnectChunk>,
}

impl Write {
    fn send(&mut self, bytes: Bytes) -> io::Result<()> {
        let chunk = ConnectChunk { part: Some(Part::Data(bytes)) };
        self.chunks.send_item(chunk).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl AsyncWrite for Write {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        // An empty message would close this direction.
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if ready!(self.chunks.poll_reserve(cx)).is_err() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let piece = buf.get(..CHUNK).unwrap_or(buf);
        self.send(Bytes::copy_from_slice(piece))?;
        Poll::Ready(Ok(piece.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was sent is on its way by itself.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Closed by us, or by the other end: both ways there is nothing to say.
        if ready!(self.chunks.poll_reserve(cx)).is_ok() {
            self.send(Bytes::new())?;
            self.chunks.close();
        }
        Poll::Ready(Ok(()))
    }
}
