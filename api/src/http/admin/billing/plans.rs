//! Plans, and what holds for an organization whatever its plan says.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use poem::http::StatusCode;
use poem_openapi::{Object, OpenApi, param::Path};
use rust_decimal::Decimal;
use serde::Deserialize;

use billing::{
    money::decimal,
    plan::{Mode, terms},
};
use domain::{
    id::OrganizationId,
    limits::{Limits, Plan},
    organization::Organization,
};

use super::{Instant, precise};
use crate::{
    app::{
        App,
        admin::{
            accounts,
            books::{self, TermsChange},
            organizations,
        },
        billing::manage::{SetLimit, SetPlan},
        idempotency::Answer,
    },
    http::{
        admin::Tag,
        error::ApiError,
        extract::{Admin, IdempotencyKey, Limit, Position, Query, StrictBody},
        responses::{Json, Stored, answer, list_view},
        wire::Wire,
    },
};

/// A plan that the installation offers.
#[derive(Debug, Object)]
#[oai(rename = "Plan", rename_all = "camelCase")]
struct PlanView {
    plan: Wire<Plan>,
    /// `credit_only`: everything stops when credit ends; `credit_then_invoice`: the rest is invoiced.
    mode: String,
    /// Worth of the credit that comes once in an organization's life, in the currency of the prices.
    credit_once: Wire<Decimal>,
    /// Worth of the credit that comes each month and is lost with it.
    credit_each_month: Wire<Decimal>,
    /// Its limits by name; one that is absent has no end.
    limits: BTreeMap<String, u64>,
}

/// Every plan that the installation offers.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct PlanList {
    /// The smallest first.
    data: Vec<PlanView>,
}

/// What holds for an organization.
#[derive(Debug, Object)]
#[oai(rename = "OrganizationTerms", rename_all = "camelCase", skip_serializing_if_is_none)]
struct TermsView {
    org_id: Wire<OrganizationId>,
    /// The plan now.
    plan: Wire<Plan>,
    /// The plan that is to take effect later.
    next_plan: Option<NextPlanView>,
    /// `credit_only` or `credit_then_invoice`.
    mode: String,
    /// The limits that hold now, by name; one that is absent has no end.
    limits: BTreeMap<String, u64>,
    /// Those of them that hold whatever the plan says.
    limit_overrides: BTreeMap<String, u64>,
}

/// A plan that is to take effect.
#[derive(Debug, Object)]
#[oai(rename = "PlanToCome", rename_all = "camelCase")]
struct NextPlanView {
    plan: Wire<Plan>,
    takes_effect_at: Instant,
}

/// A change of an organization's plan, spend cap or limits.
#[derive(Debug, Object)]
#[oai(rename = "TermsChange", rename_all = "camelCase", skip_serializing_if_is_none)]
struct ChangeView {
    /// Its number among the organization's.
    seq: i64,
    /// `plan`, `spend_cap`, or the name of a limit.
    setting: String,
    /// What it was set to; absent: it was removed.
    value: Option<String>,
    takes_effect_at: Instant,
    reason: String,
    made_at: Instant,
}

list_view! {
    /// A page of changes.
    TermsChangeList of ChangeView, by |change| change.seq
}

/// A plan to set.
#[derive(Debug, Object, Deserialize)]
#[oai(rename = "SetPlanBody", rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
struct SetPlanBody {
    plan: Wire<Plan>,
    /// When it takes effect; absent: now. A change that is to come replaces one that was.
    at: Option<Wire<DateTime<Utc>>>,
    /// Why; kept with the change.
    #[oai(validator(min_length = 1, max_length = 500))]
    reason: String,
}

/// A limit to set.
#[derive(Debug, Object, Deserialize)]
#[oai(rename = "SetLimitBody", rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
struct SetLimitBody {
    /// The limit, in its own unit.
    value: u64,
    /// Why; kept with the change.
    #[oai(validator(min_length = 1, max_length = 500))]
    reason: String,
}

pub(super) const fn mode(plan: Plan) -> &'static str {
    match terms(plan).mode {
        Mode::CreditOnly => "credit_only",
        Mode::CreditThenInvoice => "credit_then_invoice",
    }
}

fn named(limits: &Limits) -> BTreeMap<String, u64> {
    limits.named().map(|(name, value)| (name.to_owned(), value)).collect()
}

impl PlanView {
    fn of(app: &App, plan: Plan) -> Self {
        let terms = terms(plan);
        Self {
            plan: Wire(plan),
            mode: mode(plan).to_owned(),
            credit_once: Wire(decimal(terms.once)),
            credit_each_month: Wire(decimal(terms.each_period)),
            limits: named(&app.config.plan_limits(plan)),
        }
    }
}

impl TermsView {
    fn at(app: &App, organization: &Organization, now: DateTime<Utc>) -> Self {
        let plan = organization.plan_at(now);
        let next = organization.next_plan.filter(|(_, at)| *at > now);
        Self {
            org_id: Wire(organization.id),
            plan: Wire(plan),
            next_plan: next
                .map(|(plan, at)| NextPlanView { plan: Wire(plan), takes_effect_at: precise(at) }),
            mode: mode(plan).to_owned(),
            limits: named(&app.config.limits(organization, now)),
            limit_overrides: organization.limit_overrides.clone(),
        }
    }
}

impl From<&TermsChange> for ChangeView {
    fn from(change: &TermsChange) -> Self {
        Self {
            seq: change.seq,
            setting: change.setting.clone(),
            value: change.value.clone(),
            takes_effect_at: precise(change.takes_effect_at),
            reason: change.reason.clone(),
            made_at: precise(change.made_at),
        }
    }
}

