//! Downloads: one organization has so many at a time, and one whose client takes nothing any more ends.
//! Knows neither what is downloaded nor how it is sent.

use std::{io, time::Duration};

use bytes::Bytes;
use domain::id::OrganizationId;
use futures_util::{Stream, StreamExt as _, stream};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tracing::Instrument;

use super::error::{Error, Result};
use crate::places::{Place, Places};

/// Downloads of artifacts, and as many of files, that an organization can have at a time at a server.
pub const PER_ORGANIZATION: u32 = 64;
/// A client that takes nothing for this long gets no more.
const STALL: Duration = Duration::from_secs(60);

/// Takes a place for a download.
///
/// # Errors
/// `quota_exceeded`.
pub(super) fn place(places: &Places, org: OrganizationId) -> Result<Place> {
    let what = "downloads at a time";
    places.take(org).ok_or(Error::QuotaExceeded { what, limit: u64::from(places.limit()) })
}

/// The same pieces. The place is taken until the last of them, until the client goes, or until it has
/// taken nothing for a while.
pub(super) fn held(
    place: Place,
    pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    wanted_within(STALL, place, pieces)
}

/// Where a piece is wanted; none = there are no more.
type Answer = oneshot::Sender<io::Result<Option<Bytes>>>;

/// Nobody looks at a body while its client takes nothing. So a task has the pieces, which is asked for
/// each of them, and ends with all that it has when it is not asked for long.
fn wanted_within<P: Send + 'static>(
    stall: Duration,
    place: P,
    pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let (ask, asked) = mpsc::channel::<Answer>(1);
    let feeding = async move {
        let _place = place;
        feed(stall, asked, pieces).await;
    };
    tokio::spawn(feeding.in_current_span());
    stream::try_unfold(ask, |ask| async move {
        let (answer, piece) = oneshot::channel();
        let given_up = || io::Error::new(io::ErrorKind::TimedOut, "the client took nothing");
        ask.send(answer).await.map_err(|_| given_up())?;
        let piece = piece.await.map_err(|_| given_up())??;
        Ok(piece.map(|piece| (piece, ask)))
    })
}

async fn feed(
    stall: Duration,
    mut asked: mpsc::Receiver<Answer>,
    pieces: impl Stream<Item = io::Result<Bytes>> + Send,
) {
    let mut pieces = Box::pin(pieces);
    loop {
        let mut answer = match timeout(stall, asked.recv()).await {
            Ok(Some(answer)) => answer,
            Ok(None) => return,
            Err(_) => {
                tracing::info!("a download ends: its client takes nothing");
                return;
            }
        };
        let piece = tokio::select! {
            piece = pieces.next() => piece.transpose(),
            () = answer.closed() => return,
        };
        let is_last = !matches!(piece, Ok(Some(_)));
        // Or the client is gone, which ends this as well.
        if answer.send(piece).is_err() || is_last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn pieces(texts: &[&'static str]) -> Vec<io::Result<Bytes>> {
        texts.iter().map(|text| Ok(Bytes::from_static(text.as_bytes()))).collect()
    }

    #[tokio::test]
    async fn a_body_comes_whole_and_its_place_is_free_after_it() {
        let (place, free) = oneshot::channel::<()>();
        let body = wanted_within(LONG, place, stream::iter(pieces(&["a", "b"])));
        let read: Vec<_> = body.map(|piece| piece.ok()).collect().await;
        assert_eq!(read, [Some(Bytes::from_static(b"a")), Some(Bytes::from_static(b"b"))]);
        assert!(free.await.is_err());
    }

    #[tokio::test]
    async fn a_failure_ends_it() {
        let mut failing = pieces(&["a"]);
        failing.push(Err(io::ErrorKind::NotFound.into()));
        failing.extend(pieces(&["b"]));
        let body = wanted_within(LONG, (), stream::iter(failing));
        let read: Vec<_> = body.map(|piece| piece.map_err(|error| error.kind())).collect().await;
        assert_eq!(read, [Ok(Bytes::from_static(b"a")), Err(io::ErrorKind::NotFound)]);
    }

    #[tokio::test]
    async fn who_takes_nothing_gets_no_more() {
        let (place, free) = oneshot::channel::<()>();
        let body =
            wanted_within(Duration::from_millis(20), place, stream::iter(pieces(&["a", "b"])));
        let mut body = Box::pin(body);
        assert_eq!(body.next().await.unwrap().unwrap(), Bytes::from_static(b"a"));
        assert!(free.await.is_err(), "the pieces and the place are gone, and nobody has looked");
        assert_eq!(body.next().await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(body.next().await.is_none());
    }

    #[tokio::test]
    async fn who_is_slow_for_want_of_pieces_takes_nothing_late() {
        let later = stream::once(async {
            tokio::time::sleep(Duration::from_millis(60)).await;
            Ok(Bytes::from_static(b"a"))
        });
        let body = wanted_within(Duration::from_millis(20), (), later);
        let read: Vec<_> = body.map(|piece| piece.ok()).collect().await;
        assert_eq!(read, [Some(Bytes::from_static(b"a"))]);
    }

    #[tokio::test]
    async fn a_place_is_free_once_the_client_goes() {
        for asks_first in [true, false] {
            let (place, free) = oneshot::channel::<()>();
            let mut body = Box::pin(wanted_within(LONG, place, stream::pending()));
            if asks_first {
                assert!(futures_util::poll!(body.next()).is_pending());
            }
            drop(body);
            assert!(free.await.is_err());
        }
    }
}
