//! Files on the wire (contract, section 12). Paths go to the use cases as they came.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use poem_openapi::{
    Enum, Object, OpenApi,
    param::Path,
    registry::MetaSchema,
    types::{ParseFromJSON, ParseResult, ToJSON},
};
use serde::Deserialize;
use serde_json::Value;

use chrono::{DateTime, Utc};
use domain::{Code, Refused, id::SandboxId, path::WORKSPACE};
use drivers::guest::{Existing, FileKind, FileStat, Parents};

use super::{
    Tag,
    commands::logs::Get,
    error::ApiError,
    extract::{Access, Auth, BaseUrl, JsonBody, Param, Query},
    responses::{Download, Json},
    wire::{Wire, inline_type},
};
use crate::{
    app::files::{self, FileAccess},
    http::context::Context,
};

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
enum AuthMode {
    ApiKey,
}

/// How the bytes of a file are written as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Utf8,
    Base64,
}

const ENCODINGS: [(&str, Encoding); 2] = [("utf8", Encoding::Utf8), ("base64", Encoding::Base64)];

impl Encoding {
    fn schema() -> MetaSchema {
        let words = ENCODINGS.map(|(word, _)| Value::from(word)).into();
        MetaSchema { enum_items: words, ..MetaSchema::new("string") }
    }

    fn decode(self, content: String) -> Result<Bytes, Refused> {
        match self {
            Self::Utf8 => Ok(content.into()),
            Self::Base64 => BASE64_STANDARD.decode(content).map(Bytes::from).map_err(|_| {
                let text = "content must be base64 of the standard alphabet with padding";
                Refused::field(Code::InvalidFileEncoding, "content", text)
            }),
        }
    }

    fn encode(self, content: Bytes) -> Result<String, Refused> {
        match self {
            Self::Utf8 => String::from_utf8(content.into()).map_err(|_| {
                let text = "the file is not UTF-8; read it with encoding=base64";
                Refused::field(Code::InvalidFileEncoding, "encoding", text)
            }),
            Self::Base64 => Ok(BASE64_STANDARD.encode(content)),
        }
    }
}

impl Param for Encoding {
    const REQUIRED: bool = false;
    fn schema() -> MetaSchema {
        MetaSchema { default: Some("utf8".into()), ..Self::schema() }
    }
    fn read(name: &str, text: &str) -> Result<Self, Refused> {
        let found = ENCODINGS.into_iter().find(|(word, _)| *word == text);
        found.map(|(_, encoding)| encoding).ok_or_else(|| {
            let text = format!("{name} must be utf8 or base64");
            Refused::field(Code::InvalidFileEncoding, name, text)
        })
    }
    fn absent(_: &str) -> Result<Self, Refused> {
        Ok(Self::Utf8)
    }
}

inline_type!([] Encoding, "encoding", Self::schema());

impl ToJSON for Encoding {
    fn to_json(&self) -> Option<Value> {
        ENCODINGS.iter().find(|(_, encoding)| encoding == self).map(|(word, _)| (*word).into())
    }
}
impl ParseFromJSON for Encoding {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        let text = value.as_ref().and_then(Value::as_str).unwrap_or_default();
        Ok(Self::read("encoding", text)?)
    }
}

/// What to write where.
#[derive(Debug, Object, Deserialize)]
#[oai(rename = "WriteFileBody", rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
struct WriteFile {
    /// Absolute below `/workspace`, or relative to it.
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
    path: String,
    /// Whether to make missing directories on the way, and to be content with one that is there.
    parents: Option<bool>,
}

/// What to move where.
#[derive(Debug, Object, Deserialize)]
#[oai(rename = "MoveFileBody")]
struct MoveFile {
    from: String,
    to: String,
    /// Whether to replace a file that is there.
    overwrite: Option<bool>,
}

/// The file that a link is to lead to.
#[derive(Debug, Object, Deserialize)]
#[oai(rename = "FileDownloadUrlBody")]
struct CreateUrl {
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
        Ok(Download::new(stat, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents() {
        let code = |result: Result<Bytes, Refused>| result.map_err(|refused| refused.code);
        let base64 = |text: &str| code(Encoding::Base64.decode(text.to_owned()));
        assert_eq!(base64("AP8="), Ok(Bytes::from_static(&[0, 255])));
        assert_eq!(base64(""), Ok(Bytes::new()));
        for (text, why) in [
            ("AP8", "no padding"),
            ("A_8=", "the other alphabet"),
            ("AP8=\n", "white space"),
            ("AP9=", "bits after the end"),
        ] {
            assert_eq!(base64(text), Err(Code::InvalidFileEncoding), "{why}");
        }
        let bytes = Bytes::from_static(&[0, 255]);
        assert_eq!(Encoding::Base64.encode(bytes.clone()).unwrap(), "AP8=");
        assert_eq!(Encoding::Utf8.encode(bytes).unwrap_err().code, Code::InvalidFileEncoding);
        assert_eq!(
            Encoding::read("encoding", "latin1").unwrap_err().code,
            Code::InvalidFileEncoding
        );
    }
}