/// The routes of plans and terms.
#[derive(Debug)]
pub struct Plans;

#[OpenApi(prefix_path = "/admin/v1", tag = "Tag::Plans")]
impl Plans {
    /// List the plans that the installation offers, the smallest first.
    #[oai(path = "/plans", method = "get", operation_id = "listPlans")]
    async fn list(&self, caller: Admin) -> Result<Json<PlanList>, ApiError> {
        let offered = caller.app().config.catalogue().plans();
        let data = offered.iter().map(|plan| PlanView::of(caller.app(), *plan)).collect();
        Ok(Json(PlanList { data }))
    }

    /// Get a plan; also one that the installation does not offer any more.
    #[oai(path = "/plans/:plan", method = "get", operation_id = "getPlan")]
    async fn get(&self, caller: Admin, plan: Path<Wire<Plan>>) -> Result<Json<PlanView>, ApiError> {
        Ok(Json(PlanView::of(caller.app(), plan.0.0)))
    }

    /// Get an organization's plan and the limits that hold for it.
    #[oai(
        path = "/organizations/:organizationId/plan",
        method = "get",
        operation_id = "getOrganizationPlan"
    )]
    async fn terms(
        &self,
        caller: Admin,
        #[oai(name = "organizationId")] id: Path<Wire<OrganizationId>>,
    ) -> Result<Json<TermsView>, ApiError> {
        let organization = organizations::get(caller.app(), id.0.0).await?;
        let now = caller.app().clock.now();
        Ok(Json(TermsView::at(caller.app(), &organization, now)))
    }

    /// Set an organization's plan, at once or at an instant to come.
    ///
    /// What was used before keeps its terms.
    #[oai(
        path = "/organizations/:organizationId/plan",
        method = "put",
        operation_id = "setOrganizationPlan"
    )]
    async fn set(
        &self,
        caller: Admin,
        #[oai(name = "organizationId")] id: Path<Wire<OrganizationId>>,
        #[oai(name = "Idempotency-Key")] key: IdempotencyKey,
        body: StrictBody<SetPlanBody>,
    ) -> Result<Stored<TermsView, 200>, ApiError> {
        let idempotent = key.of(&body.json);
        let SetPlanBody { plan, at, reason } = body.value;
        let set = SetPlan { plan: plan.0, at: at.map(|at| at.0), reason };
        let print = print(caller.app());
        let made = accounts::change(caller.app(), &caller, idempotent, id.0.0, set, print);
        Ok(made.await?.into())
    }

    /// Set a limit that holds whatever the organization's plan says.
    #[oai(
        path = "/organizations/:organizationId/limit-overrides/:limitName",
        method = "put",
        operation_id = "setLimitOverride"
    )]
    async fn set_limit(
        &self,
        caller: Admin,
        #[oai(name = "organizationId")] id: Path<Wire<OrganizationId>>,
        #[oai(name = "limitName")] limit: Path<String>,
        #[oai(name = "Idempotency-Key")] key: IdempotencyKey,
        body: StrictBody<SetLimitBody>,
    ) -> Result<Stored<TermsView, 200>, ApiError> {
        let idempotent = key.of(&body.json);
        let SetLimitBody { value, reason } = body.value;
        let set = SetLimit { name: limit.0, value: Some(value), reason };
        let print = print(caller.app());
        let made = accounts::change(caller.app(), &caller, idempotent, id.0.0, set, print);
        Ok(made.await?.into())
    }

    /// Leave a limit to the organization's plan again.
    #[oai(
        path = "/organizations/:organizationId/limit-overrides/:limitName",
        method = "delete",
        operation_id = "removeLimitOverride"
    )]
    async fn remove_limit(
        &self,
        caller: Admin,
        #[oai(name = "organizationId")] id: Path<Wire<OrganizationId>>,
        #[oai(name = "limitName")] limit: Path<String>,
        #[oai(name = "Idempotency-Key")] key: IdempotencyKey,
        /// Why; kept with the change.
        reason: Query<String>,
    ) -> Result<Stored<TermsView, 200>, ApiError> {
        let set = SetLimit { name: limit.0, value: None, reason: reason.0 };
        let (idempotent, print) = (key.of_no_body(), print(caller.app()));
        let made = accounts::change(caller.app(), &caller, idempotent, id.0.0, set, print);
        Ok(made.await?.into())
    }

    /// List what was changed of an organization's plan, spend cap and limits, the last change first.
    #[oai(
        path = "/organizations/:organizationId/terms-changes",
        method = "get",
        operation_id = "listTermsChanges"
    )]
    async fn changes(
        &self,
        caller: Admin,
        #[oai(name = "organizationId")] id: Path<Wire<OrganizationId>>,
        limit: Query<Limit<50>>,
        cursor: Query<Option<Position>>,
    ) -> Result<Json<TermsChangeList>, ApiError> {
        let before = cursor.0.map(|cursor| cursor.0);
        let found = books::terms_changes(caller.app(), id.0.0, before, limit.0.0).await?;
        let views = found.items.iter().map(ChangeView::from).collect();
        Ok(Json(TermsChangeList::new(views, found.has_more)))
    }
}

fn print(app: &App) -> impl Fn(&Organization) -> Answer + Send + '_ {
    move |organization| answer(StatusCode::OK, &TermsView::at(app, organization, app.clock.now()))
}
