//! Writing: from a stream into parts of equal size, a few of which are under way at a time. What fits
//! into one part is written by one call. Nothing appears under the key before all of it is there.

use std::{collections::BTreeMap, pin::pin, sync::Arc};

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _};
use object_store::{
    MultipartUpload, ObjectStoreExt as _, PutPayload,
    aws::AmazonS3,
    multipart::{MultipartStore, PartId},
    path::Path,
};
use sha2::{Digest, Sha256};
use tokio::task::JoinSet;

use super::{Blobs, CALL, COMMIT, Error, Result, place::Store, within};
use crate::app::error::{Error as AppError, Result as AppResult};

/// The smallest part that every S3 service takes, which all parts but the last must have.
const PART: usize = 5 << 20;
/// Parts of an upload, as S3 services take them.
const MAX_PARTS: u64 = 10_000;
/// The most that can be written under a key.
pub(super) const MAX_BYTES: u64 = MAX_PARTS * (PART as u64);
/// Parts of one upload that are under way at a time.
pub(super) const IN_FLIGHT: usize = 2;

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// How much.
    pub size_bytes: u64,
    /// The checksum of it.
    pub sha256: [u8; 32],
}

impl Blobs {
    /// Writes a stream. `begun` is told what an upload in parts is called before any part of it is
    /// stored, if the store needs that name to remove it. After a failure something may be left, which
    /// [`Self::remove`] removes.
    ///
    /// # Errors
    /// Those of `bytes` and `begun`; `NotStored` when the store fails.
    pub async fn write<F, Fut>(
        &self,
        key: &str,
        bytes: impl Stream<Item = AppResult<Bytes>> + Send,
        begun: F,
    ) -> AppResult<Written>
    where
        F: FnOnce(String) -> Fut + Send,
        Fut: Future<Output = AppResult<()>> + Send,
    {
        let store = self.store().await.map_err(AppError::NotStored)?;
        let path = store.path(key);
        let mut bytes = pin!(bytes);
        let (mut hash, mut size_bytes) = (Sha256::new(), 0_u64);
        let mut part = Part::default();
        let mut begun = Some(begun);
        let mut upload: Option<Upload> = None;
        while let Some(mut piece) = bytes.try_next().await? {
            hash.update(&piece);
            size_bytes = size_bytes.saturating_add(piece.len() as u64);
            while let Some(full) = part.fill(&mut piece) {
                if let Some(begun) = begun.take() {
                    let begin = Upload::begin(store, &path).await.map_err(AppError::NotStored)?;
                    if let Some(id) = begin.id() {
                        begun(id.to_owned()).await?;
                    }
                    upload = Some(begin);
                }
                if let Some(upload) = &mut upload {
                    upload.send(full).await.map_err(AppError::NotStored)?;
                }
            }
        }
        let last = part.take();
        match upload {
            None => within(COMMIT, store.objects().put(&path, last)).await.map(drop),
            Some(upload) => upload.finish(last).await,
        }
        .map_err(AppError::NotStored)?;
        Ok(Written { size_bytes, sha256: hash.finalize().into() })
    }
}

/// A part that is being filled. Pieces are kept as they came, so that none is copied.
#[derive(Debug, Default)]
struct Part {
    pieces: Vec<Bytes>,
    n_bytes: usize,
}

impl Part {
    /// Moves as much of a piece as there is room for; a part that is full with it.
    fn fill(&mut self, piece: &mut Bytes) -> Option<PutPayload> {
        let taken = piece.split_to(piece.len().min(PART - self.n_bytes));
        self.n_bytes += taken.len();
        if !taken.is_empty() {
            self.pieces.push(taken);
        }
        (self.n_bytes == PART).then(|| self.take())
    }

    fn take(&mut self) -> PutPayload {
        self.n_bytes = 0;
        std::mem::take(&mut self.pieces).into_iter().collect()
    }
}

/// An upload in parts. Those under way end with it.
struct Upload {
    target: Target,
    sent: JoinSet<Result<(usize, Option<PartId>)>>,
    stored: BTreeMap<usize, PartId>,
    n_sent: usize,
}

enum Target {
    Folder(Box<dyn MultipartUpload>),
    Bucket { store: Arc<AmazonS3>, path: Path, id: String },
}

impl Upload {
    async fn begin(store: &Store, path: &Path) -> Result<Self> {
        let target = match store {
            Store::Folder { files, .. } => {
                Target::Folder(within(CALL, files.put_multipart(path)).await?)
            }
            Store::Bucket { s3, .. } => {
                let id = within(CALL, s3.create_multipart(path)).await?;
                Target::Bucket { store: Arc::clone(s3), path: path.clone(), id }
            }
        };
        Ok(Self { target, sent: JoinSet::new(), stored: BTreeMap::new(), n_sent: 0 })
    }

    /// What the store calls it, where it does not go with the key.
    fn id(&self) -> Option<&str> {
        match &self.target {
            Target::Folder(_) => None,
            Target::Bucket { id, .. } => Some(id),
        }
    }

    /// Sends a part in the background, once no more than some others are under way.
    async fn send(&mut self, part: PutPayload) -> Result<()> {
        self.settle(IN_FLIGHT - 1).await?;
        let place = self.n_sent;
        self.n_sent += 1;
        match &mut self.target {
            Target::Folder(upload) => {
                let written = upload.put_part(part);
                self.sent
                    .spawn(async move { Ok((place, within(CALL, written).await.map(|()| None)?)) });
            }
            Target::Bucket { store, path, id } => {
                let (store, path, id) = (Arc::clone(store), path.clone(), id.clone());
                self.sent.spawn(async move {
                    let stored = within(CALL, store.put_part(&path, &id, place, part)).await?;
                    Ok((place, Some(stored)))
                });
            }
        }
        Ok(())
    }

    async fn settle(&mut self, at_most: usize) -> Result<()> {
        while self.sent.len() > at_most {
            let Some(ended) = self.sent.join_next().await else { break };
            let (place, stored) = ended.map_err(|error| Error::Failed(error.into()))??;
            if let Some(stored) = stored {
                self.stored.insert(place, stored);
            }
        }
        Ok(())
    }

    async fn finish(mut self, last: PutPayload) -> Result<()> {
        if last.content_length() > 0 {
            self.send(last).await?;
        }
        self.settle(0).await?;
        let stored = match self.target {
            Target::Folder(mut upload) => within(COMMIT, upload.complete()).await,
            Target::Bucket { store, path, id } => {
                let parts = self.stored.into_values().collect();
                within(COMMIT, store.complete_multipart(&path, &id, parts)).await
            }
        };
        match stored {
            // An upload that is not there any more was swept.
            Err(Error::Missing) => Err(Error::Failed("the upload is gone".into())),
            stored => stored.map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_of_equal_size_but_for_the_last() {
        let mut part = Part::default();
        let mut sizes = Vec::new();
        for n in [0, 1, PART, 2 * PART + 1, 7] {
            let mut piece = Bytes::from(vec![0; n]);
            while let Some(full) = part.fill(&mut piece) {
                sizes.push(full.content_length());
            }
            assert!(piece.is_empty());
        }
        assert_eq!(sizes, [PART; 3]);
        assert_eq!(part.take().content_length(), 9);
        assert_eq!(part.take().content_length(), 0);
    }
}
