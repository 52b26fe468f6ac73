//! Reading: a stream whose last piece is held back until the checksum of all of it is known to be that
//! of what was written. Whoever gets the whole gets the right bytes; else the stream breaks off.

use std::{io, time::Duration};

use bytes::Bytes;
use futures_util::{
    Stream, StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream},
};
use object_store::{GetResultPayload, ObjectStoreExt as _};
use sha2::{Digest, Sha256};
use tokio::time::timeout;
use tokio_util::io::ReaderStream;

use super::{Blobs, CALL, Error, Result, Written, within};

/// Bytes of a file that are read at a time.
const PIECE: usize = 256 << 10;
/// A store that brings nothing for this long has failed, its own repetitions included.
const SILENCE: Duration = Duration::from_secs(120);

impl Blobs {
    /// Reads what was written under a key.
    ///
    /// # Errors
    /// When the bytes are not there, or not as many as were written.
    pub async fn read(
        &self,
        key: &str,
        written: Written,
    ) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + 'static + use<>> {
        let store = self.store().await?;
        let found = within(CALL, store.objects().get(&store.path(key))).await?;
        if found.meta.size != written.size_bytes {
            tracing::error!(key, size = found.meta.size, "an artifact is not as it was written");
            return Err(Error::Corrupt);
        }
        let pieces = match found.payload {
            // The store itself would read much less at a time.
            GetResultPayload::File(file, _) => {
                ReaderStream::with_capacity(tokio::fs::File::from_std(file), PIECE).boxed()
            }
            GetResultPayload::Stream(pieces) => pieces.map_err(io::Error::other).boxed(),
        };
        Ok(verified(key.to_owned(), pieces, written))
    }
}

struct Reader {
    key: String,
    pieces: BoxStream<'static, io::Result<Bytes>>,
    written: Written,
    hash: Sha256,
    n_bytes: u64,
    held: Option<Bytes>,
    is_over: bool,
}

fn verified(
    key: String,
    pieces: BoxStream<'static, io::Result<Bytes>>,
    written: Written,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let (hash, n_bytes, held, is_over) = (Sha256::new(), 0, None, false);
    let reader = Reader { key, pieces, written, hash, n_bytes, held, is_over };
    stream::try_unfold(reader, |mut reader| async move {
        Ok(reader.next().await?.map(|piece| (piece, reader)))
    })
}

impl Reader {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        while !self.is_over {
            let next = timeout(SILENCE, self.pieces.next()).await;
            match next.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))? {
                Some(piece) => {
                    let piece = piece?;
                    self.hash.update(&piece);
                    self.n_bytes = self.n_bytes.saturating_add(piece.len() as u64);
                    if let Some(ready) = self.held.replace(piece) {
                        return Ok(Some(ready));
                    }
                }
                None => {
                    self.is_over = true;
                    self.check()?;
                    return Ok(self.held.take());
                }
            }
        }
        Ok(None)
    }

    fn check(&mut self) -> io::Result<()> {
        let sha256: [u8; 32] = self.hash.finalize_reset().into();
        if (Written { size_bytes: self.n_bytes, sha256 }) == self.written {
            return Ok(());
        }
        tracing::error!(key = self.key, "the bytes of an artifact are not those that were written");
        Err(io::Error::other(Error::Corrupt))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a reader gets of pieces, and whether it is told that all is well.
    async fn read(pieces: &[&'static str], written: &str) -> (String, bool) {
        let sha256 = Sha256::digest(written).into();
        let written = Written { size_bytes: written.len() as u64, sha256 };
        let pieces: Vec<_> =
            pieces.iter().map(|piece| Ok(Bytes::from_static(piece.as_bytes()))).collect();
        let mut read = Box::pin(verified("key".to_owned(), stream::iter(pieces).boxed(), written));
        let mut text = String::new();
        while let Some(piece) = read.next().await {
            match piece {
                Ok(piece) => text.push_str(std::str::from_utf8(&piece).unwrap()),
                Err(_) => return (text, false),
            }
        }
        (text, true)
    }

    #[tokio::test]
    async fn nobody_gets_the_whole_of_what_was_changed() {
        for (pieces, written, wanted) in [
            (&["ab", "cd"][..], "abcd", ("abcd", true)),
            (&[], "", ("", true)),
            (&["ab", "cd"], "abce", ("ab", false)),
            (&["abce"], "abcd", ("", false)),
            (&["ab"], "abcd", ("", false)),
            (&["ab", "cd", "e"], "abcd", ("abcd", false)),
        ] {
            let (text, whole) = read(pieces, written).await;
            assert_eq!((&*text, whole), wanted, "{pieces:?} for {written:?}");
        }
    }
}
