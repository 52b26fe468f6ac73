//! Connections through which nothing passes any more. Whoever of client, proxy and app waits for whom then,
//! nobody waits for ever: neither for a body whose rest never comes, nor for somebody who does not read, nor
//! behind an upgrade.

use std::{
    future::pending,
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

/// Whoever reads is told of the end of a preview within this; who does not read is cut off.
const GRACE: Duration = Duration::from_millis(500);

/// When something last passed, such as through a connection, either way. Clones share it.
#[derive(Debug, Clone)]
pub struct Activity(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    last: Instant,
    /// How many are at work on something that has a limit of its own.
    n_works: usize,
    /// Of the preview that it is in use for.
    ends: Option<CancellationToken>,
}

impl Activity {
    /// Of what begins now.
    #[must_use]
    pub fn new() -> Self {
        let state = State { last: Instant::now(), n_works: 0, ends: None };
        Self(Arc::new(Shared { state: Mutex::new(state), changed: Notify::new() }))
    }

    /// Returns once nothing has passed for `limit`, or when what it is in use for has ended and goes on all
    /// the same. For one caller at a time.
    pub async fn ceases(&self, limit: Duration) {
        loop {
            let (until, ends) = {
                let state = self.state();
                let last = if state.n_works > 0 { Instant::now() } else { state.last };
                (last + limit, state.ends.clone())
            };
            if until <= Instant::now() {
                return;
            }
            let ended = async {
                match ends {
                    Some(ends) => ends.cancelled().await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = sleep_until(until) => {}
                () = self.0.changed.notified() => {}
                () = ended => {
                    if timeout(GRACE, self.0.changed.notified()).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Something passes.
    pub fn note(&self) {
        self.state().last = Instant::now();
    }

    /// Somebody is at work on what has a limit of its own, until this is dropped.
    #[must_use]
    pub fn works(&self) -> Work {
        self.state().n_works += 1;
        self.0.changed.notify_one();
        Work(self.clone())
    }

    /// It is in use for a preview, until this is dropped.
    #[must_use]
    pub fn serves(&self, ends: &CancellationToken) -> Service {
        self.state().ends = Some(ends.clone());
        self.0.changed.notify_one();
        Service(self.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// That somebody is at work.
#[derive(Debug)]
pub struct Work(Activity);

impl Drop for Work {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.n_works -= 1;
        state.last = Instant::now();
        drop(state);
        self.0.0.changed.notify_one();
    }
}

/// That something is in use for a preview.
#[derive(Debug)]
pub struct Service(Activity);

impl Drop for Service {
    fn drop(&mut self) {
        self.0.state().ends = None;
        self.0.0.changed.notify_one();
    }
}

/// A connection that notes what passes.
#[derive(Debug)]
pub struct Watched<S> {
    stream: S,
    activity: Activity,
}

impl<S> Watched<S> {
    /// Notes what passes through `stream` from now on.
    pub const fn new(stream: S, activity: Activity) -> Self {
        Self { stream, activity }
    }

    fn noted(&self, written: io::Result<usize>) -> Poll<io::Result<usize>> {
        if let Ok(1..) = written {
            self.activity.note();
        }
        Poll::Ready(written)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        if buffer.filled().len() > before {
            self.activity.note();
        }
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        self.noted(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, pieces));
        self.noted(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
