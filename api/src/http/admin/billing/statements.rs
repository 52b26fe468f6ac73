//! Statements: for programs, for terminals, and a page that prints well.

use poem::{IntoResponse, Response, http::header};
use poem_openapi::{
    ApiResponse, Object, OpenApi,
    param::Path,
    registry::{MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry},
    types::Type,
};
use serde_json::Value;

use billing::period::Period;
use domain::id::{OrganizationId, ProjectId, StatementId};

use super::{Instant, precise};
use crate::{
    app::{
        admin::books::{self, ClosedStatement},
        billing::statements::{self, CreditItem, Document, UsageItem},
    },
    http::{
        admin::Tag,
        error::ApiError,
        extract::{Admin, Limit, Query},
        responses::{JSON, Json, list_view, print},
        wire::{Text, Wire},
    },
    print::statement,
};

/// A statement that is closed, in short.
#[derive(Debug, Object)]
#[oai(rename = "StatementSummary", rename_all = "camelCase")]
struct SummaryView {
    id: Wire<StatementId>,
    period: Wire<Period>,
    closed_at: Instant,
    /// ISO 4217.
    currency: String,
    /// What is to be paid.
    amount_due: String,
}

impl From<&ClosedStatement> for SummaryView {
    fn from(closed: &ClosedStatement) -> Self {
        Self {
            id: Wire(closed.id),
            period: Wire(closed.period),
            closed_at: precise(closed.closed_at),
            currency: closed.currency.clone(),
            amount_due: closed.amount_due.to_string(),
        }
    }
}

list_view! {
    /// A page of statements.
    StatementList of SummaryView, by |statement| statement.period.0
}

/// A statement.
#[derive(Debug, Object)]
#[oai(rename = "Statement", rename_all = "camelCase", skip_serializing_if_is_none)]
struct StatementView {
    /// Absent while the month is open.
    id: Option<Wire<StatementId>>,
    org_id: Wire<OrganizationId>,
    /// The organization's name when it was drawn up.
    organization: String,
    period: String,
    /// When the month was closed.
    closed_at: Option<Instant>,
    /// ISO 4217.
    currency: String,
    usage: Vec<UsageView>,
    /// Credit that paid.
    credit: Vec<CreditView>,
    /// The sum of `usage`.
    usage_total: String,
    /// The sum of `credit`.
    credit_total: String,
    /// What no credit paid for, in credits.
    overage_credits: String,
    /// What is to be paid: `usageTotal` less `creditTotal`; nothing on a plan without invoices.
    amount_due: String,
    /// What is not asked for on such a plan.
    written_off: String,
}

/// A line of usage.
#[derive(Debug, Object)]
#[oai(rename = "StatementUsage", rename_all = "camelCase", skip_serializing_if_is_none)]
struct UsageView {
    project_id: Wire<ProjectId>,
    /// The project's name when it was drawn up.
    project: String,
    metric: String,
    pricing_version: String,
    /// The month whose closed statement this line completes or corrects.
    adjusts: Option<String>,
    /// How much, in units of the metric.
    quantity: String,
    /// Credits for `unitQuantity` units.
    unit_price_credits: String,
    unit_quantity: i64,
    /// Price of a credit.
    currency_per_credit: String,
    credits: String,
    /// The same in money.
    amount: String,
}

/// A line of credit.
#[derive(Debug, Object)]
#[oai(rename = "StatementCredit", rename_all = "camelCase")]
struct CreditView {
    /// `plan`, `adjustment`, `free` or `purchased`.
    kind: String,
    /// How much of it paid.
    credits: String,
    /// The same in money.
    amount: String,
}

impl From<Document> for StatementView {
    fn from(document: Document) -> Self {
        Self {
            id: document.id.map(Wire),
            org_id: Wire(document.org_id),
            organization: document.organization,
            period: document.period,
            closed_at: document.closed_at.map(precise),
            currency: document.currency,
            usage: document.usage.into_iter().map(Into::into).collect(),
            credit: document.credit.into_iter().map(Into::into).collect(),
            usage_total: document.usage_total,
            credit_total: document.credit_total,
            overage_credits: document.overage_credits,
            amount_due: document.amount_due,
            written_off: document.written_off,
        }
    }
}

impl From<UsageItem> for UsageView {
    fn from(item: UsageItem) -> Self {
        Self {
            project_id: Wire(item.project_id),
            project: item.project,
            metric: item.metric,
            pricing_version: item.pricing_version,
            adjusts: item.adjusts,
            quantity: item.quantity,
            unit_price_credits: item.unit_price_credits,
            unit_quantity: item.unit_quantity,
            currency_per_credit: item.currency_per_credit,
            credits: item.credits,
            amount: item.amount,
        }
    }
}

