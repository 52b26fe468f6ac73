//! Organizations on the admin API's wire.

use std::collections::BTreeMap;

use poem::http::StatusCode;
use poem_openapi::{Object, OpenApi, param::Path};
use serde::Deserialize;

use chrono::{DateTime, Utc};
use domain::{
    id::{OrganizationId, entity},
    limits::Plan,
    organization::Organization,
};

use super::Tag;
use crate::{
    app::admin::organizations::{self, NewOrganization},
    http::{
        error::ApiError,
        extract::{Admin, Cursor, IdempotencyKey, Limit, Query, StrictBody, page},
        responses::{Json, Stored, answer, list_view},
        wire::Wire,
    },
};

/// A customer.
#[derive(Debug, Object)]
#[oai(rename = "Organization", rename_all = "camelCase", skip_serializing_if_is_none)]
struct OrganizationView {
    id: Wire<OrganizationId>,
    /// Unique in the installation.
    name: String,
    plan: Wire<Plan>,
    /// The plan that is to take effect later.
    next_plan: Option<NextPlanView>,
    /// Limits that hold whatever the plan says, by name.
    limit_overrides: BTreeMap<String, u64>,
    /// Since when its keys open nothing.
    suspended_at: Option<Wire<DateTime<Utc>>>,
    created_at: Wire<DateTime<Utc>>,
}

/// A plan that is to take effect.
#[derive(Debug, Object)]
#[oai(rename = "NextPlan", rename_all = "camelCase")]
struct NextPlanView {
    plan: Wire<Plan>,
    takes_effect_at: Wire<DateTime<Utc>>,
}

impl From<&Organization> for OrganizationView {
    fn from(organization: &Organization) -> Self {
        let next = organization.next_plan;
        Self {
            id: Wire(organization.id),
            name: organization.name.clone(),
            plan: Wire(organization.plan),
            next_plan: next
                .map(|(plan, at)| NextPlanView { plan: Wire(plan), takes_effect_at: Wire(at) }),
            limit_overrides: organization.limit_overrides.clone(),
            suspended_at: organization.suspended_at.map(Wire),
            created_at: Wire(organization.created_at),
        }
    }
}

list_view! {
    /// A page of organizations.
    OrganizationList of OrganizationView
}

/// One organization.
#[derive(Debug, Object)]
struct OrganizationResponse {
    organization: OrganizationView,
}

impl From<&Organization> for OrganizationResponse {
    fn from(organization: &Organization) -> Self {
        Self { organization: organization.into() }
    }
}

/// What a new organization is made from.
#[derive(Debug, Object, Deserialize)]
#[oai(rename = "CreateOrganizationBody", rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
struct CreateOrganization {
    /// Its name, unique in the installation.
    #[oai(validator(min_length = 1, max_length = 128))]
    name: String,
    /// Its plan; absent: the installation's default one.
    plan: Option<Wire<Plan>>,
}

/// The routes of organizations.
#[derive(Debug)]
pub struct Organizations;

#[OpenApi(prefix_path = "/admin/v1", tag = "Tag::Organizations")]
impl Organizations {
    /// List all organizations, newest first.
    #[oai(path = "/organizations", method = "get", operation_id = "listOrganizations")]
    async fn list(
        &self,
        caller: Admin,
        limit: Query<Limit<50>>,
        cursor: Query<Option<Cursor<entity::Organization>>>,
    ) -> Result<Json<OrganizationList>, ApiError> {
        let found = organizations::list(caller.app(), page(&limit, cursor)).await?;
        let views = found.items.iter().map(OrganizationView::from).collect();
        Ok(Json(OrganizationList::new(views, found.has_more)))
    }

    /// Create an organization with a default project and an account, and without a key.
    #[oai(path = "/organizations", method = "post", operation_id = "createOrganization")]
    async fn create(
        &self,
        caller: Admin,
        #[oai(name = "Idempotency-Key")] key: IdempotencyKey,
        body: StrictBody<CreateOrganization>,
    ) -> Result<Stored<OrganizationResponse, 201>, ApiError> {
        let idempotent = key.of(&body.json);
        let new =
            NewOrganization { name: body.value.name, plan: body.value.plan.map(|Wire(plan)| plan) };
        let print =
            |made: &Organization| answer(StatusCode::CREATED, &OrganizationResponse::from(made));
        Ok(organizations::create(caller.app(), &caller, idempotent, new, print).await?.into())
    }

    /// Get one organization.
    #[oai(
        path = "/organizations/:organizationId",
        method = "get",
        operation_id = "getOrganization"
    )]
    async fn get(
        &self,
        caller: Admin,
        #[oai(name = "organizationId")] id: Path<Wire<OrganizationId>>,
    ) -> Result<Json<OrganizationResponse>, ApiError> {
        Ok(Json((&organizations::get(caller.app(), id.0.0).await?).into()))
    }
}
