//! Artifacts on the wire (contract, section 13).

use poem::http::StatusCode;
use poem_openapi::{Object, OpenApi, param::Path};
use serde::Deserialize;

use chrono::{DateTime, Utc};
use domain::{
    artifact::Artifact,
    id::{ArtifactId, OrganizationId, ProjectId, SandboxId, entity},
    scope::Scope,
};

use super::{
    Tag,
    commands::logs::Get,
    context::Context,
    error::ApiError,
    extract::{Access, Auth, BaseUrl, Cursor, IdempotencyKey, JsonBody, Limit, Query, page},
    files::AuthMode,
    responses::{Download, Json, Stored, answer, list_view},
    wire::Wire,
};
use crate::app::artifacts::{self, ArtifactAccess, NewArtifact};

/// A copy of a file of a sandbox, as it was when it was made.
#[derive(Debug, Object)]
#[oai(rename = "Artifact", rename_all = "camelCase", skip_serializing_if_is_none)]
struct ArtifactView {
    id: Wire<ArtifactId>,
    org_id: Wire<OrganizationId>,
    project_id: Wire<ProjectId>,
    sandbox_id: Wire<SandboxId>,
    name: String,
    /// The media type that goes with the name.
    content_type: Option<String>,
    size_bytes: u64,
    /// The path that it was copied from.
    source_path: String,
    /// What it is stored under.
    object_key: String,
    created_at: Wire<DateTime<Utc>>,
    /// When it goes by itself.
    retention_expires_at: Wire<DateTime<Utc>>,
    /// When it was deleted.
    deleted_at: Option<Wire<DateTime<Utc>>>,
}

impl From<&Artifact> for ArtifactView {
    fn from(artifact: &Artifact) -> Self {
        Self {
            id: Wire(artifact.id),
            org_id: Wire(artifact.org_id),
            project_id: Wire(artifact.project_id),
            sandbox_id: Wire(artifact.sandbox_id),
            name: artifact.name.as_str().to_owned(),
            content_type: artifact.content_type.clone(),
            size_bytes: artifact.size_bytes,
            source_path: artifact.source_path.clone(),
            object_key: artifact.object_key(),
            created_at: Wire(artifact.created_at),
            retention_expires_at: Wire(artifact.retention_expires_at),
            deleted_at: artifact.deleted_at.map(Wire),
        }
    }
}

list_view! {
    /// A page of artifacts.
    ArtifactList of ArtifactView
}

/// One artifact.
#[derive(Debug, Object)]
struct ArtifactResponse {
    artifact: ArtifactView,
}

impl From<&Artifact> for ArtifactResponse {
    fn from(artifact: &Artifact) -> Self {
        Self { artifact: artifact.into() }
    }
}

/// A link to an artifact that also works without a credential until it expires.
#[derive(Debug, Object)]
#[oai(rename = "ArtifactDownloadUrl", rename_all = "camelCase")]
struct ArtifactUrlView {
    url: String,
    method: Get,
    auth_mode: AuthMode,
    /// What the download comes with.
    headers: DownloadHeaders,
    expires_at: Wire<DateTime<Utc>>,
}

/// Headers of a download.
#[derive(Debug, Object)]
struct DownloadHeaders {
    #[oai(rename = "x-content-type-options")]
    content_type_options: String,
}

/// A file to copy.
#[derive(Debug, Object, Deserialize)]
#[oai(rename = "CreateArtifactBody")]
struct CreateArtifact {
    /// Absolute below `/workspace`, or relative to it.
    #[oai(validator(min_length = 1, max_length = 4096))]
    path: String,
    /// What the artifact is called; by default as the file.
    #[oai(validator(min_length = 1, max_length = 255))]
    name: Option<String>,
}

impl From<CreateArtifact> for NewArtifact {
    fn from(body: CreateArtifact) -> Self {
        Self { path: body.path, name: body.name }
    }
}

/// The routes of artifacts.
#[derive(Debug)]
pub struct Artifacts;

