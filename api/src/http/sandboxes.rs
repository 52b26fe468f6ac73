//! Sandboxes on the wire (contract, section 9).

use std::collections::BTreeMap;

use poem::http::StatusCode;
use poem_openapi::{
    Object, OpenApi,
    param::Path,
    registry::{MetaSchema, MetaSchemaRef},
    types::{ParseFromJSON, ParseResult, ToJSON},
};
use serde::Deserialize;
use serde_json::Value;

use chrono::{DateTime, Utc};
use domain::{
    Code, Refused,
    id::{OrganizationId, ProjectId, SandboxId, TemplateId, TemplateVersionId, entity},
    metadata::Metadata,
    sandbox::{EndReason, Sandbox, Status},
};
use store::SandboxFilter;

use super::{
    Tag,
    error::ApiError,
    extract::{Auth, Cursor, IdempotencyKey, JsonBody, Limit, MetadataFilter, Query, page},
    responses::{Json, Stored, answer, list_view},
    wire::{Text, Wire, inline_type},
};
use crate::app::{
    idempotency::Answer,
    sandboxes::{self, NewSandbox},
};

/// An isolated live execution environment.
#[derive(Debug, Object)]
#[oai(rename = "Sandbox", rename_all = "camelCase", skip_serializing_if_is_none)]
struct SandboxView {
    id: Wire<SandboxId>,
    org_id: Wire<OrganizationId>,
    project_id: Wire<ProjectId>,
    /// `running` and `idle` are a ready one with and without active commands.
    status: Wire<Status>,
    template_id: Wire<TemplateId>,
    template_slug: String,
    template_version: String,
    template_version_id: Wire<TemplateVersionId>,
    /// The lifetime last asked for.
    ttl_ms: u64,
    expires_at: Wire<DateTime<Utc>>,
    metadata: BTreeMap<String, String>,
    created_at: Wire<DateTime<Utc>>,
    destroyed_at: Option<Wire<DateTime<Utc>>>,
    destroyed_reason: Option<Wire<EndReason>>,
}

