//! What an organization has and owes, and how much it may be invoiced.

use std::collections::BTreeMap;

use poem::http::StatusCode;
use poem_openapi::{Object, OpenApi, param::Path};
use rust_decimal::Decimal;
use serde::Deserialize;

use billing::money::decimal;
use domain::id::{GrantId, OrganizationId};

use super::{Instant, precise};
use crate::{
    app::{
        admin::accounts,
        billing::{
            balance::{self, Balance, Left, NextPlan},
            manage::SetSpendCap,
        },
        idempotency::Answer,
    },
    http::{
        admin::Tag,
        error::ApiError,
        extract::{Admin, IdempotencyKey, Query, StrictBody},
        responses::{Json, Stored, answer},
        wire::Wire,
    },
};

/// What an organization has and owes at this instant.
#[derive(Debug, Object)]
#[oai(rename = "Balance", rename_all = "camelCase", skip_serializing_if_is_none)]
struct BalanceView {
    org_id: Wire<OrganizationId>,
    /// The organization's name.
    organization: String,
    /// The plan now.
    plan: String,
    /// The plan that is to take effect.
    next_plan: Option<NextPlanView>,
    /// `credit_only`: everything stops when credit ends; `credit_then_invoice`: the rest is invoiced.
    mode: String,
    /// Limits that hold whatever the plan says, by name.
    limits: BTreeMap<String, u64>,
    /// The running month.
    period: String,
    /// The first month without a statement.
    open_since: String,
    /// The pricing version in force.
    pricing_version: String,
    /// ISO 4217.
    currency: String,
    /// Price of a credit.
    currency_per_credit: String,
    /// Credits left, everything paid that was measured up to now.
    credits: String,
    /// The same in money, at the price in force, rounded.
    worth: String,
    /// What was measured and is not booked yet, in credits.
    unsettled_credits: String,
    /// Grants that something is left of in the books, in the order in which they are burnt.
    grants: Vec<LeftView>,
    /// What no credit paid for in the running month as far as it is booked, in money, exactly.
    overage: String,
    /// How much of that a month may have; absent: without end.
    spend_cap: Option<String>,
    /// From when on everything stops if all goes on as it does.
    stops_at: Option<Instant>,
    /// Why: `credit_exhausted` or `billing_spend_cap_reached`.
    stop_code: Option<String>,
}

/// A plan to come.
#[derive(Debug, Object)]
#[oai(rename = "BalanceNextPlan", rename_all = "camelCase")]
struct NextPlanView {
    plan: String,
    /// When it takes effect.
    at: Instant,
}

/// A grant that something is left of.
#[derive(Debug, Object)]
#[oai(rename = "BalanceGrant", rename_all = "camelCase", skip_serializing_if_is_none)]
struct LeftView {
    id: Wire<GrantId>,
    /// `plan`, `adjustment`, `free` or `purchased`.
    kind: String,
    /// Smaller is burnt first.
    priority: i64,
    /// What was granted, in credits.
    granted: String,
    /// What is left of it in the books, in credits.
    left: String,
    /// From when on it pays.
    starts_at: Instant,
    /// When it is lost; absent: never.
    expires_at: Option<Instant>,
}

impl From<Balance> for BalanceView {
    fn from(balance: Balance) -> Self {
        Self {
            org_id: Wire(balance.org_id),
            organization: balance.organization,
            plan: balance.plan,
            next_plan: balance.next_plan.map(Into::into),
            mode: balance.mode,
            limits: balance.limits,
            period: balance.period,
            open_since: balance.open_since,
            pricing_version: balance.pricing_version,
            currency: balance.currency,
            currency_per_credit: balance.currency_per_credit,
            credits: balance.credits,
            worth: balance.worth,
            unsettled_credits: balance.unsettled_credits,
            grants: balance.grants.into_iter().map(Into::into).collect(),
            overage: balance.overage,
            spend_cap: balance.spend_cap,
            stops_at: balance.stops_at.map(precise),
            stop_code: balance.stop_code,
        }
    }
}

impl From<NextPlan> for NextPlanView {
    fn from(next: NextPlan) -> Self {
        Self { plan: next.plan, at: precise(next.at) }
    }
}

