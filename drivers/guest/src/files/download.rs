//! Sends an opened file in chunks, each read where it may block.

use std::io::Read as _;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use protocol::{ReadChunk, read_chunk::Part};
use tonic::Status;

use super::{blocking, read::Opened};

const CHUNK: u64 = 256 << 10;

/// The file's stat, then its bytes: as many as it had when it was opened, fewer if it was cut since.
pub fn chunks(opened: Opened) -> impl Stream<Item = Result<ReadChunk, Status>> {
    let Opened { stat, file } = opened;
    let left = stat.size_bytes;
    let head = ReadChunk { part: Some(Part::Stat(stat)) };
    let rest = stream::try_unfold((file, left), |(file, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let (data, file) = blocking(move || {
            let mut data = Vec::new();
            (&file).take(left.min(CHUNK)).read_to_end(&mut data)?;
            Ok((data, file))
        })
        .await?;
        if data.is_empty() {
            return Ok(None);
        }
        let left = left.saturating_sub(data.len() as u64);
        Ok(Some((ReadChunk { part: Some(Part::Data(Bytes::from(data))) }, (file, left))))
    });
    stream::iter([Ok(head)]).chain(rest)
}