#[OpenApi(prefix_path = "/v1", tag = "Tag::Artifacts")]
impl Artifacts {
    /// Copy a file of a live sandbox into an artifact, which outlives it.
    ///
    /// Also needs the scope `file:read`.
    #[oai(
        path = "/sandboxes/:sandboxId/artifacts",
        method = "post",
        operation_id = "createArtifact"
    )]
    async fn create(
        &self,
        caller: Auth,
        #[oai(name = "sandboxId")] id: Path<Wire<SandboxId>>,
        #[oai(name = "Idempotency-Key")] key: IdempotencyKey,
        body: JsonBody<CreateArtifact>,
    ) -> Result<Stored<ArtifactResponse, 201>, ApiError> {
        caller.must_also(Scope::FileRead)?;
        let (app, idempotent) = (caller.app(), key.of(&body.json));
        let print =
            |artifact: &Artifact| answer(StatusCode::CREATED, &ArtifactResponse::from(artifact));
        let new = body.value.into();
        Ok(artifacts::create(app, &caller, idempotent, id.0.0, new, print).await?.into())
    }

    /// List the artifacts of a sandbox, newest first; also after its end.
    #[oai(path = "/sandboxes/:sandboxId/artifacts", method = "get", operation_id = "listArtifacts")]
    async fn list(
        &self,
        caller: Auth,
        #[oai(name = "sandboxId")] id: Path<Wire<SandboxId>>,
        limit: Query<Limit<50>>,
        cursor: Query<Option<Cursor<entity::Artifact>>>,
    ) -> Result<Json<ArtifactList>, ApiError> {
        let page = page(&limit, cursor);
        let found = artifacts::list(caller.app(), &caller, id.0.0, page).await?;
        let views = found.items.iter().map(ArtifactView::from).collect();
        Ok(Json(ArtifactList::new(views, found.has_more)))
    }

    /// Get an artifact.
    #[oai(path = "/artifacts/:artifactId", method = "get", operation_id = "getArtifact")]
    async fn get(
        &self,
        caller: Auth,
        #[oai(name = "artifactId")] id: Path<Wire<ArtifactId>>,
    ) -> Result<Json<ArtifactResponse>, ApiError> {
        let artifact = artifacts::get(caller.app(), &caller, id.0.0).await?;
        Ok(Json((&artifact).into()))
    }

    /// Make a link to an artifact.
    #[oai(
        path = "/artifacts/:artifactId/download-url",
        method = "post",
        operation_id = "createArtifactDownloadUrl"
    )]
    async fn create_download_url(
        &self,
        caller: Auth,
        #[oai(name = "artifactId")] id: Path<Wire<ArtifactId>>,
        base: BaseUrl,
    ) -> Result<Json<ArtifactUrlView>, ApiError> {
        let made = artifacts::download_url(caller.app(), &caller, id.0.0, &base.0).await?;
        let headers = DownloadHeaders { content_type_options: "nosniff".to_owned() };
        let (url, expires_at) = (made.url, Wire(made.expires_at));
        let (method, auth_mode) = (Get::Get, AuthMode::ApiKey);
        Ok(Json(ArtifactUrlView { url, method, auth_mode, headers, expires_at }))
    }

    /// Download an artifact, with a key or by a link.
    #[oai(
        path = "/artifacts/:artifactId/download",
        method = "get",
        operation_id = "downloadArtifact"
    )]
    async fn download(
        &self,
        access: Access,
        context: Context,
        #[oai(name = "artifactId")] id: Path<Wire<ArtifactId>>,
        /// The link's.
        #[oai(name = "token")]
        _token: Query<Option<String>>,
    ) -> Result<Download, ApiError> {
        let access = match &access {
            Access::Caller(caller) => ArtifactAccess::Caller(caller),
            Access::Token(token) => ArtifactAccess::Token(token),
        };
        let (artifact, bytes) = artifacts::download(context.app(), access, id.0.0).await?;
        let download = Download::new(artifact.name.as_str(), artifact.size_bytes, bytes);
        Ok(download.of_type(artifact.content_type))
    }

    /// Delete an artifact. It is not listed any more, and its bytes go.
    #[oai(path = "/artifacts/:artifactId", method = "delete", operation_id = "deleteArtifact")]
    async fn delete(
        &self,
        caller: Auth,
        #[oai(name = "artifactId")] id: Path<Wire<ArtifactId>>,
    ) -> Result<Json<ArtifactResponse>, ApiError> {
        let tombstone = artifacts::delete(caller.app(), &caller, id.0.0).await?;
        Ok(Json((&tombstone).into()))
    }
}
