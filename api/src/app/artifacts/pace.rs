//! The least that the agent must bring of a file that is copied. Each piece has its deadline elsewhere;
//! one byte before each of them would be a copy that never ends, and keep its turn.

use std::time::Duration;

use bytes::Bytes;
use drivers::guest::{ByteStream, GuestError, GuestErrorKind};
use futures_util::{Stream, StreamExt as _, stream};
use tokio::time::{Instant, timeout};

/// What is looked at at a time.
const WINDOW: Duration = Duration::from_secs(60);
/// The least in that time: 64 KiB a second.
const LEAST: u64 = 60 * (64 << 10);

/// The same pieces, until they come too slowly: then it ends as one that did not answer in time.
pub(super) fn paced(
    pieces: ByteStream,
) -> impl Stream<Item = Result<Bytes, GuestError>> + Send + 'static + use<> {
    at_least(LEAST, WINDOW, pieces)
}

fn at_least(
    least: u64,
    window: Duration,
    pieces: ByteStream,
) -> impl Stream<Item = Result<Bytes, GuestError>> + Send + 'static + use<> {
    let pace = Pace { pieces, least, window, waited: Duration::ZERO, n_bytes: 0 };
    stream::try_unfold(pace, |mut pace| async move {
        let next = pace.next().await?;
        Ok(next.map(|piece| (piece, pace)))
    })
}

struct Pace {
    pieces: ByteStream,
    least: u64,
    window: Duration,
    /// How long the agent was waited for in this window. What the store takes is not its fault, and has
    /// deadlines of its own.
    waited: Duration,
    n_bytes: u64,
}

impl Pace {
    async fn next(&mut self) -> Result<Option<Bytes>, GuestError> {
        loop {
            // Before anything else: pieces may come faster than a timer goes off.
            if self.waited >= self.window {
                if self.n_bytes < self.least {
                    let text = "the bytes of a file come too slowly";
                    return Err(GuestError::new(GuestErrorKind::TimedOut, text));
                }
                (self.waited, self.n_bytes) = (Duration::ZERO, 0);
            }
            let begin = Instant::now();
            let next = timeout(self.window - self.waited, self.pieces.next()).await;
            self.waited += begin.elapsed();
            if let Ok(piece) = next {
                let piece = piece.transpose()?;
                let n_bytes = piece.as_ref().map_or(0, |piece| piece.len() as u64);
                self.n_bytes = self.n_bytes.saturating_add(n_bytes);
                return Ok(piece);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt as _;
    use tokio::time::interval;
    use tokio_stream::wrappers::IntervalStream;

    use super::*;

    /// Every millisecond a piece of so many bytes, and how many came before the end.
    async fn copied(size: usize, n_pieces: usize) -> Result<usize, GuestErrorKind> {
        let piece = move |_| Ok(Bytes::from(vec![0; size]));
        let pieces = IntervalStream::new(interval(Duration::from_millis(1))).map(piece);
        let paced = at_least(20, Duration::from_millis(100), pieces.take(n_pieces).boxed());
        let sizes: Vec<usize> = paced
            .map_ok(|piece| piece.len())
            .try_collect()
            .await
            .map_err(|error: GuestError| error.kind)?;
        Ok(sizes.into_iter().sum())
    }

    #[tokio::test]
    async fn what_drips_is_not_waited_for() {
        assert_eq!(copied(1000, 300).await, Ok(300_000), "three times as long as is looked at");
        assert_eq!(copied(0, usize::MAX).await, Err(GuestErrorKind::TimedOut));
        assert_eq!(copied(0, 3).await, Ok(0), "it was over before");
    }
}
