//! Files on the wire (contract, section 12). Paths go to the use cases as they came.

mod encoding;

use poem_openapi::{Enum, Object, OpenApi, param::Path};
use serde::Deserialize;

use chrono::{DateTime, Utc};
use domain::{id::SandboxId, path::WORKSPACE};
use drivers::guest::{Existing, FileKind, FileStat, Parents};

use super::{
    Tag,
    commands::logs::Get,
    error::ApiError,
    extract::{Access, Auth, BaseUrl, JsonBody, Param, Query},
    responses::{Download, Json},
    wire::Wire,
};
use crate::{
    app::files::{self, FileAccess},
    http::context::Context,
};
use encoding::Encoding;

const fn existing(overwrite: bool) -> Existing {
    if overwrite { Existing::Replace } else { Existing::Refuse }
}

const fn missing(create: bool) -> Parents {
    if create { Parents::Make } else { Parents::Require }
}

/// A file or a directory.
#[derive(Debug, Enum)]
#[oai(rename = "FileType", rename_all = "snake_case")]
enum FileTypeView {
    File,
    Directory,
}

impl From<FileKind> for FileTypeView {
    fn from(kind: FileKind) -> Self {
        match kind {
            FileKind::File => Self::File,
            FileKind::Directory => Self::Directory,
        }
    }
}

/// A file or directory.
#[derive(Debug, Object)]
#[oai(rename = "FileStat", rename_all = "camelCase")]
struct FileStatView {
    /// Absolute.
    path: String,
    #[oai(rename = "type")]
    kind: FileTypeView,
    /// 0 for a directory.
    size_bytes: u64,
    modified_at: Wire<DateTime<Utc>>,
}

impl From<&FileStat> for FileStatView {
    fn from(stat: &FileStat) -> Self {
        Self {
            path: stat.path.clone(),
            kind: stat.kind.into(),
            size_bytes: stat.size_bytes,
            modified_at: Wire(stat.modified_at),
        }
    }
}

/// A file or directory in a listing.
#[derive(Debug, Object)]
#[oai(rename = "FileEntry", rename_all = "camelCase")]
struct FileEntryView {
    /// The last part of the path.
    name: String,
    /// Absolute.
    path: String,
    #[oai(rename = "type")]
    kind: FileTypeView,
    /// 0 for a directory.
    size_bytes: u64,
    modified_at: Wire<DateTime<Utc>>,
}

impl From<&FileStat> for FileEntryView {
    fn from(stat: &FileStat) -> Self {
        let FileStatView { path, kind, size_bytes, modified_at } = stat.into();
        Self { name: stat.name.clone(), path, kind, size_bytes, modified_at }
    }
}

/// A listing, sorted by name.
#[derive(Debug, Object)]
struct FileList {
    data: Vec<FileEntryView>,
}

/// One file or directory.
#[derive(Debug, Object)]
struct FileResponse {
    file: FileStatView,
}

impl From<&FileStat> for FileResponse {
    fn from(stat: &FileStat) -> Self {
        Self { file: stat.into() }
    }
}

/// A file's content.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ReadFileResponse {
    content: String,
    encoding: Encoding,
    path: String,
    size_bytes: u64,
}

/// What became of a file that was to go.
#[derive(Debug, Object)]
struct DeleteFileResponse {
    deleted: bool,
}

/// A link to a file that also works without a credential until it expires.
#[derive(Debug, Object)]
#[oai(rename = "FileDownloadUrl", rename_all = "camelCase")]
struct FileUrlView {
    url: String,
    method: Get,
    auth_mode: AuthMode,
    expires_at: Wire<DateTime<Utc>>,
}

/// What a link asks for once it has expired.
#[derive(Debug, Enum)]
#[oai(rename = "DownloadAuthMode", rename_all = "snake_case")]
pub(super) enum AuthMode {
    ApiKey,
}

