//! When to end: on SIGINT, on SIGTERM, and when whoever reads the output has gone, which a program
//! that only waits would else not notice.

use std::os::fd::AsFd;

use tokio::{
    io::Interest,
    net::unix::pipe,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

/// Cancelled when it is time to end.
pub(super) fn asked() -> CancellationToken {
    let token = CancellationToken::new();
    let asked = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = signalled(SignalKind::interrupt()) => {}
            () = signalled(SignalKind::terminate()) => {}
            () = unread() => {}
        }
        asked.cancel();
    });
    token
}

async fn signalled(kind: SignalKind) {
    match signal(kind) {
        Ok(mut signals) => {
            signals.recv().await;
        }
        // Then the signal ends the program the hard way.
        Err(error) => {
            super::tell(&format!("a signal cannot be waited for: {error}"));
            std::future::pending().await
        }
    }
}

/// Waits until standard output is a pipe that nobody reads any more. A file cannot be waited for.
async fn unread() {
    // Not the checked way, which would make writes to the pipe that this shares fail instead of wait.
    if let Ok(out) = std::io::stdout().as_fd().try_clone_to_owned()
        && let Ok(out) = pipe::Sender::from_owned_fd_unchecked(out)
        && out.ready(Interest::ERROR).await.is_ok()
    {
        return;
    }
    std::future::pending().await
}
