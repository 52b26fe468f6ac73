//! Credit that operators give and take.

use chrono::{DateTime, Utc};
use poem::http::StatusCode;
use poem_openapi::{Object, OpenApi, param::Path};
use rust_decimal::Decimal;
use serde::Deserialize;

use billing::{
    credit::{Grant, GrantKind},
    money::decimal,
};
use domain::{
    Refused,
    id::{GrantId, OrganizationId, entity},
};

use super::{Instant, ledger::TransactionView, precise};
use crate::{
    app::{
        admin::{accounts, books},
        billing::manage::{Credited, NewGrant, TakeBack},
        idempotency::Answer,
    },
    http::{
        admin::Tag,
        error::ApiError,
        extract::{Admin, Cursor, IdempotencyKey, Limit, Query, StrictBody, page},
        responses::{Json, Stored, answer, list_view},
        wire::Wire,
    },
};

/// Credit that was granted.
#[derive(Debug, Object)]
#[oai(rename = "CreditGrant", rename_all = "camelCase", skip_serializing_if_is_none)]
struct GrantView {
    id: Wire<GrantId>,
    kind: Wire<GrantKind>,
    /// Smaller is burnt first.
    priority: i64,
    /// What was granted, in credits.
    granted: Wire<Decimal>,
    /// What is left of it in the books, in credits.
    left: Wire<Decimal>,
    /// From when on it pays.
    starts_at: Instant,
    /// When what is left is lost; absent: never.
    expires_at: Option<Instant>,
}

impl From<&Grant> for GrantView {
    fn from(grant: &Grant) -> Self {
        Self {
            id: Wire(grant.id),
            kind: Wire(grant.kind),
            priority: grant.priority,
            granted: Wire(decimal(grant.amount)),
            left: Wire(decimal(grant.remaining)),
            starts_at: precise(grant.starts_at),
            expires_at: grant.expires_at.map(precise),
        }
    }
}

list_view! {
    /// A page of grants.
    CreditGrantList of GrantView
}

/// Credit that was given or taken.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct CreditResponse {
    /// The grant as it is now.
    grant: GrantView,
    /// What gave, or took.
    transaction: TransactionView,
}

impl From<&Credited> for CreditResponse {
    fn from(credited: &Credited) -> Self {
        Self { grant: (&credited.grant).into(), transaction: (&credited.transaction).into() }
    }
}

/// Credit to grant.
#[derive(Debug, Object, Deserialize)]
#[oai(rename = "GrantCreditBody", rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
struct GrantCredit {
    /// Where it comes from: `purchased`, `adjustment` or `free`; `plan` credit comes with the plan.
    kind: Wire<GrantKind>,
    /// How much, above zero, with at most nine places.
    credits: Wire<Decimal>,
    /// Grants of a smaller number are burnt first; absent: plan 100, adjustment 200, free 300,
    /// purchased 400.
    priority: Option<i64>,
    /// When what is left of it is lost; absent: never.
    expires_at: Option<Wire<DateTime<Utc>>>,
    /// What tells this grant from others, such as the number of the order: for one key it is made
    /// once, for ever.
    #[oai(validator(min_length = 1, max_length = 128))]
    key: String,
    /// Why; the transaction keeps it.
    #[oai(validator(min_length = 1, max_length = 500))]
    reason: String,
}

/// Credit to give or to take back.
#[derive(Debug, Object, Deserialize)]
#[oai(rename = "AdjustCreditBody", rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
struct AdjustCredit {
    /// How much: above zero makes a grant of the kind `adjustment`; below zero takes back of what is
    /// left of `grantId`.
    credits: Wire<Decimal>,
    /// The grant to take back of.
    grant_id: Option<Wire<GrantId>>,
    /// When what is left of the new grant is lost; absent: never.
    expires_at: Option<Wire<DateTime<Utc>>>,
    /// What tells this adjustment from others: for one key it is made once, for ever.
    #[oai(validator(min_length = 1, max_length = 128))]
    key: String,
    /// Why; the transaction keeps it.
    #[oai(validator(min_length = 1, max_length = 500))]
    reason: String,
}

/// The routes of credit.
#[derive(Debug)]
pub struct Credit;

