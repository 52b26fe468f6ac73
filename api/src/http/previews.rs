//! Previews on the wire (contract, section 14): create, list, get, revoke. What a preview carries does
//! not come through here: it has a listener of its own.

use poem::http::StatusCode;
use poem_openapi::{Object, OpenApi, param::Path};
use serde::Deserialize;

use chrono::{DateTime, Utc};
use domain::{
    Refused,
    id::{CommandId, OrganizationId, PreviewId, ProjectId, SandboxId, entity},
    preview::{AuthMode, Preview},
};

use super::{
    Tag,
    error::ApiError,
    extract::{Auth, Cursor, JsonBody, Limit, Query, page},
    responses::{Json, Stored, answer, list_view},
    wire::Wire,
};
use crate::{
    app::previews::{self, Made, Wanted},
    proxy::Proxy,
};

/// A port of a sandbox that is reachable from outside.
#[derive(Debug, Object)]
#[oai(rename = "Preview", rename_all = "camelCase", skip_serializing_if_is_none)]
struct PreviewView {
    id: Wire<PreviewId>,
    /// The first label of its host name.
    slug: String,
    org_id: Wire<OrganizationId>,
    project_id: Wire<ProjectId>,
    sandbox_id: Wire<SandboxId>,
    port: u16,
    auth_mode: Wire<AuthMode>,
    /// Where it is. Whoever opens it needs a key that sees the project, or the preview's token.
    url: String,
    created_at: Wire<DateTime<Utc>>,
    /// When its sandbox expires, and it with it.
    expires_at: Wire<DateTime<Utc>>,
    /// When it was revoked; it carries nothing since.
    revoked_at: Option<Wire<DateTime<Utc>>>,
}

impl PreviewView {
    fn of(preview: &Preview, proxy: &Proxy) -> Self {
        Self {
            id: Wire(preview.id),
            slug: preview.slug.to_string(),
            org_id: Wire(preview.org_id),
            project_id: Wire(preview.project_id),
            sandbox_id: Wire(preview.sandbox_id),
            port: preview.port,
            auth_mode: Wire(preview.auth_mode),
            url: proxy.url(&preview.slug),
            created_at: Wire(preview.created_at),
            expires_at: Wire(preview.expires_at),
            revoked_at: preview.revoked_at.map(Wire),
        }
    }
}

list_view! {
    /// A page of previews.
    PreviewList of PreviewView
}

/// One preview.
#[derive(Debug, Object)]
struct PreviewResponse {
    preview: PreviewView,
}

/// What came of a create.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct CreatePreviewResponse {
    preview: PreviewView,
    /// The token of a new preview with `authMode` `token`. It is shown here and never again.
    preview_token: Option<String>,
}

/// What to open.
#[derive(Debug, Object, Deserialize)]
#[oai(rename = "CreatePreviewBody", rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
struct CreatePreview {
    /// The port in the sandbox; nothing has to listen there yet.
    #[oai(validator(minimum(value = "1"), maximum(value = "65535")))]
    port: u32,
    /// `authenticated`, the default: for whoever has a key. `token`: also for whoever has the token.
    auth_mode: Option<String>,
    /// The command that serves the port, for the audit trail.
    source_command_id: Option<Wire<CommandId>>,
}

impl TryFrom<CreatePreview> for Wanted {
    type Error = Refused;

    fn try_from(body: CreatePreview) -> Result<Self, Refused> {
        let port = u16::try_from(body.port).ok().filter(|port| *port > 0);
        Ok(Self {
            port: port.ok_or_else(|| Refused::invalid("port", "port must be 1 to 65535"))?,
            auth_mode: body.auth_mode.map_or(Ok(AuthMode::Authenticated), |mode| mode.parse())?,
            source_command: body.source_command_id.map(|id| id.0),
        })
    }
}

/// The routes of previews.
#[derive(Debug)]
pub struct Previews;

#[OpenApi(prefix_path = "/v1", tag = "Tag::Previews")]
impl Previews {
    /// Make a port reachable from outside; one that is already stays as it is (200).
    #[oai(path = "/sandboxes/:sandboxId/previews", method = "post", operation_id = "createPreview")]
    async fn create(
        &self,
        caller: Auth,
        #[oai(name = "sandboxId")] id: Path<Wire<SandboxId>>,
        body: JsonBody<CreatePreview>,
    ) -> Result<Stored<CreatePreviewResponse, 201, 200>, ApiError> {
        let app = caller.app();
        let view = |preview: &Preview| PreviewView::of(preview, &app.proxy);
        let (status, view) =
            match previews::create(app, &caller, id.0.0, body.value.try_into()?).await? {
                Made::New(preview, preview_token) => (
                    StatusCode::CREATED,
                    CreatePreviewResponse { preview: view(&preview), preview_token },
                ),
                Made::Existing(preview) => (
                    StatusCode::OK,
                    CreatePreviewResponse { preview: view(&preview), preview_token: None },
                ),
            };
        Ok(answer(status, &view).into())
    }

    /// List a sandbox's previews, revoked ones included, newest first.
    #[oai(path = "/sandboxes/:sandboxId/previews", method = "get", operation_id = "listPreviews")]
    async fn list(
        &self,
        caller: Auth,
        #[oai(name = "sandboxId")] id: Path<Wire<SandboxId>>,
        limit: Query<Limit<50>>,
        cursor: Query<Option<Cursor<entity::Preview>>>,
    ) -> Result<Json<PreviewList>, ApiError> {
        let app = caller.app();
        let found = previews::list(app, &caller, id.0.0, page(&limit, cursor)).await?;
        let views = found.items.iter().map(|preview| PreviewView::of(preview, &app.proxy));
        Ok(Json(PreviewList::new(views.collect(), found.has_more)))
    }

    /// Get a preview, also after it was revoked or its sandbox ended.
    #[oai(path = "/previews/:previewId", method = "get", operation_id = "getPreview")]
    async fn get(
        &self,
        caller: Auth,
        #[oai(name = "previewId")] id: Path<Wire<PreviewId>>,
    ) -> Result<Json<PreviewResponse>, ApiError> {
        let preview = previews::get(caller.app(), &caller, id.0.0).await?;
        Ok(Json(PreviewResponse { preview: PreviewView::of(&preview, &caller.app().proxy) }))
    }

    /// Revoke a preview at once, what is open through it included; the sandbox goes on.
    #[oai(path = "/previews/:previewId", method = "delete", operation_id = "revokePreview")]
    async fn revoke(
        &self,
        caller: Auth,
        #[oai(name = "previewId")] id: Path<Wire<PreviewId>>,
    ) -> Result<Json<PreviewResponse>, ApiError> {
        let preview = previews::revoke(caller.app(), &caller, id.0.0).await?;
        Ok(Json(PreviewResponse { preview: PreviewView::of(&preview, &caller.app().proxy) }))
    }
}
