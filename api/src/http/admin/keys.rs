//! Operators' keys on the admin API's wire.

use poem::http::StatusCode;
use poem_openapi::{Object, OpenApi, param::Path};
use serde::Deserialize;

use chrono::{DateTime, Utc};
use domain::{
    admin::{AdminKey, Role},
    id::{AdminKeyId, entity},
    key::KeySecret,
};

use super::Tag;
use crate::{
    app::admin::keys::{self, NewAdminKey},
    http::{
        error::ApiError,
        extract::{Admin, Cursor, IdempotencyKey, Limit, Query, StrictBody, page},
        responses::{Json, Stored, answer, list_view},
        wire::Wire,
    },
};

/// An admin key without its secret.
#[derive(Debug, Object)]
#[oai(rename = "AdminKey", rename_all = "camelCase", skip_serializing_if_is_none)]
struct AdminKeyView {
    id: Wire<AdminKeyId>,
    name: String,
    role: Wire<Role>,
    /// The first 19 characters of the key.
    prefix: String,
    /// The last four characters of the key.
    last4: String,
    /// The admin key that made it; absent: it was made on the command line.
    created_by_admin_key_id: Option<Wire<AdminKeyId>>,
    created_at: Wire<DateTime<Utc>>,
    /// When it was revoked; it has opened nothing since.
    revoked_at: Option<Wire<DateTime<Utc>>>,
    /// When it was last used, to the minute.
    last_used_at: Option<Wire<DateTime<Utc>>>,
}

impl From<&AdminKey> for AdminKeyView {
    fn from(key: &AdminKey) -> Self {
        Self {
            id: Wire(key.id),
            name: key.name.clone(),
            role: Wire(key.role),
            prefix: key.prefix(),
            last4: key.last_four.clone(),
            created_by_admin_key_id: key.created_by.map(Wire),
            created_at: Wire(key.created_at),
            revoked_at: key.revoked_at.map(Wire),
            last_used_at: key.last_used_at.map(Wire),
        }
    }
}

list_view! {
    /// A page of admin keys.
    AdminKeyList of AdminKeyView
}

/// One admin key.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct AdminKeyResponse {
    admin_key: AdminKeyView,
}

impl From<&AdminKey> for AdminKeyResponse {
    fn from(key: &AdminKey) -> Self {
        Self { admin_key: key.into() }
    }
}

/// A new admin key.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct CreatedAdminKeyResponse {
    admin_key: AdminKeyView,
    /// The key itself, in the first answer only: it is stored nowhere, so a replay lacks it.
    secret: Option<String>,
}

/// What a new admin key is made from.
#[derive(Debug, Object, Deserialize)]
#[oai(rename = "CreateAdminKeyBody", rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
struct CreateAdminKey {
    /// What to call it, such as its owner's name.
    #[oai(validator(min_length = 1, max_length = 128))]
    name: String,
    role: Wire<Role>,
}

/// The routes of admin keys.
#[derive(Debug)]
pub struct AdminKeys;

#[OpenApi(prefix_path = "/admin/v1", tag = "Tag::AdminKeys")]
impl AdminKeys {
    /// List all admin keys, revoked ones included, newest first.
    #[oai(path = "/admin-keys", method = "get", operation_id = "listAdminKeys")]
    async fn list(
        &self,
        caller: Admin,
        limit: Query<Limit<50>>,
        cursor: Query<Option<Cursor<entity::AdminKey>>>,
    ) -> Result<Json<AdminKeyList>, ApiError> {
        let found = keys::list(caller.app(), page(&limit, cursor)).await?;
        let views = found.items.iter().map(AdminKeyView::from).collect();
        Ok(Json(AdminKeyList::new(views, found.has_more)))
    }

    /// Create an admin key. The answer shows it once.
    #[oai(path = "/admin-keys", method = "post", operation_id = "createAdminKey")]
    async fn create(
        &self,
        caller: Admin,
        #[oai(name = "Idempotency-Key")] key: IdempotencyKey,
        body: StrictBody<CreateAdminKey>,
    ) -> Result<Stored<CreatedAdminKeyResponse, 201>, ApiError> {
        let idempotent = key.of(&body.json);
        let new = NewAdminKey { name: body.value.name, role: body.value.role.0 };
        let print = |key: &AdminKey, secret: Option<&KeySecret>| {
            let secret = secret.map(|secret| secret.expose().to_owned());
            let view = CreatedAdminKeyResponse { admin_key: key.into(), secret };
            answer(StatusCode::CREATED, &view)
        };
        Ok(keys::create(caller.app(), &caller, idempotent, new, print).await?.into())
    }

    /// Get one admin key.
    #[oai(path = "/admin-keys/:adminKeyId", method = "get", operation_id = "getAdminKey")]
    async fn get(
        &self,
        caller: Admin,
        #[oai(name = "adminKeyId")] id: Path<Wire<AdminKeyId>>,
    ) -> Result<Json<AdminKeyResponse>, ApiError> {
        Ok(Json((&keys::get(caller.app(), id.0.0).await?).into()))
    }

    /// Revoke an admin key at once and for good; one that is revoked already stays as it is.
    #[oai(path = "/admin-keys/:adminKeyId", method = "delete", operation_id = "revokeAdminKey")]
    async fn revoke(
        &self,
        caller: Admin,
        #[oai(name = "Idempotency-Key")] key: IdempotencyKey,
        #[oai(name = "adminKeyId")] id: Path<Wire<AdminKeyId>>,
    ) -> Result<Stored<AdminKeyResponse, 200>, ApiError> {
        let idempotent = key.of_no_body();
        let print = |key: &AdminKey| answer(StatusCode::OK, &AdminKeyResponse::from(key));
        Ok(keys::revoke(caller.app(), &caller, idempotent, id.0.0, print).await?.into())
    }
}
