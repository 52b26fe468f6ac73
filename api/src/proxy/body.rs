//! Bodies on their way through, in pieces as they come. They end when the preview does.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Why a body broke off.
pub type Broken = Box<dyn std::error::Error + Send + Sync>;

/// A body of either side, or of ours.
pub type Body = UnsyncBoxBody<Bytes, Broken>;

/// A body that is known already.
#[must_use]
pub fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body that passes until `ends` is cancelled, calls `passes` for each piece, and hands `kept` to `then`
/// once it has passed whole; if it breaks off, that is dropped.
pub fn passing<K: Send + 'static>(
    body: Incoming,
    ends: CancellationToken,
    passes: impl FnMut() + Send + 'static,
    kept: K,
    then: impl FnOnce(K) + Send + 'static,
) -> Body {
    let ended = Box::pin(ends.cancelled_owned());
    let then: Then<K> = Box::new(then);
    let mut passing = Passing { body, ended, passes, kept: Some((kept, then)) };
    passing.finish_at_end();
    passing.boxed_unsync()
}

type Then<K> = Box<dyn FnOnce(K) + Send>;

struct Passing<K, P> {
    body: Incoming,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    passes: P,
    kept: Option<(K, Then<K>)>,
}

impl<K, P> Passing<K, P> {
    fn finish(&mut self) {
        if let Some((kept, then)) = self.kept.take() {
            then(kept);
        }
    }

    fn finish_at_end(&mut self) {
        if self.body.is_end_stream() {
            self.finish();
        }
    }
}

impl<K, P> Unpin for Passing<K, P> {}

impl<K, P: FnMut()> hyper::body::Body for Passing<K, P> {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if self.ended.as_mut().poll(cx).is_ready() {
            self.kept = None;
            return Poll::Ready(Some(Err("the preview has ended".into())));
        }
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            None => self.finish(),
            Some(Ok(_)) => {
                (self.passes)();
                self.finish_at_end();
            }
            Some(Err(_)) => self.kept = None,
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
