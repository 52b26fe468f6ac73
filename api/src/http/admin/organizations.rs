//! Organizations on the admin API's wire.

use std::collections::BTreeMap;

use poem::http::StatusCode;
use poem_openapi::{Enum, Object, OpenApi, param::Path};
use serde::Deserialize;

use chrono::{DateTime, Utc};
use domain::{
    id::{OrganizationId, entity},
    limits::Plan,
    organization::{Organization, Standing},
};

use super::Tag;
use crate::{
    app::{
        admin::{
            organizations::{self, NewOrganization},
            standing,
        },
        idempotency::Answer,
    },
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
    /// Its keys open nothing unless it is active.
    status: OrganizationStatus,
    /// Since when it is suspended or closed.
    status_since: Option<Wire<DateTime<Utc>>>,
    /// Why it is suspended or closed.
    status_reason: Option<String>,
    /// When its sandboxes end, as long as some may run.
    cleanup_at: Option<Wire<DateTime<Utc>>>,
    created_at: Wire<DateTime<Utc>>,
}

/// Whether an organization's keys open anything.
#[derive(Debug, Enum)]
#[oai(rename_all = "snake_case")]
enum OrganizationStatus {
    Active,
    Suspended,
    Closed,
}

impl From<&Standing> for OrganizationStatus {
    fn from(standing: &Standing) -> Self {
        match standing {
            Standing::Active => Self::Active,
            Standing::Suspended { .. } => Self::Suspended,
            Standing::Closed { .. } => Self::Closed,
        }
    }
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
        let since = organization.standing.since();
        Self {
            id: Wire(organization.id),
            name: organization.name.clone(),
            plan: Wire(organization.plan),
            next_plan: next
                .map(|(plan, at)| NextPlanView { plan: Wire(plan), takes_effect_at: Wire(at) }),
            limit_overrides: organization.limit_overrides.clone(),
            status: (&organization.standing).into(),
            status_since: since.map(|(since, _)| Wire(since)),
            status_reason: since.map(|(_, reason)| reason.to_owned()),
            cleanup_at: organization.cleanup_at.map(Wire),
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

/// Why something is done.
#[derive(Debug, Object, Deserialize)]
#[oai(rename = "ReasonBody", rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
struct Reason {
    /// Why; kept with the change.
    #[oai(validator(min_length = 1, max_length = 500))]
    reason: String,
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

    /// Suspend an organization: its keys open nothing, and its sandboxes end after a grace period.
    #[oai(
        path = "/organizations/:organizationId/suspend",
        method = "post",
        operation_id = "suspendOrganization"
    )]
    async fn suspend(
        &self,
        caller: Admin,
        #[oai(name = "Idempotency-Key")] key: IdempotencyKey,
        #[oai(name = "organizationId")] id: Path<Wire<OrganizationId>>,
        body: StrictBody<Reason>,
    ) -> Result<Stored<OrganizationResponse, 200>, ApiError> {
        let (idempotent, what) = (key.of(&body.json), (id.0.0, &*body.value.reason));
        Ok(standing::suspend(caller.app(), &caller, idempotent, what, ok).await?.into())
    }

    /// Resume a suspended organization and spare what still runs of it.
    #[oai(
        path = "/organizations/:organizationId/resume",
        method = "post",
        operation_id = "resumeOrganization"
    )]
    async fn resume(
        &self,
        caller: Admin,
        #[oai(name = "Idempotency-Key")] key: IdempotencyKey,
        #[oai(name = "organizationId")] id: Path<Wire<OrganizationId>>,
    ) -> Result<Stored<OrganizationResponse, 200>, ApiError> {
        let idempotent = key.of_no_body();
        Ok(standing::resume(caller.app(), &caller, idempotent, id.0.0, ok).await?.into())
    }

    /// Close an organization for good and end what runs of it; its data and ledger stay.
    #[oai(
        path = "/organizations/:organizationId/close",
        method = "post",
        operation_id = "closeOrganization"
    )]
    async fn close(
        &self,
        caller: Admin,
        #[oai(name = "Idempotency-Key")] key: IdempotencyKey,
        #[oai(name = "organizationId")] id: Path<Wire<OrganizationId>>,
        body: StrictBody<Reason>,
    ) -> Result<Stored<OrganizationResponse, 200>, ApiError> {
        let (idempotent, what) = (key.of(&body.json), (id.0.0, &*body.value.reason));
        Ok(standing::close(caller.app(), &caller, idempotent, what, ok).await?.into())
    }
}

fn ok(organization: &Organization) -> Answer {
    answer(StatusCode::OK, &OrganizationResponse::from(organization))
}
