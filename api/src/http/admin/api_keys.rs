//! Tenants' keys on the admin API's wire.

use poem::http::StatusCode;
use poem_openapi::{Object, OpenApi, param::Path};
use serde::Deserialize;

use domain::{
    Refused,
    id::{ApiKeyId, OrganizationId, ProjectId, UserId, entity},
    key::{ApiKey, KeySecret},
    scope::{Preset, Scope, ScopeSet},
};

use super::Tag;
use crate::{
    app::{
        admin::api_keys::{self, NewApiKey},
        idempotency::Answer,
    },
    http::{
        api_keys::{ApiKeyList, ApiKeyResponse, ApiKeyView},
        error::ApiError,
        extract::{Admin, Cursor, IdempotencyKey, Limit, Query, StrictBody, page},
        responses::{Json, Stored, answer},
        wire::Wire,
    },
};

/// Both keys of a rotation work for an hour unless something else is said.
const OVERLAP_MS: u64 = 3_600_000;

/// A new API key.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct CreatedApiKeyResponse {
    api_key: ApiKeyView,
    /// The key itself, in the first answer only: it is stored nowhere, so a replay lacks it.
    secret: Option<String>,
}

/// What a new key is made from: either `preset` or `scopes` says what it may do.
#[derive(Debug, Object, Deserialize)]
#[oai(rename = "CreateApiKeyBody", rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
struct CreateApiKey {
    #[oai(validator(min_length = 1, max_length = 128))]
    name: String,
    preset: Option<Wire<Preset>>,
    scopes: Option<Vec<Wire<Scope>>>,
    /// The projects that it is restricted to; absent: all of the organization's.
    #[oai(validator(min_items = 1, max_items = 100))]
    project_ids: Option<Vec<Wire<ProjectId>>>,
    /// The member that it is made for; absent: the one who is there for longest.
    user_id: Option<Wire<UserId>>,
}

impl CreateApiKey {
    fn scopes(&self) -> Result<ScopeSet, Refused> {
        match (self.preset, &self.scopes) {
            (Some(Wire(preset)), None) => Ok(preset.scopes()),
            (None, Some(scopes)) => Ok(scopes.iter().map(|Wire(scope)| *scope).collect()),
            (None, None) | (Some(_), Some(_)) => {
                Err(Refused::invalid("scopes", "either preset or scopes must be given"))
            }
        }
    }
}

/// How a key is rotated.
#[derive(Debug, Object, Deserialize)]
#[oai(rename = "RotateApiKeyBody", rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
struct RotateApiKey {
    /// For how long both keys work, from 0 to 7 days; an hour if absent.
    #[oai(validator(minimum(value = "0"), maximum(value = "604800000")))]
    overlap_ms: Option<u64>,
}

/// The routes of tenants' keys.
#[derive(Debug)]
pub struct ApiKeys;

#[OpenApi(prefix_path = "/admin/v1", tag = "Tag::ApiKeys")]
impl ApiKeys {
    /// List an organization's keys, revoked ones included, newest first.
    #[oai(
        path = "/organizations/:organizationId/api-keys",
        method = "get",
        operation_id = "listOrganizationApiKeys"
    )]
    async fn list(
        &self,
        caller: Admin,
        #[oai(name = "organizationId")] org: Path<Wire<OrganizationId>>,
        limit: Query<Limit<50>>,
        cursor: Query<Option<Cursor<entity::ApiKey>>>,
    ) -> Result<Json<ApiKeyList>, ApiError> {
        Ok(Json(api_keys::list(caller.app(), org.0.0, page(&limit, cursor)).await?.into()))
    }

    /// Create a key. The answer shows it once.
    #[oai(
        path = "/organizations/:organizationId/api-keys",
        method = "post",
        operation_id = "createOrganizationApiKey"
    )]
    async fn create(
        &self,
        caller: Admin,
        #[oai(name = "Idempotency-Key")] key: IdempotencyKey,
        #[oai(name = "organizationId")] org: Path<Wire<OrganizationId>>,
        body: StrictBody<CreateApiKey>,
    ) -> Result<Stored<CreatedApiKeyResponse, 201>, ApiError> {
        let idempotent = key.of(&body.json);
        let ids = |ids: Vec<Wire<ProjectId>>| ids.into_iter().map(|Wire(id)| id).collect();
        let new = NewApiKey {
            org: org.0.0,
            scopes: body.value.scopes()?,
            name: body.value.name,
            project_ids: body.value.project_ids.map(ids),
            user_id: body.value.user_id.map(|Wire(id)| id),
        };
        Ok(api_keys::create(caller.app(), &caller, idempotent, new, created).await?.into())
    }

    /// Get one key.
    #[oai(
        path = "/organizations/:organizationId/api-keys/:apiKeyId",
        method = "get",
        operation_id = "getOrganizationApiKey"
    )]
    async fn get(
        &self,
        caller: Admin,
        #[oai(name = "organizationId")] org: Path<Wire<OrganizationId>>,
        #[oai(name = "apiKeyId")] id: Path<Wire<ApiKeyId>>,
    ) -> Result<Json<ApiKeyResponse>, ApiError> {
        let key = api_keys::get(caller.app(), org.0.0, id.0.0).await?;
        Ok(Json(ApiKeyResponse { api_key: (&key).into() }))
    }

    /// Create a key that takes another one's place; both work until the overlap is over.
    #[oai(
        path = "/organizations/:organizationId/api-keys/:apiKeyId/rotate",
        method = "post",
        operation_id = "rotateOrganizationApiKey"
    )]
    async fn rotate(
        &self,
        caller: Admin,
        #[oai(name = "Idempotency-Key")] key: IdempotencyKey,
        #[oai(name = "organizationId")] org: Path<Wire<OrganizationId>>,
        #[oai(name = "apiKeyId")] id: Path<Wire<ApiKeyId>>,
        body: StrictBody<RotateApiKey>,
    ) -> Result<Stored<CreatedApiKeyResponse, 201>, ApiError> {
        let idempotent = key.of(&body.json);
        let what = (org.0.0, id.0.0, body.value.overlap_ms.unwrap_or(OVERLAP_MS));
        Ok(api_keys::rotate(caller.app(), &caller, idempotent, what, created).await?.into())
    }

    /// Revoke a key at once and for good; one that is revoked already stays as it is.
    #[oai(
        path = "/organizations/:organizationId/api-keys/:apiKeyId",
        method = "delete",
        operation_id = "revokeOrganizationApiKey"
    )]
    async fn revoke(
        &self,
        caller: Admin,
        #[oai(name = "Idempotency-Key")] key: IdempotencyKey,
        #[oai(name = "organizationId")] org: Path<Wire<OrganizationId>>,
        #[oai(name = "apiKeyId")] id: Path<Wire<ApiKeyId>>,
    ) -> Result<Stored<ApiKeyResponse, 200>, ApiError> {
        let (idempotent, what) = (key.of_no_body(), (org.0.0, id.0.0));
        let print = |key: &ApiKey| answer(StatusCode::OK, &ApiKeyResponse { api_key: key.into() });
        Ok(api_keys::revoke(caller.app(), &caller, idempotent, what, print).await?.into())
    }
}

fn created(key: &ApiKey, secret: Option<&KeySecret>) -> Answer {
    let secret = secret.map(|secret| secret.expose().to_owned());
    answer(StatusCode::CREATED, &CreatedApiKeyResponse { api_key: key.into(), secret })
}