/// What to write where.
#[derive(Debug, Object, Deserialize)]
#[oai(rename = "WriteFileBody", rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
struct WriteFile {
    /// Absolute below `/workspace`, or relative to it.
    #[oai(validator(min_length = 1, max_length = 4096))]
    path: String,
    /// At most 262144 bytes once decoded.
    content: String,
    /// `utf8`, the default, or `base64`.
    encoding: Option<String>,
    /// Whether to replace a file that is there, which is the default.
    overwrite: Option<bool>,
    /// Whether to make missing directories.
    create_parents: Option<bool>,
}

/// A directory to make.
#[derive(Debug, Object, Deserialize)]
#[oai(rename = "MkdirBody")]
struct MakeDirectory {
    #[oai(validator(min_length = 1, max_length = 4096))]
    path: String,
    /// Whether to make missing directories on the way, and to be content with one that is there.
    parents: Option<bool>,
}

/// What to move where.
#[derive(Debug, Object, Deserialize)]
#[oai(rename = "MoveFileBody")]
struct MoveFile {
    #[oai(validator(min_length = 1, max_length = 4096))]
    from: String,
    #[oai(validator(min_length = 1, max_length = 4096))]
    to: String,
    /// Whether to replace a file that is there.
    overwrite: Option<bool>,
}

/// The file that a link is to lead to.
#[derive(Debug, Object, Deserialize)]
#[oai(rename = "FileDownloadUrlBody")]
struct CreateUrl {
    #[oai(validator(min_length = 1, max_length = 4096))]
    path: String,
}

/// The routes of files.
#[derive(Debug)]
pub struct Files;

#[OpenApi(prefix_path = "/v1", tag = "Tag::Files")]
impl Files {
    /// List a directory, sorted by name.
    #[oai(path = "/sandboxes/:sandboxId/files", method = "get", operation_id = "listFiles")]
    async fn list(
        &self,
        caller: Auth,
        #[oai(name = "sandboxId")] id: Path<Wire<SandboxId>>,
        /// The directory; `/workspace` if absent.
        path: Query<Option<String>>,
    ) -> Result<Json<FileList>, ApiError> {
        let path = path.0.as_deref().unwrap_or(WORKSPACE);
        let entries = files::list(caller.app(), &caller, id.0.0, path).await?;
        Ok(Json(FileList { data: entries.iter().map(FileEntryView::from).collect() }))
    }

    /// Describe a file or directory.
    #[oai(path = "/sandboxes/:sandboxId/files/stat", method = "get", operation_id = "statFile")]
    async fn stat(
        &self,
        caller: Auth,
        #[oai(name = "sandboxId")] id: Path<Wire<SandboxId>>,
        path: Query<String>,
    ) -> Result<Json<FileResponse>, ApiError> {
        let stat = files::stat(caller.app(), &caller, id.0.0, &path.0).await?;
        Ok(Json((&stat).into()))
    }

    /// Read a file of at most 262144 bytes.
    #[oai(path = "/sandboxes/:sandboxId/files/read", method = "get", operation_id = "readFile")]
    async fn read(
        &self,
        caller: Auth,
        #[oai(name = "sandboxId")] id: Path<Wire<SandboxId>>,
        path: Query<String>,
        encoding: Query<Encoding>,
    ) -> Result<Json<ReadFileResponse>, ApiError> {
        let (stat, bytes) = files::read(caller.app(), &caller, id.0.0, &path.0).await?;
        let (content, encoding) = (encoding.0.encode(bytes)?, encoding.0);
        let FileStat { path, size_bytes, .. } = stat;
        Ok(Json(ReadFileResponse { content, encoding, path, size_bytes }))
    }

    /// Write a file; it appears whole or not at all.
    #[oai(path = "/sandboxes/:sandboxId/files", method = "put", operation_id = "writeFile")]
    async fn write(
        &self,
        caller: Auth,
        #[oai(name = "sandboxId")] id: Path<Wire<SandboxId>>,
        body: JsonBody<WriteFile>,
    ) -> Result<Json<FileResponse>, ApiError> {
        let WriteFile { path, content, encoding, overwrite, create_parents } = body.value;
        let encoding =
            encoding.map_or(Ok(Encoding::Utf8), |word| Encoding::read("encoding", &word))?;
        let (bytes, overwrite) = (encoding.decode(content)?, existing(overwrite.unwrap_or(true)));
        let parents = missing(create_parents.unwrap_or(false));
        let (app, id) = (caller.app(), id.0.0);
        let stat = files::write(app, &caller, id, &path, bytes, overwrite, parents).await?;
        Ok(Json((&stat).into()))
    }

