//! API keys on the wire (contract, section 8.3). Keys can see and revoke keys here; only a person can make
//! one.

use poem::http::StatusCode;
use poem_openapi::{Object, OpenApi, param::Path};
use serde::Deserialize;

use chrono::{DateTime, Utc};
use domain::{
    id::{ApiKeyId, OrganizationId, ProjectId, UserId, entity},
    key::ApiKey,
    scope::Scope,
};
use store::Page;

use super::{
    Tag,
    error::ApiError,
    extract::{Auth, Cursor, Human, JsonBody, KeyReader, Limit, Query, page},
    responses::{Json, Stored, answer, list_view},
    wire::Wire,
};
use crate::app::api_keys;

/// An API key without its secret.
#[derive(Debug, Object)]
#[oai(rename = "ApiKey", rename_all = "camelCase", skip_serializing_if_is_none)]
pub struct ApiKeyView {
    id: Wire<ApiKeyId>,
    org_id: Wire<OrganizationId>,
    name: String,
    /// The first 18 characters of the key.
    prefix: String,
    /// The last four characters of the key.
    last4: String,
    /// The projects it is restricted to; absent: all of the organization's.
    project_ids: Option<Vec<Wire<ProjectId>>>,
    scopes: Vec<Wire<Scope>>,
    created_by_user_id: Wire<UserId>,
    created_at: Wire<DateTime<Utc>>,
    /// When it was revoked; it has opened nothing since.
    revoked_at: Option<Wire<DateTime<Utc>>>,
    /// From this instant on it opens nothing, because it was rotated.
    expires_at: Option<Wire<DateTime<Utc>>>,
    /// The key that takes its place.
    replaced_by_api_key_id: Option<Wire<ApiKeyId>>,
    /// When it was last used, to the minute.
    last_used_at: Option<Wire<DateTime<Utc>>>,
}

impl From<&ApiKey> for ApiKeyView {
    fn from(key: &ApiKey) -> Self {
        let projects = key.project_ids.as_ref();
        Self {
            id: Wire(key.id),
            org_id: Wire(key.org_id),
            name: key.name.clone(),
            prefix: key.prefix(),
            last4: key.last_four.clone(),
            project_ids: projects.map(|ids| ids.iter().copied().map(Wire).collect()),
            scopes: key.scopes.iter().map(Wire).collect(),
            created_by_user_id: Wire(key.created_by),
            created_at: Wire(key.created_at),
            revoked_at: key.revoked_at.map(Wire),
            expires_at: key.expires_at.map(Wire),
            replaced_by_api_key_id: key.replaced_by.map(Wire),
            last_used_at: key.last_used_at.map(Wire),
        }
    }
}

list_view! {
    /// A page of API keys.
    ApiKeyList of ApiKeyView
}

impl From<Page<ApiKey>> for ApiKeyList {
    fn from(found: Page<ApiKey>) -> Self {
        Self::new(found.items.iter().map(ApiKeyView::from).collect(), found.has_more)
    }
}

/// One API key.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub struct ApiKeyResponse {
    pub(in crate::http) api_key: ApiKeyView,
}

/// What a new key is made from.
#[derive(Debug, Object, Deserialize)]
#[oai(rename = "CreateApiKeyBody", rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
struct CreateApiKey {
    /// What to call it; names need not be unique.
    #[oai(validator(min_length = 1, max_length = 128))]
    name: String,
    /// What it may do.
    #[oai(validator(min_items = 1))]
    scopes: Vec<Wire<Scope>>,
    /// The projects to restrict it to; absent: all of the organization's.
    #[oai(validator(min_items = 1, max_items = 100))]
    project_ids: Option<Vec<Wire<ProjectId>>>,
}

/// A new API key.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct CreateApiKeyResponse {
    api_key: ApiKeyView,
    /// The key itself. It is shown here and never again.
    secret: String,
}

/// The routes of API keys.
#[derive(Debug)]
pub struct ApiKeys;

#[OpenApi(prefix_path = "/v1", tag = "Tag::ApiKeys")]
impl ApiKeys {
    /// List the organization's keys, revoked ones included, newest first.
    #[oai(path = "/api-keys", method = "get", operation_id = "listApiKeys")]
    async fn list(
        &self,
        reader: KeyReader,
        limit: Query<Limit<50>>,
        cursor: Query<Option<Cursor<entity::ApiKey>>>,
    ) -> Result<Json<ApiKeyList>, ApiError> {
        let reach = reader.reach.clone();
        Ok(Json(api_keys::list(reader.app(), reach, page(&limit, cursor)).await?.into()))
    }

    /// Make a key, as a person; keys cannot.
    #[oai(path = "/api-keys", method = "post", operation_id = "createApiKey")]
    async fn create(
        &self,
        human: Human,
        body: JsonBody<CreateApiKey>,
    ) -> Result<Stored<CreateApiKeyResponse, 201>, ApiError> {
        let CreateApiKey { name, scopes, project_ids } = body.value;
        let wanted = api_keys::Wanted {
            name,
            scopes: scopes.into_iter().map(|scope| scope.0).collect(),
            project_ids: project_ids.map(|ids| ids.into_iter().map(|id| id.0).collect()),
        };
        let (key, secret) = api_keys::create(human.app(), &human.session, wanted).await?;
        let secret = secret.expose().to_owned();
        let view = CreateApiKeyResponse { api_key: (&key).into(), secret };
        Ok(answer(StatusCode::CREATED, &view).into())
    }

    /// Get one key.
    #[oai(path = "/api-keys/:apiKeyId", method = "get", operation_id = "getApiKey")]
    async fn get(
        &self,
        caller: Auth,
        #[oai(name = "apiKeyId")] id: Path<Wire<ApiKeyId>>,
    ) -> Result<Json<ApiKeyResponse>, ApiError> {
        let key = api_keys::get(caller.app(), &caller, id.0.0).await?;
        Ok(Json(ApiKeyResponse { api_key: (&key).into() }))
    }

    /// Revoke a key at once and for good; one that is revoked already stays as it is.
    #[oai(path = "/api-keys/:apiKeyId", method = "delete", operation_id = "revokeApiKey")]
    async fn revoke(
        &self,
        caller: Auth,
        #[oai(name = "apiKeyId")] id: Path<Wire<ApiKeyId>>,
    ) -> Result<Json<ApiKeyResponse>, ApiError> {
        let key = api_keys::revoke(caller.app(), &caller, id.0.0).await?;
        Ok(Json(ApiKeyResponse { api_key: (&key).into() }))
    }
}
