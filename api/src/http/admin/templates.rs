//! Templates and their versions on the admin API's wire.

use chrono::{DateTime, Utc};
use poem::http::StatusCode;
use poem_openapi::{Object, OpenApi, param::Path};
use serde::Deserialize;

use domain::id::{TemplateId, TemplateVersionId, entity};
use store::templates::{Published, Template};

use super::Tag;
use crate::{
    app::{admin::templates, idempotency::Answer},
    http::{
        error::ApiError,
        extract::{Admin, Cursor, IdempotencyKey, Limit, Query, StrictBody, page},
        responses::{Json, Stored, answer, list_view},
        wire::Wire,
    },
};

/// An environment that sandboxes are made from.
#[derive(Debug, Object)]
#[oai(rename = "Template", rename_all = "camelCase")]
struct TemplateView {
    id: Wire<TemplateId>,
    /// What callers name it by.
    slug: String,
    created_at: Wire<DateTime<Utc>>,
}

impl From<&Template> for TemplateView {
    fn from(template: &Template) -> Self {
        let (id, created_at) = (Wire(template.id), Wire(template.created_at));
        Self { id, slug: template.slug.clone(), created_at }
    }
}

list_view! {
    /// A page of templates.
    TemplateList of TemplateView
}

/// A version of a template. It is never changed, but can be deprecated.
#[derive(Debug, Object)]
#[oai(rename = "TemplateVersion", rename_all = "camelCase", skip_serializing_if_is_none)]
struct VersionView {
    id: Wire<TemplateVersionId>,
    template_id: Wire<TemplateId>,
    template_slug: String,
    version: String,
    /// The SHA-256 of the image that its machines are made from, if it was imported with one.
    image_digest: Option<String>,
    created_at: Wire<DateTime<Utc>>,
    /// From when on no new sandbox is made from it.
    deprecated_at: Option<Wire<DateTime<Utc>>>,
    deprecated_reason: Option<String>,
}

impl From<&Published> for VersionView {
    fn from(published: &Published) -> Self {
        let version = &published.version;
        let (deprecated_at, deprecated_reason) = published.deprecated.clone().unzip();
        Self {
            id: Wire(version.id),
            template_id: Wire(version.template_id),
            template_slug: version.slug.clone(),
            version: version.version.clone(),
            image_digest: published.image.as_ref().map(ToString::to_string),
            created_at: Wire(published.created_at),
            deprecated_at: deprecated_at.map(Wire),
            deprecated_reason,
        }
    }
}

list_view! {
    /// A page of versions.
    TemplateVersionList of VersionView
}

/// One version.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct TemplateVersionResponse {
    template_version: VersionView,
}

/// A version to publish.
#[derive(Debug, Object, Deserialize)]
#[oai(rename = "PublishTemplateVersionBody")]
struct PublishVersion {
    /// Unique in the template, such as `1.1.0`.
    #[oai(validator(min_length = 1, max_length = 64))]
    version: String,
}

/// Why a version is deprecated.
#[derive(Debug, Object, Deserialize)]
#[oai(rename = "DeprecateTemplateVersionBody")]
struct DeprecateVersion {
    /// Kept with the version.
    #[oai(validator(min_length = 1, max_length = 500))]
    reason: String,
}

/// The routes of templates.
#[derive(Debug)]
pub struct Templates;

#[OpenApi(prefix_path = "/admin/v1", tag = "Tag::Templates")]
impl Templates {
    /// List the templates, newest first.
    #[oai(path = "/templates", method = "get", operation_id = "listTemplates")]
    async fn list(
        &self,
        caller: Admin,
        limit: Query<Limit<50>>,
        cursor: Query<Option<Cursor<entity::Template>>>,
    ) -> Result<Json<TemplateList>, ApiError> {
        let page = page(&limit, cursor);
        let found = store::templates::list(caller.app().db.read(), page).await?;
        let views = found.items.iter().map(TemplateView::from).collect();
        Ok(Json(TemplateList::new(views, found.has_more)))
    }

    /// List a template's versions, newest first.
    #[oai(
        path = "/templates/:templateId/versions",
        method = "get",
        operation_id = "listTemplateVersions"
    )]
    async fn versions(
        &self,
        caller: Admin,
        #[oai(name = "templateId")] id: Path<Wire<TemplateId>>,
        limit: Query<Limit<50>>,
        cursor: Query<Option<Cursor<entity::TemplateVersion>>>,
    ) -> Result<Json<TemplateVersionList>, ApiError> {
        let found = templates::versions(caller.app(), id.0.0, page(&limit, cursor)).await?;
        let views = found.items.iter().map(VersionView::from).collect();
        Ok(Json(TemplateVersionList::new(views, found.has_more)))
    }

    /// Publish a version of a template: from now on, sandboxes that name no version are made from it.
    #[oai(
        path = "/templates/:templateId/versions",
        method = "post",
        operation_id = "publishTemplateVersion"
    )]
    async fn publish(
        &self,
        caller: Admin,
        #[oai(name = "templateId")] id: Path<Wire<TemplateId>>,
        #[oai(name = "Idempotency-Key")] key: IdempotencyKey,
        body: StrictBody<PublishVersion>,
    ) -> Result<Stored<TemplateVersionResponse, 201>, ApiError> {
        let (app, idempotent) = (caller.app(), key.of(&body.json));
        let (new, print) = ((id.0.0, body.value.version), print(StatusCode::CREATED));
        Ok(templates::publish(app, &caller, idempotent, new, print).await?.into())
    }

    /// Get a version, deprecated or not.
    #[oai(
        path = "/template-versions/:templateVersionId",
        method = "get",
        operation_id = "getTemplateVersion"
    )]
    async fn version(
        &self,
        caller: Admin,
        #[oai(name = "templateVersionId")] id: Path<Wire<TemplateVersionId>>,
    ) -> Result<Json<TemplateVersionResponse>, ApiError> {
        let found = templates::version(caller.app(), id.0.0).await?;
        Ok(Json(TemplateVersionResponse { template_version: (&found).into() }))
    }

    /// Deprecate a version: no new sandbox is made from it, neither by default nor by its id.
    ///
    /// Sandboxes that run go on. A version that is deprecated already stays as it is.
    #[oai(
        path = "/template-versions/:templateVersionId/deprecate",
        method = "post",
        operation_id = "deprecateTemplateVersion"
    )]
    async fn deprecate(
        &self,
        caller: Admin,
        #[oai(name = "templateVersionId")] id: Path<Wire<TemplateVersionId>>,
        #[oai(name = "Idempotency-Key")] key: IdempotencyKey,
        body: StrictBody<DeprecateVersion>,
    ) -> Result<Stored<TemplateVersionResponse, 200>, ApiError> {
        let (app, idempotent) = (caller.app(), key.of(&body.json));
        let (which, print) = ((id.0.0, &*body.value.reason), print(StatusCode::OK));
        Ok(templates::deprecate(app, &caller, idempotent, which, print).await?.into())
    }
}

fn print(status: StatusCode) -> impl Fn(&Published) -> Answer + Send {
    move |published| answer(status, &TemplateVersionResponse { template_version: published.into() })
}