impl SandboxView {
    /// The view at an instant: the status depends on it.
    fn at(sandbox: &Sandbox, now: DateTime<Utc>) -> Self {
        let status = sandbox.status(now);
        let is_over = matches!(status, Status::Destroyed | Status::Failed);
        Self {
            id: Wire(sandbox.id),
            org_id: Wire(sandbox.org_id),
            project_id: Wire(sandbox.project_id),
            status: Wire(status),
            template_id: Wire(sandbox.template.template_id),
            template_slug: sandbox.template.slug.clone(),
            template_version: sandbox.template.version.clone(),
            template_version_id: Wire(sandbox.template.id),
            ttl_ms: sandbox.ttl_ms,
            expires_at: Wire(sandbox.expires_at),
            metadata: sandbox.metadata.as_map().clone(),
            created_at: Wire(sandbox.created_at),
            destroyed_at: sandbox.ended_at.filter(|_| is_over).map(Wire),
            destroyed_reason: sandbox.end_reason.filter(|_| is_over).map(Wire),
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

fn print(status: StatusCode) -> impl Fn(&Sandbox, DateTime<Utc>) -> Answer + Send {
    move |sandbox, now| answer(status, &SandboxResponse { sandbox: SandboxView::at(sandbox, now) })
}

/// What a new sandbox is made from. Everything has a default.
#[derive(Debug, Object, Deserialize)]
#[oai(rename = "CreateSandboxBody", rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
struct CreateSandbox {
    /// The project it is to lie in; the default one if absent.
    project_id: Option<Wire<ProjectId>>,
    /// `base`, `python`, `node` or `python-node`, which is the default.
    template: Option<String>,
    /// An exact version of the template; the latest if absent.
    template_version_id: Option<Wire<TemplateVersionId>>,
    /// Its lifetime, one hour by default; the plan has a limit.
    #[oai(validator(minimum(value = "1")))]
    ttl_ms: Option<u64>,
    /// Labels. Not for secrets.
    metadata: Option<Labels>,
    /// A backup to start from; not enabled in this version.
    restore_from: Option<String>,
}

/// Labels as sent, each value still to be looked at: one that is no text has a code of its own.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
struct Labels(BTreeMap<String, Value>);

inline_type!([] Labels, "labels", MetaSchema {
    max_properties: Some(16),
    additional_properties: Some(Box::new(MetaSchemaRef::Inline(Box::new(MetaSchema {
        max_length: Some(512),
        ..MetaSchema::new("string")
    })))),
    ..MetaSchema::new("object")
});

impl ToJSON for Labels {
    fn to_json(&self) -> Option<Value> {
        serde_json::to_value(&self.0).ok()
    }
}
impl ParseFromJSON for Labels {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        Ok(Self(serde_json::from_value(value.unwrap_or_default())?))
    }
}

impl TryFrom<Labels> for Metadata {
    type Error = Refused;

    fn try_from(labels: Labels) -> Result<Self, Refused> {
        let texts = labels.0.into_iter().map(|(key, value)| match value {
            Value::String(text) => Ok((key, text)),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Array(_)
            | Value::Object(_) => {
                let field = format!("metadata.{key}");
                Err(Refused::field(Code::InvalidMetadataValue, field, "values must be strings"))
            }
        });
        Self::parse(texts.collect::<Result<_, _>>()?)
    }
}

impl TryFrom<CreateSandbox> for NewSandbox {
    type Error = Refused;

    fn try_from(body: CreateSandbox) -> Result<Self, Refused> {
        Ok(Self {
            project_id: body.project_id.map(|id| id.0),
            template: body.template,
            template_version_id: body.template_version_id.map(|id| id.0),
            ttl_ms: body.ttl_ms,
            metadata: body.metadata.map_or(Ok(Metadata::default()), Metadata::try_from)?,
            restores: body.restore_from.is_some(),
        })
    }
}

/// A new lifetime.
#[derive(Debug, Object, Deserialize)]
#[oai(rename = "SetSandboxTtlBody", rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
struct SetTtl {
    /// Counted from now, not from the old end; may be shorter.
    #[oai(validator(minimum(value = "1")))]
    ttl_ms: u64,
}

/// What a list of sandboxes shows besides live ones.
#[derive(Debug, Clone, Copy)]
pub(super) enum Include {
    Historical,
}

impl Text for Include {
    fn schema() -> MetaSchema {
        MetaSchema { enum_items: vec!["historical".into()], ..MetaSchema::new("string") }
    }
    fn read(text: &str) -> Option<Self> {
        (text == "historical").then_some(Self::Historical)
    }
    fn print(&self) -> String {
        "historical".to_owned()
    }
    fn wanted() -> String {
        "historical".to_owned()
    }
}

/// The routes of sandboxes.
#[derive(Debug)]
pub struct Sandboxes;

#[OpenApi(prefix_path = "/v1", tag = "Tag::Sandboxes")]
impl Sandboxes {
    /// Create a sandbox.
    ///
    /// It takes commands and files at once: they wait until it is ready.
    #[oai(path = "/sandboxes", method = "post", operation_id = "createSandbox")]
    async fn create(
        &self,
        caller: Auth,
        #[oai(name = "Idempotency-Key")] key: IdempotencyKey,
        body: JsonBody<CreateSandbox>,
    ) -> Result<Stored<SandboxResponse, 201>, ApiError> {
        let idempotent = key.of(&body.json);
        let (new, print) = (body.value.try_into()?, print(StatusCode::CREATED));
        Ok(sandboxes::create(caller.app(), &caller, idempotent, new, print).await?.into())
    }

    /// List sandboxes, newest first.
    ///
    /// Besides the parameters below, any number of `metadata.<key>=<value>` select the sandboxes
    /// that have all these labels.
    #[oai(path = "/sandboxes", method = "get", operation_id = "listSandboxes")]
    #[expect(clippy::too_many_arguments, reason = "one for each parameter of the contract")]
    async fn list(
        &self,
        caller: Auth,
        /// Only those in one project.
        #[oai(name = "projectId")]
        project: Query<Option<Wire<ProjectId>>>,
        /// Only those with this status.
        status: Query<Option<Wire<Status>>>,
        /// Destroyed and failed ones too.
        include: Query<Option<Wire<Include>>>,
        metadata: MetadataFilter,
        limit: Query<Limit<50>>,
        cursor: Query<Option<Cursor<entity::Sandbox>>>,
    ) -> Result<Json<SandboxList>, ApiError> {
        let now = caller.app().clock.now();
        let filter = SandboxFilter {
            project: project.0.map(|id| id.0),
            status: status.0.map(|status| status.0),
            include_historical: include.0.is_some(),
            host: None,
            template: None,
            metadata: metadata.0.into_iter().collect(),
            now,
        };
        let found = sandboxes::list(caller.app(), &caller, filter, page(&limit, cursor)).await?;
        let views = found.items.iter().map(|sandbox| SandboxView::at(sandbox, now)).collect();
        Ok(Json(SandboxList::new(views, found.has_more)))
    }

    /// Get a sandbox, also one that is destroyed.
    #[oai(path = "/sandboxes/:sandboxId", method = "get", operation_id = "getSandbox")]
    async fn get(
        &self,
        caller: Auth,
        #[oai(name = "sandboxId")] id: Path<Wire<SandboxId>>,
    ) -> Result<Json<SandboxResponse>, ApiError> {
        let sandbox = sandboxes::get(caller.app(), &caller, id.0.0).await?;
        let now = caller.app().clock.now();
        Ok(Json(SandboxResponse { sandbox: SandboxView::at(&sandbox, now) }))
    }

    /// Kill a sandbox and everything in it; one that is destroyed already stays as it is.
    #[oai(path = "/sandboxes/:sandboxId", method = "delete", operation_id = "killSandbox")]
    async fn kill(
        &self,
        caller: Auth,
        #[oai(name = "sandboxId")] id: Path<Wire<SandboxId>>,
        #[oai(name = "Idempotency-Key")] key: IdempotencyKey,
    ) -> Result<Stored<SandboxResponse, 200>, ApiError> {
        let (idempotent, print) = (key.of_no_body(), print(StatusCode::OK));
        Ok(sandboxes::kill(caller.app(), &caller, idempotent, id.0.0, print).await?.into())
    }

    /// Set how long a live sandbox lives from now on.
    #[oai(path = "/sandboxes/:sandboxId/ttl", method = "post", operation_id = "setSandboxTtl")]
    async fn set_ttl(
        &self,
        caller: Auth,
        #[oai(name = "sandboxId")] id: Path<Wire<SandboxId>>,
        #[oai(name = "Idempotency-Key")] key: IdempotencyKey,
        body: JsonBody<SetTtl>,
    ) -> Result<Stored<SandboxResponse, 200>, ApiError> {
        set_ttl(&caller, id.0.0, key, body).await
    }

    /// Set how long a live sandbox lives from now on: the old name of `setSandboxTtl`.
    #[oai(
        path = "/sandboxes/:sandboxId/extend",
        method = "post",
        operation_id = "extendSandbox",
        deprecated
    )]
    async fn extend(
        &self,
        caller: Auth,
        #[oai(name = "sandboxId")] id: Path<Wire<SandboxId>>,
        #[oai(name = "Idempotency-Key")] key: IdempotencyKey,
        body: JsonBody<SetTtl>,
    ) -> Result<Stored<SandboxResponse, 200>, ApiError> {
        set_ttl(&caller, id.0.0, key, body).await
    }
}