impl From<Left> for LeftView {
    fn from(left: Left) -> Self {
        Self {
            id: Wire(left.id),
            kind: left.kind,
            priority: left.priority,
            granted: left.granted,
            left: left.left,
            starts_at: precise(left.starts_at),
            expires_at: left.expires_at.map(precise),
        }
    }
}

/// How much an organization may be invoiced in a month.
#[derive(Debug, Object)]
#[oai(rename = "SpendCap", rename_all = "camelCase", skip_serializing_if_is_none)]
struct SpendCapView {
    /// How much, in the currency of the prices; absent: without end.
    cap: Option<Wire<Decimal>>,
}

/// A spend cap to set.
#[derive(Debug, Object, Deserialize)]
#[oai(rename = "SetSpendCapBody", rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
struct SetSpendCapBody {
    /// How much may be invoiced in a month, in the currency of the prices, with at most nine places.
    cap: Wire<Decimal>,
    /// Why; kept with the change.
    #[oai(validator(min_length = 1, max_length = 500))]
    reason: String,
}

/// The routes of accounts.
#[derive(Debug)]
pub struct Accounts;

#[OpenApi(prefix_path = "/admin/v1", tag = "Tag::Credit")]
impl Accounts {
    /// Get what an organization has and owes, and when it must stop.
    #[oai(
        path = "/organizations/:organizationId/balance",
        method = "get",
        operation_id = "getBalance"
    )]
    async fn balance(
        &self,
        caller: Admin,
        #[oai(name = "organizationId")] id: Path<Wire<OrganizationId>>,
    ) -> Result<Json<BalanceView>, ApiError> {
        Ok(Json(balance::get(caller.app(), id.0.0).await?.into()))
    }

    /// Get how much an organization may be invoiced in a month.
    #[oai(
        path = "/organizations/:organizationId/spend-cap",
        method = "get",
        operation_id = "getSpendCap"
    )]
    async fn spend_cap(
        &self,
        caller: Admin,
        #[oai(name = "organizationId")] id: Path<Wire<OrganizationId>>,
    ) -> Result<Json<SpendCapView>, ApiError> {
        let cap = balance::spend_cap(caller.app(), id.0.0).await?;
        Ok(Json(SpendCapView { cap: cap.map(decimal).map(Wire) }))
    }

    /// Set how much an organization may be invoiced in a month beyond credit.
    #[oai(
        path = "/organizations/:organizationId/spend-cap",
        method = "put",
        operation_id = "setSpendCap"
    )]
    async fn set_spend_cap(
        &self,
        caller: Admin,
        #[oai(name = "organizationId")] id: Path<Wire<OrganizationId>>,
        #[oai(name = "Idempotency-Key")] key: IdempotencyKey,
        body: StrictBody<SetSpendCapBody>,
    ) -> Result<Stored<SpendCapView, 200>, ApiError> {
        let idempotent = key.of(&body.json);
        let SetSpendCapBody { cap, reason } = body.value;
        let set = SetSpendCap { cap: Some(cap.0), reason };
        let made = accounts::change(caller.app(), &caller, idempotent, id.0.0, set, print);
        Ok(made.await?.into())
    }

    /// Let an organization be invoiced without end.
    #[oai(
        path = "/organizations/:organizationId/spend-cap",
        method = "delete",
        operation_id = "removeSpendCap"
    )]
    async fn remove_spend_cap(
        &self,
        caller: Admin,
        #[oai(name = "organizationId")] id: Path<Wire<OrganizationId>>,
        #[oai(name = "Idempotency-Key")] key: IdempotencyKey,
        /// Why; kept with the change.
        reason: Query<String>,
    ) -> Result<Stored<SpendCapView, 200>, ApiError> {
        let set = SetSpendCap { cap: None, reason: reason.0 };
        let idempotent = key.of_no_body();
        let made = accounts::change(caller.app(), &caller, idempotent, id.0.0, set, print);
        Ok(made.await?.into())
    }
}

#[expect(clippy::ref_option, reason = "it is what a change prints: a reference to what it made")]
fn print(cap: &Option<i64>) -> Answer {
    answer(StatusCode::OK, &SpendCapView { cap: cap.map(decimal).map(Wire) })
}
