//! Sandboxes of all organizations on the admin API's wire.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use poem::http::StatusCode;
use poem_openapi::{Object, OpenApi, param::Path};
use serde::Deserialize;

use domain::{
    id::{ApiKeyId, OrganizationId, ProjectId, SandboxId, TemplateId, TemplateVersionId, entity},
    sandbox::{EndReason, Sandbox, Status},
};
use store::SandboxFilter;

use super::Tag;
use crate::{
    app::admin::sandboxes,
    http::{
        error::ApiError,
        extract::{Admin, Cursor, IdempotencyKey, Limit, Query, StrictBody, page},
        responses::{Json, Stored, answer, list_view},
        sandboxes::Include,
        wire::Wire,
    },
};

/// An isolated live execution environment of a customer.
#[derive(Debug, Object)]
#[oai(rename = "Sandbox", rename_all = "camelCase", skip_serializing_if_is_none)]
struct SandboxView {
    id: Wire<SandboxId>,
    org_id: Wire<OrganizationId>,
    project_id: Wire<ProjectId>,
    created_by_api_key_id: Wire<ApiKeyId>,
    /// `running` and `idle` are a ready one with and without active commands.
    status: Wire<Status>,
    /// The host that runs it.
    host: String,
    template_id: Wire<TemplateId>,
    template_slug: String,
    template_version: String,
    template_version_id: Wire<TemplateVersionId>,
    /// The version that prices it for life.
    pricing_version: String,
    /// The lifetime last asked for.
    ttl_ms: u64,
    metadata: BTreeMap<String, String>,
    created_at: Wire<DateTime<Utc>>,
    /// When it came up, and its meter began.
    ready_at: Option<Wire<DateTime<Utc>>>,
    expires_at: Wire<DateTime<Utc>>,
    /// When it ended for its tenant, and its meter stopped.
    ended_at: Option<Wire<DateTime<Utc>>>,
    end_reason: Option<Wire<EndReason>>,
    /// Why it failed, for operators; only where one sandbox is asked for.
    failure: Option<String>,
}

impl SandboxView {
    fn at(sandbox: &Sandbox, now: DateTime<Utc>) -> Self {
        Self {
            id: Wire(sandbox.id),
            org_id: Wire(sandbox.org_id),
            project_id: Wire(sandbox.project_id),
            created_by_api_key_id: Wire(sandbox.created_by),
            status: Wire(sandbox.status(now)),
            host: sandbox.host.clone(),
            template_id: Wire(sandbox.template.template_id),
            template_slug: sandbox.template.slug.clone(),
            template_version: sandbox.template.version.clone(),
            template_version_id: Wire(sandbox.template.id),
            pricing_version: sandbox.pricing_version.clone(),
            ttl_ms: sandbox.ttl_ms,
            metadata: sandbox.metadata.as_map().clone(),
            created_at: Wire(sandbox.created_at),
            ready_at: sandbox.ready_at.map(Wire),
            expires_at: Wire(sandbox.expires_at),
            ended_at: sandbox.ended_at.map(Wire),
            end_reason: sandbox.end_reason.map(Wire),
            failure: None,
        }
    }
}

list_view! {
    /// A page of sandboxes.
    SandboxList of SandboxView
}

/// One sandbox.
#[derive(Debug, Object)]
struct SandboxResponse {
    sandbox: SandboxView,
}

/// Why a sandbox is killed.
#[derive(Debug, Object, Deserialize)]
#[oai(rename = "KillSandboxBody")]
struct KillSandbox {
    /// Kept in the organization's audit trail.
    #[oai(validator(min_length = 1, max_length = 500))]
    reason: String,
}

/// The routes of sandboxes.
#[derive(Debug)]
pub struct Sandboxes;

#[OpenApi(prefix_path = "/admin/v1", tag = "Tag::Sandboxes")]
impl Sandboxes {
    /// List sandboxes of all organizations, newest first.
    #[oai(path = "/sandboxes", method = "get", operation_id = "listAllSandboxes")]
    #[expect(clippy::too_many_arguments, reason = "one for each filter")]
    async fn list(
        &self,
        caller: Admin,
        /// Only those of one organization.
        #[oai(name = "organizationId")]
        org: Query<Option<Wire<OrganizationId>>>,
        /// Only those in one project.
        #[oai(name = "projectId")]
        project: Query<Option<Wire<ProjectId>>>,
        /// Only those with this status.
        status: Query<Option<Wire<Status>>>,
        /// Only those on this host.
        host: Query<Option<String>>,
        /// Only those of the template with this slug.
        template: Query<Option<String>>,
        /// Destroyed and failed ones too.
        include: Query<Option<Wire<Include>>>,
        limit: Query<Limit<50>>,
        cursor: Query<Option<Cursor<entity::Sandbox>>>,
    ) -> Result<Json<SandboxList>, ApiError> {
        let now = caller.app().clock.now();
        let filter = SandboxFilter {
            project: project.0.map(|id| id.0),
            status: status.0.map(|status| status.0),
            include_historical: include.0.is_some(),
            host: host.0,
            template: template.0,
            metadata: Vec::new(),
            now,
        };
        let org = org.0.map(|org| org.0);
        let found = sandboxes::list(caller.app(), org, &filter, page(&limit, cursor)).await?;
        let views = found.items.iter().map(|sandbox| SandboxView::at(sandbox, now)).collect();
        Ok(Json(SandboxList::new(views, found.has_more)))
    }

    /// Get a sandbox of any organization, also one that is destroyed.
    #[oai(path = "/sandboxes/:sandboxId", method = "get", operation_id = "getAnySandbox")]
    async fn get(
        &self,
        caller: Admin,
        #[oai(name = "sandboxId")] id: Path<Wire<SandboxId>>,
    ) -> Result<Json<SandboxResponse>, ApiError> {
        let (sandbox, failure) = sandboxes::get(caller.app(), id.0.0).await?;
        let view = SandboxView::at(&sandbox, caller.app().clock.now());
        Ok(Json(SandboxResponse { sandbox: SandboxView { failure, ..view } }))
    }

    /// Kill a sandbox and everything in it as `platform_cleanup`; one that is over stays as it is.
    ///
    /// Its meter stops at once. The answer comes when nothing of it runs any more.
    #[oai(path = "/sandboxes/:sandboxId/kill", method = "post", operation_id = "killAnySandbox")]
    async fn kill(
        &self,
        caller: Admin,
        #[oai(name = "sandboxId")] id: Path<Wire<SandboxId>>,
        #[oai(name = "Idempotency-Key")] key: IdempotencyKey,
        body: StrictBody<KillSandbox>,
    ) -> Result<Stored<SandboxResponse, 200>, ApiError> {
        let (app, idempotent) = (caller.app(), key.of(&body.json));
        let print = |sandbox: &Sandbox, now| {
            answer(StatusCode::OK, &SandboxResponse { sandbox: SandboxView::at(sandbox, now) })
        };
        let reason = &body.value.reason;
        Ok(sandboxes::kill(app, &caller, idempotent, id.0.0, reason, print).await?.into())
    }
}