async fn set_ttl(
    caller: &Auth,
    id: SandboxId,
    key: IdempotencyKey,
    body: JsonBody<SetTtl>,
) -> Result<Stored<SandboxResponse, 200>, ApiError> {
    let (idempotent, print) = (key.of(&body.json), print(StatusCode::OK));
    let ttl_ms = body.value.ttl_ms;
    Ok(sandboxes::set_ttl(caller.app(), caller, idempotent, id, ttl_ms, print).await?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(body: &str) -> Result<NewSandbox, Refused> {
        serde_json::from_str::<CreateSandbox>(body).unwrap().try_into()
    }

    #[test]
    fn labels_are_texts() {
        let new_ = new(r#"{"metadata":{"agent.id":"codex/1"}}"#).unwrap();
        assert_eq!(new_.metadata.as_map()["agent.id"], "codex/1");
        for value in ["1", "null", "true", "[]", "{}"] {
            let refused = new(&format!(r#"{{"metadata":{{"a":{value}}}}}"#)).unwrap_err();
            assert_eq!(refused.code, Code::InvalidMetadataValue, "{value}");
            assert_eq!(refused.field.as_deref(), Some("metadata.a"), "{value}");
        }
    }

    #[test]
    fn nothing_is_needed_and_a_backup_is_noticed() {
        let nothing = new("{}").unwrap();
        assert!(nothing.template.is_none() && !nothing.restores);
        assert!(new(r#"{"restoreFrom":"bkp_1"}"#).unwrap().restores);
    }
}
