//! Files: look, read, write, change. Translates between the wire and plain types.

use std::{error::Error, pin::pin};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};
use protocol::{
    FileStat as WireStat, FileType, MakeDirectoryRequest, MoveRequest, PathRequest, ReadChunk,
    ReadRequest, WORKSPACE, WriteChunk, WriteCommit, WriteOpen, read_chunk, write_chunk::Part,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{
    CALL_DEADLINE, Existing, FileKind, FileStat, Guest, GuestError, GuestErrorKind, IDLE_DEADLINE,
    Parents, WHOLE_DEADLINE, WriteOptions, commands::instant, within,
};

/// The bytes of a file; each piece comes within [`IDLE_DEADLINE`].
pub type ByteStream = BoxStream<'static, Result<Bytes, GuestError>>;

/// The largest piece of an upload.
const CHUNK: usize = 256 << 10;
/// The largest listing: the agent's limit of 2 MiB is of names and a guess at the rest.
const MAX_LISTING: usize = 3 << 20;
const MAX_ENTRIES: usize = 10_000;

impl Guest {
    /// Lists a directory, sorted by name.
    ///
    /// # Errors
    /// Refused for the reasons of paths, and `too_many_entries`.
    pub async fn list_directory(&self, path: &str) -> Result<Vec<FileStat>, GuestError> {
        let call = PathRequest { path: path.to_owned() };
        let mut client = self.client.clone().max_decoding_message_size(MAX_LISTING);
        let answer = within(CALL_DEADLINE, client.list_directory(call)).await?;
        if answer.entries.len() > MAX_ENTRIES {
            return Err(GuestError::protocol("more entries than the protocol allows"));
        }
        let directory = normal(path);
        answer.entries.into_iter().map(|entry| read_entry(&directory, entry)).collect()
    }

    /// Describes a file or directory.
    ///
    /// # Errors
    /// Refused for the reasons of paths.
    pub async fn stat(&self, path: &str) -> Result<FileStat, GuestError> {
        let call = PathRequest { path: path.to_owned() };
        read_stat(within(CALL_DEADLINE, self.client.clone().stat(call)).await?)
    }

    /// Reads a file; more than `max_bytes` is refused before any byte.
    ///
    /// # Errors
    /// Refused for the reasons of paths, and `file_too_large`.
    pub async fn read(
        &self,
        path: &str,
        max_bytes: Option<u64>,
    ) -> Result<(FileStat, ByteStream), GuestError> {
        let call = ReadRequest { path: path.to_owned(), max_bytes: limit(max_bytes) };
        let mut chunks = within(CALL_DEADLINE, self.client.clone().read(call)).await?;
        let Some(read_chunk::Part::Stat(stat)) = next_part(&mut chunks).await? else {
            return Err(GuestError::protocol("a file without its stat"));
        };
        let pieces = stream::try_unfold(chunks, |mut chunks| async move {
            match next_part(&mut chunks).await? {
                Some(read_chunk::Part::Data(data)) => Ok(Some((data, chunks))),
                Some(read_chunk::Part::Stat(_)) => Err(GuestError::protocol("a second stat")),
                None => Ok(None),
            }
        });
        Ok((read_stat(stat)?, pieces.boxed()))
    }

    /// Reads a whole file of at most `max_bytes` into memory.
    ///
    /// # Errors
    /// As [`Guest::read`].
    pub async fn read_whole(
        &self,
        path: &str,
        max_bytes: u64,
    ) -> Result<(FileStat, Bytes), GuestError> {
        let (stat, pieces) = self.read(path, Some(max_bytes)).await?;
        let whole = timeout(WHOLE_DEADLINE, collect(pieces, limit(Some(max_bytes)))).await;
        Ok((stat, whole.map_err(|_| GuestError::timed_out())??))
    }

    /// Writes a file from a stream of bytes. It appears whole, or not at all: also when the stream
    /// fails, and when this future is dropped.
    ///
    /// # Errors
    /// Refused for the reasons of paths, `file_too_large` and `no_space`; `Source` when `bytes` fails
    /// or brings nothing for [`IDLE_DEADLINE`].
    pub async fn write<E>(
        &self,
        path: &str,
        options: WriteOptions,
        bytes: impl Stream<Item = Result<Bytes, E>> + Send,
    ) -> Result<FileStat, GuestError>
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let open = Part::Open(WriteOpen {
            path: path.to_owned(),
            overwrite: options.existing == Existing::Replace,
            create_parents: options.parents == Parents::Make,
            max_bytes: limit(options.max_bytes),
        });
        let (chunks, to_agent) = mpsc::channel(1);
        let mut client = self.client.clone();
        let mut call = pin!(client.write(ReceiverStream::new(to_agent)));
        // A refusal comes while the bytes are still on their way, and ends the call at once.
        tokio::select! {
            biased;
            answer = &mut call => return read_stat(answer?.into_inner()),
            fed = feed(&chunks, open, bytes) => fed?,
        }
        drop(chunks);
        read_stat(within(IDLE_DEADLINE, call).await?)
    }

    /// Writes a whole file from memory.
    ///
    /// # Errors
    /// As [`Guest::write`].
    pub async fn write_whole(
        &self,
        path: &str,
        options: WriteOptions,
        bytes: Bytes,
    ) -> Result<FileStat, GuestError> {
        let whole = stream::iter([Ok::<_, GuestError>(bytes)]);
        self.write(path, options, whole).await
    }

    /// Removes a file, a link or an empty directory.
    ///
    /// # Errors
    /// Refused for the reasons of paths, `directory_not_empty` and `workspace_root`.
    pub async fn delete(&self, path: &str) -> Result<(), GuestError> {
        let call = PathRequest { path: path.to_owned() };
        within(CALL_DEADLINE, self.client.clone().delete(call)).await.map(drop)
    }

    /// Makes a directory; with [`Parents::Make`] an existing one is fine.
    ///
    /// # Errors
    /// Refused for the reasons of paths, and `already_exists`.
    pub async fn make_directory(
        &self,
        path: &str,
        parents: Parents,
    ) -> Result<FileStat, GuestError> {
        let parents = parents == Parents::Make;
        let call = MakeDirectoryRequest { path: path.to_owned(), parents };
        read_stat(within(CALL_DEADLINE, self.client.clone().make_directory(call)).await?)
    }

    /// Renames a file or directory; the answer describes the target.
    ///
    /// # Errors
    /// Refused for the reasons of paths, `already_exists` and `workspace_root`.
    pub async fn rename(
        &self,
        from: &str,
        to: &str,
        existing: Existing,
    ) -> Result<FileStat, GuestError> {
        let overwrite = existing == Existing::Replace;
        let call = MoveRequest { from: from.to_owned(), to: to.to_owned(), overwrite };
        read_stat(within(CALL_DEADLINE, self.client.clone().r#move(call)).await?)
    }
}

/// Puts a file together. The agent has promised to keep the limit, which is not relied on.
async fn collect(mut pieces: ByteStream, max_bytes: u64) -> Result<Bytes, GuestError> {
    let mut whole = BytesMut::new();
    while let Some(piece) = pieces.try_next().await? {
        let n_bytes = (whole.len() as u64).saturating_add(piece.len() as u64);
        if n_bytes > max_bytes {
            return Err(GuestError::protocol("more bytes than asked for"));
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

/// Sends the bytes in pieces, and the commit. `Err` gives the upload up.
async fn feed<E>(
    chunks: &mpsc::Sender<WriteChunk>,
    open: Part,
    bytes: impl Stream<Item = Result<Bytes, E>>,
) -> Result<(), GuestError>
where
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let failed = |source| GuestError::new(GuestErrorKind::Source, source);
    let mut bytes = pin!(bytes);
    send(chunks, open).await?;
    loop {
        let next = timeout(IDLE_DEADLINE, bytes.next()).await;
        let Some(piece) = next.map_err(|_| failed("the bytes stalled".into()))? else { break };
        let mut piece = piece.map_err(|error| failed(error.into()))?;
        while !piece.is_empty() {
            let chunk = piece.split_to(piece.len().min(CHUNK));
            send(chunks, Part::Data(chunk)).await?;
        }
    }
    send(chunks, Part::Commit(WriteCommit {})).await
}

async fn send(chunks: &mpsc::Sender<WriteChunk>, part: Part) -> Result<(), GuestError> {
    let chunk = WriteChunk { part: Some(part) };
    match timeout(IDLE_DEADLINE, chunks.send(chunk)).await {
        Ok(Ok(())) => Ok(()),
        // The call is over; its answer says why, and is waited for beside this.
        Ok(Err(_)) => std::future::pending().await,
        Err(_) => Err(GuestError::timed_out()),
    }
}

async fn next_part(
    chunks: &mut Streaming<ReadChunk>,
) -> Result<Option<read_chunk::Part>, GuestError> {
    match timeout(IDLE_DEADLINE, chunks.message()).await {
        Ok(Ok(Some(ReadChunk { part: Some(part) }))) => Ok(Some(part)),
        Ok(Ok(Some(ReadChunk { part: None }))) => Err(GuestError::protocol("an empty chunk")),
        Ok(Ok(None)) => Ok(None),
        Ok(Err(status)) => Err(status.into()),
        Err(_) => Err(GuestError::timed_out()),
    }
}

/// On the wire 0 is no limit, so the smallest limit is one byte.
fn limit(max_bytes: Option<u64>) -> u64 {
    max_bytes.map_or(0, |max_bytes| max_bytes.max(1))
}

fn read_stat(stat: WireStat) -> Result<FileStat, GuestError> {
    let kind = match stat.r#type() {
        FileType::File => FileKind::File,
        FileType::Directory => FileKind::Directory,
        FileType::Unspecified => return Err(GuestError::protocol("a stat of no type")),
    };
    let modified_at = instant(stat.modified_at_unix_micros);
    let WireStat { path, name, size_bytes, .. } = stat;
    Ok(FileStat { path, name, kind, size_bytes, modified_at })
}

/// Reads an entry of a directory. Its path is made here: listings do not carry it.
fn read_entry(directory: &str, entry: WireStat) -> Result<FileStat, GuestError> {
    if entry.name.is_empty() || entry.name.contains('/') {
        return Err(GuestError::protocol("an entry whose name is none"));
    }
    let path = format!("{directory}/{}", entry.name);
    read_stat(WireStat { path, ..entry })
}

/// The path of a directory as the agent would write it. The agent has accepted it, so that it lies
/// below the workspace.
fn normal(path: &str) -> String {
    let mut names = Vec::new();
    let start = if path.starts_with('/') { "" } else { WORKSPACE };
    for name in start.split('/').chain(path.split('/')) {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            _ => names.push(name),
        }
    }
    format!("/{}", names.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_directories_become_normal() {
        for (path, wanted) in [
            ("/workspace", "/workspace"),
            (".", "/workspace"),
            ("a//b/", "/workspace/a/b"),
            ("a/../b", "/workspace/b"),
            ("/workspace/../workspace/./a", "/workspace/a"),
        ] {
            assert_eq!(normal(path), wanted, "{path}");
        }
    }

    #[test]
    fn entries_are_not_trusted() {
        let entry = |name: &str| WireStat {
            path: "/etc/passwd".into(),
            name: name.into(),
            r#type: FileType::File.into(),
            size_bytes: 1,
            modified_at_unix_micros: i64::MAX,
        };
        let read = read_entry("/workspace/a", entry("b")).unwrap();
        assert_eq!(read.path, "/workspace/a/b");
        assert_eq!(read.modified_at.to_rfc3339(), "9999-12-31T23:59:59.999999+00:00");
        for name in ["", "b/c", "/b"] {
            assert!(read_entry("/workspace/a", entry(name)).is_err(), "{name}");
        }
    }

    #[tokio::test]
    async fn a_file_is_no_larger_than_asked_for() {
        for (sizes, fits) in [(vec![], true), (vec![4, 4], true), (vec![4, 5], false)] {
            let pieces = sizes.clone().into_iter().map(|n| Ok(Bytes::from(vec![0; n])));
            // Endless after the pieces, so that only the limit can end what is too large.
            let pieces: ByteStream = if fits {
                stream::iter(pieces).boxed()
            } else {
                stream::iter(pieces.collect::<Vec<_>>()).chain(stream::pending()).boxed()
            };
            assert_eq!(collect(pieces, 8).await.is_ok(), fits, "{sizes:?}");
        }
    }
}
