//! A file into a sandbox. The API takes 256 KiB at a time, so a larger one goes in parts to a folder
//! of its own, where `join.sh` makes one of them and checks it; then it moves to its place. Whatever
//! happens before leaves no trace at that place, and the folder is removed.

use std::{collections::BTreeMap, path::Path};

use anyhow::Context;
use base64::{Engine, prelude::BASE64_STANDARD};
use futures_util::{StreamExt, stream::FuturesUnordered};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt};
use uuid::Uuid;

use super::{files, progress::Progress, rename};
use crate::cli::{
    Failure,
    client::{Client, Follow, Happening},
    command::{self, Start},
    failure::Form,
    interrupts::Interrupts,
    output,
};

/// What the API takes at a time.
const PART: usize = 256 << 10;
/// Parts on their way at a time.
const IN_FLIGHT: usize = 4;
/// Joins the parts.
const JOIN: &str = include_str!("join.sh");

/// Where a file is to go, and what may happen there.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Upload {
    sandbox: String,
    path: String,
    overwrite: bool,
    parents: bool,
}

impl Upload {
    /// To this path; what is there is replaced, and its folder must be there.
    pub fn to(sandbox: &str, path: &str) -> Self {
        let (sandbox, path) = (sandbox.to_owned(), path.to_owned());
        Self { sandbox, path, overwrite: true, parents: false }
    }

    /// Makes missing folders.
    pub fn with_parents(self) -> Self {
        Self { parents: true, ..self }
    }

    /// Refuses to replace anything.
    pub fn without_replacing(self) -> Self {
        Self { overwrite: false, ..self }
    }
}

/// Puts a local file, or standard input for `-`, and returns what the sandbox says of it.
pub(in crate::cli) async fn file(
    client: &Client,
    upload: &Upload,
    local: &Path,
    form: Form,
    interrupts: &mut Interrupts,
) -> Result<Value, Failure> {
    if local == Path::new("-") {
        let progress = Progress::of(&upload.path, None, form);
        return bytes(client, upload, tokio::io::stdin(), &progress, interrupts).await;
    }
    let at = || format!("reading {}", local.display());
    let file = tokio::fs::File::open(local).await.with_context(at)?;
    let about = file.metadata().await.with_context(at)?;
    if about.is_dir() {
        let text = format!("local: {} is a folder; see `tar` in the examples", local.display());
        return Err(Failure::Argument(text));
    }
    let n_bytes = Some(about.len()).filter(|_| about.is_file());
    let progress = Progress::of(&upload.path, n_bytes, form);
    bytes(client, upload, file, &progress, interrupts).await
}

async fn bytes(
    client: &Client,
    upload: &Upload,
    mut source: impl AsyncRead + Unpin,
    progress: &Progress,
    interrupts: &mut Interrupts,
) -> Result<Value, Failure> {
    let first = interrupts.cut(part(&mut source)).await?;
    let second = match first.len() {
        PART => interrupts.cut(part(&mut source)).await?,
        _ => Vec::new(),
    };
    if second.is_empty() {
        let done = interrupts.cut(whole(client, upload, &first)).await?;
        progress.add(first.len());
        return Ok(done);
    }
    let parts = Parts::new(client, upload);
    let sent = interrupts.cut(parts.send([first, second], source, progress)).await;
    if sent.is_err() {
        // A second signal leaves the folder to the sandbox's end.
        let _ = interrupts.cut(parts.remove()).await;
    }
    sent
}

/// The next part; shorter than others at the end, and empty after it.
async fn part(source: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, Failure> {
    let mut part = Vec::with_capacity(PART);
    let limit = u64::try_from(PART).unwrap_or(u64::MAX);
    source.take(limit).read_to_end(&mut part).await.context("reading the file")?;
    Ok(part)
}

/// Writes a file that fits into one request.
async fn whole(client: &Client, upload: &Upload, content: &[u8]) -> Result<Value, Failure> {
    let body = json!({
        "path": upload.path,
        "content": BASE64_STANDARD.encode(content),
        "encoding": "base64",
        "overwrite": upload.overwrite,
        "createParents": upload.parents,
    });
    let call = client.call(Method::PUT, &files(&upload.sandbox)).body(body);
    // Where nothing may be replaced, a second time would be refused because of the first.
    let call = if upload.overwrite { call } else { call.unrepeatable() };
    Ok(call.json().await?["file"].take())
}

/// The parts of one file on their way.
struct Parts<'c> {
    client: &'c Client,
    upload: &'c Upload,
    folder: String,
}

