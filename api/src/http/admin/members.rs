//! Members of organizations on the admin API's wire.

use poem::http::StatusCode;
use poem_openapi::{Object, OpenApi, param::Path};
use serde::Deserialize;

use chrono::{DateTime, Utc};
use domain::{
    id::{OrganizationId, UserId, entity},
    organization::{MemberRole, User},
};

use super::Tag;
use crate::{
    app::admin::members,
    http::{
        error::ApiError,
        extract::{Admin, Cursor, IdempotencyKey, Limit, Query, StrictBody, page},
        responses::{Json, Stored, answer, list_view},
        wire::Wire,
    },
};

/// A person in an organization.
#[derive(Debug, Object)]
#[oai(rename = "Member", rename_all = "camelCase", skip_serializing_if_is_none)]
struct MemberView {
    id: Wire<UserId>,
    org_id: Wire<OrganizationId>,
    /// Unique in the organization.
    email: String,
    role: Wire<MemberRole>,
    created_at: Wire<DateTime<Utc>>,
    /// When they were removed.
    removed_at: Option<Wire<DateTime<Utc>>>,
}

impl From<&User> for MemberView {
    fn from(user: &User) -> Self {
        Self {
            id: Wire(user.id),
            org_id: Wire(user.org_id),
            email: user.email.clone(),
            role: Wire(user.role),
            created_at: Wire(user.created_at),
            removed_at: user.removed_at.map(Wire),
        }
    }
}

list_view! {
    /// A page of members.
    MemberList of MemberView
}

/// One member.
#[derive(Debug, Object)]
struct MemberResponse {
    member: MemberView,
}

impl From<&User> for MemberResponse {
    fn from(user: &User) -> Self {
        Self { member: user.into() }
    }
}

/// Who is added.
#[derive(Debug, Object, Deserialize)]
#[oai(rename = "AddMemberBody", rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
struct AddMember {
    #[oai(validator(max_length = 254))]
    email: String,
    role: Wire<MemberRole>,
}

/// The routes of members.
#[derive(Debug)]
pub struct Members;

#[OpenApi(prefix_path = "/admin/v1", tag = "Tag::Members")]
impl Members {
    /// List an organization's members, newest first.
    #[oai(
        path = "/organizations/:organizationId/members",
        method = "get",
        operation_id = "listMembers"
    )]
    async fn list(
        &self,
        caller: Admin,
        #[oai(name = "organizationId")] org: Path<Wire<OrganizationId>>,
        limit: Query<Limit<50>>,
        cursor: Query<Option<Cursor<entity::User>>>,
    ) -> Result<Json<MemberList>, ApiError> {
        let found = members::list(caller.app(), org.0.0, page(&limit, cursor)).await?;
        let views = found.items.iter().map(MemberView::from).collect();
        Ok(Json(MemberList::new(views, found.has_more)))
    }

    /// Add a member; one who was removed is back.
    #[oai(
        path = "/organizations/:organizationId/members",
        method = "post",
        operation_id = "addMember"
    )]
    async fn add(
        &self,
        caller: Admin,
        #[oai(name = "Idempotency-Key")] key: IdempotencyKey,
        #[oai(name = "organizationId")] org: Path<Wire<OrganizationId>>,
        body: StrictBody<AddMember>,
    ) -> Result<Stored<MemberResponse, 201>, ApiError> {
        let idempotent = key.of(&body.json);
        let who = (org.0.0, &*body.value.email, body.value.role.0);
        let print = |user: &User| answer(StatusCode::CREATED, &MemberResponse::from(user));
        Ok(members::add(caller.app(), &caller, idempotent, who, print).await?.into())
    }

    /// Remove a member and revoke the keys that were made for them.
    #[oai(
        path = "/organizations/:organizationId/members/:userId",
        method = "delete",
        operation_id = "removeMember"
    )]
    async fn remove(
        &self,
        caller: Admin,
        #[oai(name = "Idempotency-Key")] key: IdempotencyKey,
        #[oai(name = "organizationId")] org: Path<Wire<OrganizationId>>,
        #[oai(name = "userId")] id: Path<Wire<UserId>>,
    ) -> Result<Stored<MemberResponse, 200>, ApiError> {
        let (idempotent, who) = (key.of_no_body(), (org.0.0, id.0.0));
        let print = |user: &User| answer(StatusCode::OK, &MemberResponse::from(user));
        Ok(members::remove(caller.app(), &caller, idempotent, who, print).await?.into())
    }
}
