//! A file out of a sandbox: streamed, and into a local file by way of a temporary one beside it.

use std::path::{Path, PathBuf};

use anyhow::Context;
use futures_util::StreamExt;
use reqwest::Method;
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt;

use super::{files, progress::Progress};
use crate::cli::{Failure, client::Client, failure::Form};

/// Prints a file to standard output.
pub(super) async fn print(client: &Client, sandbox: &str, path: &str) -> Result<(), Failure> {
    let mut stdout = tokio::io::stdout();
    let (mut bytes, _) = open(client, sandbox, path).await?;
    while let Some(chunk) = bytes.next().await {
        stdout.write_all(&chunk.map_err(cut_off)?).await?;
    }
    Ok(stdout.flush().await?)
}

/// Where a file of the sandbox goes.
pub(super) fn target(path: &str, local: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let named = || match name {
        "" | "." | ".." => Err(Failure::Argument("path: this is the path of no file".to_owned())),
        name => Ok(name),
    };
    match local {
        None => Ok(PathBuf::from(named()?)),
        Some(folder) if folder.is_dir() => Ok(folder.join(named()?)),
        Some(file) => Ok(file),
    }
}

/// Gets a file and returns how many bytes it has.
pub(super) async fn file(
    client: &Client,
    sandbox: &str,
    path: &str,
    local: &Path,
    form: Form,
) -> Result<u64, Failure> {
    let at = || format!("writing {}", local.display());
    let folder = local.parent().filter(|folder| !folder.as_os_str().is_empty());
    let (mut bytes, n_bytes) = open(client, sandbox, path).await?;
    // It goes with this future, should that be dropped.
    let temporary = temporary(folder.unwrap_or_else(|| Path::new("."))).with_context(at)?;
    let file = temporary.reopen().with_context(at)?;
    let mut file = tokio::fs::File::from_std(file);
    let (progress, mut n_written) = (Progress::of(path, n_bytes, form), 0_u64);
    while let Some(chunk) = bytes.next().await {
        let chunk = chunk.map_err(cut_off)?;
        file.write_all(&chunk).await.with_context(at)?;
        progress.add(chunk.len());
        n_written += u64::try_from(chunk.len()).unwrap_or(0);
    }
    if n_bytes.is_some_and(|n_bytes| n_bytes != n_written) {
        let text = format!("{path} ended after {n_written} bytes");
        return Err(Failure::Undone(anyhow::Error::msg(text)));
    }
    file.sync_all().await.with_context(at)?;
    temporary.persist(local).map_err(|error| error.error).with_context(at)?;
    Ok(n_written)
}

/// A file with the rights of any new file, not those of a secret one.
fn temporary(folder: &Path) -> std::io::Result<NamedTempFile> {
    use std::os::unix::fs::PermissionsExt;
    let rights = std::fs::Permissions::from_mode(0o666);
    tempfile::Builder::new().prefix(".crownest-").permissions(rights).tempfile_in(folder)
}

type Chunks = futures_util::stream::BoxStream<'static, reqwest::Result<bytes::Bytes>>;

async fn open(
    client: &Client,
    sandbox: &str,
    path: &str,
) -> Result<(Chunks, Option<u64>), Failure> {
    let call = client.call(Method::GET, &format!("{}/download", files(sandbox)));
    let response = call.query("path", path).open().await?;
    let n_bytes = response.content_length();
    Ok((response.bytes_stream().boxed(), n_bytes))
}

fn cut_off(error: reqwest::Error) -> Failure {
    Failure::Undone(anyhow::Error::new(error.without_url()).context("the download broke off"))
}