impl<'c> Parts<'c> {
    fn new(client: &'c Client, upload: &'c Upload) -> Self {
        let folder = format!("/workspace/.crownest-upload-{}", Uuid::new_v4().simple());
        Self { client, upload, folder }
    }

    async fn send(
        &self,
        begun: [Vec<u8>; 2],
        mut source: impl AsyncRead + Unpin,
        progress: &Progress,
    ) -> Result<Value, Failure> {
        self.check_target().await?;
        let (mut sum, mut n, mut begun) = (Sha256::new(), 0_u32, begun.into_iter());
        let mut on_the_way = FuturesUnordered::new();
        loop {
            let next = match begun.next() {
                Some(next) => next,
                None => part(&mut source).await?,
            };
            if next.is_empty() {
                break;
            }
            sum.update(&next);
            // Ten digits: the shell's order of names is that of numbers.
            let to = Upload::to(&self.upload.sandbox, &format!("{}/part-{n:010}", self.folder));
            let to = to.with_parents();
            on_the_way
                .push(async move { whole(self.client, &to, &next).await.map(|_| next.len()) });
            n += 1;
            if on_the_way.len() >= IN_FLIGHT
                && let Some(sent) = on_the_way.next().await
            {
                progress.add(sent?);
            }
        }
        while let Some(sent) = on_the_way.next().await {
            progress.add(sent?);
        }
        self.join(&hex::encode(sum.finalize())).await?;
        let (from, to) = (format!("{}/whole", self.folder), &self.upload.path);
        let body = json!({ "from": from, "to": to, "overwrite": self.upload.overwrite });
        let file = rename(self.client, &self.upload.sandbox, body).await?;
        super::remove(self.client, &self.upload.sandbox, &self.folder).await?;
        Ok(file)
    }

    /// What would be refused at the end is refused before anything is sent.
    async fn check_target(&self) -> Result<(), Failure> {
        let path = &self.upload.path;
        let folder = path.trim_end_matches('/').rsplit_once('/').map_or("", |(folder, _)| folder);
        if !folder.is_empty() && self.upload.parents {
            let body = json!({ "path": folder, "parents": true });
            let url = format!("{}/mkdir", files(&self.upload.sandbox));
            self.client.call(Method::POST, &url).body(body).repeatable().json().await?;
        } else if !folder.is_empty() {
            self.stat(folder).await?;
        }
        let seen = self.stat(path).await;
        let refused = |text: &str| Err(Failure::Argument(format!("remote: {text}")));
        match seen {
            Ok(seen) if seen["type"] == "directory" => refused("a folder is there"),
            Ok(_) if !self.upload.overwrite => refused("there is something already"),
            Ok(_) => Ok(()),
            Err(Failure::Refused(refusal)) if refusal.code == "file_not_found" => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    async fn stat(&self, path: &str) -> Result<Value, Failure> {
        let url = format!("{}/stat", files(&self.upload.sandbox));
        Ok(self.client.call(Method::GET, &url).query("path", path).json().await?["file"].take())
    }

    async fn join(&self, sum: &str) -> Result<(), Failure> {
        let env = [("PARTS", self.folder.as_str()), ("SUM", sum)];
        let code = self.shell(JOIN, &env).await?;
        if code == Some(0) {
            return Ok(());
        }
        let code = code.map_or_else(|| "no exit code".to_owned(), |code| code.to_string());
        let text = format!("the parts could not be joined in the sandbox (exit code {code})");
        Err(Failure::Undone(anyhow::Error::msg(text)))
    }

    /// Removes the folder with all that is in it.
    async fn remove(&self) -> Result<(), Failure> {
        self.shell("rm -rf -- \"$PARTS\"", &[("PARTS", &self.folder)]).await.map(drop)
    }

    async fn shell(&self, script: &str, env: &[(&str, &str)]) -> Result<Option<i64>, Failure> {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let env: BTreeMap<_, _> = env.collect();
        let start = Start { command: script.to_owned(), env, ..Start::default() };
        let id = command::start(self.client, &self.upload.sandbox, &start).await?;
        let mut follow = Follow::new(self.client, &id);
        loop {
            if let Happening::Over(command) = follow.next().await? {
                let exited = output::text(&command, "status") == "exited";
                return Ok(command["exitCode"].as_i64().filter(|_| exited));
            }
        }
    }
}
