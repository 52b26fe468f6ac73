//! Drops a future at its first, second, .. wait, as the end of a client or a server does. What must hold
//! after that is for whoever cuts.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

/// Polls a future `n` times and drops it then; `None` if it was not ready by that time.
pub async fn cut<F: Future>(n: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut polls = 0;
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => {
            polls += 1;
            if polls >= n { Poll::Ready(None) } else { Poll::Pending }
        }
    })
    .await
}