impl From<CreditItem> for CreditView {
    fn from(item: CreditItem) -> Self {
        Self { kind: item.kind, credits: item.credits, amount: item.amount }
    }
}

/// How a statement looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Html,
    Text,
}

impl Form {
    const ALL: [Self; 3] = [Self::Json, Self::Html, Self::Text];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Html => "html",
            Self::Text => "text",
        }
    }
}

impl Text for Form {
    fn schema() -> MetaSchema {
        let words = Self::ALL.iter().map(|form| Value::from(form.as_str()));
        MetaSchema { enum_items: words.collect(), ..MetaSchema::new("string") }
    }
    fn read(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|form| form.as_str() == text)
    }
    fn print(&self) -> String {
        self.as_str().to_owned()
    }
    fn wanted() -> String {
        "one of json, html, text".to_owned()
    }
}

/// A statement in the form that was asked for.
#[derive(Debug)]
struct Printed {
    content_type: &'static str,
    body: Vec<u8>,
}

const HTML: &str = "text/html; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

impl Printed {
    fn of(document: Document, form: Form) -> Result<Self, ApiError> {
        Ok(match form {
            Form::Json => Self { content_type: JSON, body: print(&StatementView::from(document)) },
            Form::Text => {
                Self { content_type: PLAIN, body: statement::text(&document).into_bytes() }
            }
            Form::Html => {
                let page = statement::html(&document).map_err(ApiError::internal)?;
                Self { content_type: HTML, body: page.into_bytes() }
            }
        })
    }
}

impl IntoResponse for Printed {
    fn into_response(self) -> Response {
        Response::builder()
            .content_type(self.content_type)
            .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
            // The page has customers' names in it and needs nothing from elsewhere.
            .header(
                header::CONTENT_SECURITY_POLICY,
                "default-src 'none'; style-src 'unsafe-inline'",
            )
            .body(self.body)
    }
}

impl ApiResponse for Printed {
    fn meta() -> MetaResponses {
        let text = || MetaSchemaRef::Inline(Box::new(MetaSchema::new("string")));
        let media = |content_type, schema| MetaMediaType { content_type, schema };
        let content = vec![
            media(JSON, StatementView::schema_ref()),
            media("text/html", text()),
            media("text/plain", text()),
        ];
        let response = MetaResponse {
            description: "Success.",
            status: Some(200),
            status_range: None,
            content,
            headers: vec![],
        };
        MetaResponses { responses: vec![response] }
    }
    fn register(registry: &mut Registry) {
        StatementView::register(registry);
    }
}

/// The routes of statements.
#[derive(Debug)]
pub struct Statements;

#[OpenApi(prefix_path = "/admin/v1", tag = "Tag::Statements")]
impl Statements {
    /// List an organization's closed months, the latest first.
    #[oai(
        path = "/organizations/:organizationId/statements",
        method = "get",
        operation_id = "listStatements"
    )]
    async fn list(
        &self,
        caller: Admin,
        #[oai(name = "organizationId")] id: Path<Wire<OrganizationId>>,
        limit: Query<Limit<50>>,
        cursor: Query<Option<MonthCursor>>,
    ) -> Result<Json<StatementList>, ApiError> {
        let before = cursor.0.map(|cursor| cursor.0);
        let found = books::statements(caller.app(), id.0.0, before, limit.0.0).await?;
        let views = found.items.iter().map(SummaryView::from).collect();
        Ok(Json(StatementList::new(views, found.has_more)))
    }

    /// Get the statement of a month: as it was closed, or what it would say now.
    #[oai(
        path = "/organizations/:organizationId/statements/:period",
        method = "get",
        operation_id = "getStatement"
    )]
    async fn get(
        &self,
        caller: Admin,
        #[oai(name = "organizationId")] id: Path<Wire<OrganizationId>>,
        period: Path<Wire<Period>>,
        /// `json` for programs, `html` for paper, `text` for terminals; absent: `json`.
        format: Query<Option<Wire<Form>>>,
    ) -> Result<Printed, ApiError> {
        let document = statements::get(caller.app(), id.0.0, period.0.0).await?;
        Printed::of(document, format.0.map_or(Form::Json, |form| form.0))
    }
}

/// The month of the last statement of the page before.
struct MonthCursor(Period);

impl crate::http::extract::Param for MonthCursor {
    fn schema() -> MetaSchema {
        MetaSchema { min_length: Some(1), ..MetaSchema::new("string") }
    }
    fn read(name: &str, text: &str) -> Result<Self, domain::Refused> {
        let text_of = || format!("{name} must be a page's nextCursor");
        text.parse().map(Self).map_err(|_| domain::Refused::invalid(name, text_of()))
    }
}