    /// Delete a file or an empty directory.
    #[oai(path = "/sandboxes/:sandboxId/files", method = "delete", operation_id = "deleteFile")]
    async fn delete(
        &self,
        caller: Auth,
        #[oai(name = "sandboxId")] id: Path<Wire<SandboxId>>,
        path: Query<String>,
    ) -> Result<Json<DeleteFileResponse>, ApiError> {
        files::delete(caller.app(), &caller, id.0.0, &path.0).await?;
        Ok(Json(DeleteFileResponse { deleted: true }))
    }

    /// Make a directory.
    #[oai(
        path = "/sandboxes/:sandboxId/files/mkdir",
        method = "post",
        operation_id = "makeDirectory"
    )]
    async fn make_directory(
        &self,
        caller: Auth,
        #[oai(name = "sandboxId")] id: Path<Wire<SandboxId>>,
        body: JsonBody<MakeDirectory>,
    ) -> Result<Json<FileResponse>, ApiError> {
        let MakeDirectory { path, parents } = body.value;
        let (app, parents) = (caller.app(), missing(parents.unwrap_or(false)));
        let stat = files::make_directory(app, &caller, id.0.0, &path, parents).await?;
        Ok(Json((&stat).into()))
    }

    /// Move a file or directory.
    #[oai(path = "/sandboxes/:sandboxId/files/move", method = "post", operation_id = "moveFile")]
    async fn rename(
        &self,
        caller: Auth,
        #[oai(name = "sandboxId")] id: Path<Wire<SandboxId>>,
        body: JsonBody<MoveFile>,
    ) -> Result<Json<FileResponse>, ApiError> {
        let MoveFile { from, to, overwrite } = body.value;
        let (app, overwrite) = (caller.app(), existing(overwrite.unwrap_or(false)));
        let stat = files::rename(app, &caller, id.0.0, &from, &to, overwrite).await?;
        Ok(Json((&stat).into()))
    }

    /// Make a link to a file.
    #[oai(
        path = "/sandboxes/:sandboxId/files/download-url",
        method = "post",
        operation_id = "createFileDownloadUrl"
    )]
    async fn create_download_url(
        &self,
        caller: Auth,
        #[oai(name = "sandboxId")] id: Path<Wire<SandboxId>>,
        base: BaseUrl,
        body: JsonBody<CreateUrl>,
    ) -> Result<Json<FileUrlView>, ApiError> {
        let (app, path) = (caller.app(), &body.value.path);
        let made = files::download_url(app, &caller, id.0.0, path, &base.0).await?;
        let (url, expires_at) = (made.url, Wire(made.expires_at));
        Ok(Json(FileUrlView { url, method: Get::Get, auth_mode: AuthMode::ApiKey, expires_at }))
    }

    /// Download a file of any size, with a key or by a link.
    #[oai(
        path = "/sandboxes/:sandboxId/files/download",
        method = "get",
        operation_id = "downloadFile"
    )]
    async fn download(
        &self,
        access: Access,
        context: Context,
        #[oai(name = "sandboxId")] id: Path<Wire<SandboxId>>,
        path: Query<String>,
        /// The link's.
        #[oai(name = "token")]
        _token: Query<Option<String>>,
    ) -> Result<Download, ApiError> {
        let access = match &access {
            Access::Caller(caller) => FileAccess::Caller(caller),
            Access::Token(token) => FileAccess::Token(token),
        };
        let (stat, bytes) = files::download(context.app(), access, id.0.0, &path.0).await?;
        Ok(Download::new(stat.name, stat.size_bytes, bytes))
    }
}