#[OpenApi(prefix_path = "/admin/v1", tag = "Tag::Credit")]
impl Credit {
    /// List an organization's grants, whether or not anything is left of them, newest first.
    #[oai(
        path = "/organizations/:organizationId/credit-grants",
        method = "get",
        operation_id = "listCreditGrants"
    )]
    async fn list(
        &self,
        caller: Admin,
        #[oai(name = "organizationId")] id: Path<Wire<OrganizationId>>,
        limit: Query<Limit<50>>,
        cursor: Query<Option<Cursor<entity::Grant>>>,
    ) -> Result<Json<CreditGrantList>, ApiError> {
        let found = books::grants(caller.app(), id.0.0, page(&limit, cursor)).await?;
        let views = found.items.iter().map(GrantView::from).collect();
        Ok(Json(CreditGrantList::new(views, found.has_more)))
    }

    /// Grant credit: 201 for a new grant, 200 with the one that was made before with the same `key`.
    #[oai(
        path = "/organizations/:organizationId/credit-grants",
        method = "post",
        operation_id = "grantCredit"
    )]
    async fn grant(
        &self,
        caller: Admin,
        #[oai(name = "organizationId")] id: Path<Wire<OrganizationId>>,
        #[oai(name = "Idempotency-Key")] key: IdempotencyKey,
        body: StrictBody<GrantCredit>,
    ) -> Result<Stored<CreditResponse, 201, 200>, ApiError> {
        let idempotent = key.of(&body.json);
        let GrantCredit { kind, credits, priority, expires_at, key, reason } = body.value;
        let expires_at = expires_at.map(|at| at.0);
        let new = NewGrant { kind: kind.0, credits: credits.0, priority, expires_at, key, reason };
        let made = accounts::change(caller.app(), &caller, idempotent, id.0.0, new, print);
        Ok(made.await?.into())
    }

    /// Give credit, or take some back of a grant by a transaction that points back.
    ///
    /// No more is taken than what is left when all usage that is known is paid. 201 for a new
    /// adjustment, 200 with the one that was made before with the same `key`.
    #[oai(
        path = "/organizations/:organizationId/credit-adjustments",
        method = "post",
        operation_id = "adjustCredit"
    )]
    async fn adjust(
        &self,
        caller: Admin,
        #[oai(name = "organizationId")] id: Path<Wire<OrganizationId>>,
        #[oai(name = "Idempotency-Key")] key: IdempotencyKey,
        body: StrictBody<AdjustCredit>,
    ) -> Result<Stored<CreditResponse, 201, 200>, ApiError> {
        let idempotent = key.of(&body.json);
        let (app, id) = (caller.app(), id.0.0);
        let made = match adjustment(body.value)? {
            Adjustment::Give(give) => {
                accounts::change(app, &caller, idempotent, id, give, print).await
            }
            Adjustment::Take(take) => {
                accounts::change(app, &caller, idempotent, id, take, print).await
            }
        };
        Ok(made?.into())
    }
}

enum Adjustment {
    Give(NewGrant),
    Take(TakeBack),
}

fn adjustment(body: AdjustCredit) -> Result<Adjustment, Refused> {
    let AdjustCredit { credits, grant_id, expires_at, key, reason } = body;
    let credits = credits.0;
    if credits.is_sign_negative() {
        let grant = grant_id.map(|id| id.0).ok_or_else(|| {
            Refused::invalid("grantId", "grantId must say which grant credit is taken back of")
        })?;
        if expires_at.is_some() {
            let text = "expiresAt has no meaning where credit is taken back";
            return Err(Refused::invalid("expiresAt", text));
        }
        return Ok(Adjustment::Take(TakeBack { grant, credits: -credits, key, reason }));
    }
    if grant_id.is_some() {
        let text = "grantId has no meaning where credit is given: it is a grant of its own";
        return Err(Refused::invalid("grantId", text));
    }
    let expires_at = expires_at.map(|at| at.0);
    let kind = GrantKind::Adjustment;
    Ok(Adjustment::Give(NewGrant { kind, credits, priority: None, expires_at, key, reason }))
}

fn print(credited: &Credited) -> Answer {
    let status = if credited.is_new { StatusCode::CREATED } else { StatusCode::OK };
    answer(status, &CreditResponse::from(credited))
}
