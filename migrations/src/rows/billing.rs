//! Rows of accounts, usage and the ledger. Amounts are nano-credits, quantities thousandths of a unit.

use sea_orm::FromQueryResult;
use uuid::Uuid;

/// A row of `pricing_versions`.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct PricingVersionRow {
    pub name: String,
    pub currency: String,
    pub compute_unit_seconds_per_credit: i64,
    pub nano_currency_per_credit: i64,
    pub sizes: String,
    pub idle_factor_milli: i64,
    pub rates: String,
    pub rounding: String,
    pub valid_from: i64,
}

/// A row of `billing_accounts` with the plan of its organization.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct AccountRow {
    pub org_id: Uuid,
    pub spend_cap: Option<i64>,
    pub open_from: i64,
    pub plan_period: i64,
    pub plan_granted: i64,
    pub free_granted: bool,
    pub stops_at: Option<i64>,
    pub stop_code: Option<String>,
    pub stop_told: bool,
    pub due_at: i64,
    pub last_seq: i64,
    pub plan: String,
    pub next_plan: Option<String>,
    pub next_plan_at: Option<i64>,
    /// Whether a sandbox is live that may be metered any moment.
    pub live: bool,
}

/// A row of `credit_grants`.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct GrantRow {
    pub id: Uuid,
    pub org_id: Uuid,
    pub kind: String,
    pub priority: i64,
    pub amount: i64,
    pub remaining: i64,
    pub starts_at: i64,
    pub expires_at: Option<i64>,
}

/// A row of `meters` with what is known of its sandbox's life.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct MeterRow {
    pub sandbox_id: Uuid,
    pub org_id: Uuid,
    pub project_id: Uuid,
    pub metric: String,
    pub opened_at: i64,
    pub closed_at: Option<i64>,
    pub multiplier_milli: i64,
    pub pricing_version: String,
    pub settled_until: i64,
    pub settled_quantity: i64,
    pub settled_amount: i64,
    pub n_parts: i64,
    pub expires_at: i64,
    pub seen_alive_at: Option<i64>,
}

/// A row of `usage_records` that is not settled, with what prices it.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct CountRow {
    pub id: Uuid,
    pub org_id: Uuid,
    pub project_id: Uuid,
    pub sandbox_id: Uuid,
    pub metric: String,
    pub amount: i64,
    pub at: i64,
    pub pricing_version: String,
    pub sandbox_created_at: i64,
}

/// A time in which a command was active.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct SpanRow {
    pub sandbox_id: Uuid,
    pub started_at: i64,
    pub finished_at: Option<i64>,
}

/// A row of `ledger_transactions`.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct TransactionRow {
    pub id: Uuid,
    pub org_id: Uuid,
    pub seq: i64,
    pub kind: String,
    pub key: String,
    pub at: i64,
    pub booked_from: i64,
    pub pricing_version: Option<String>,
    pub corrects: Option<Uuid>,
    pub reason: Option<String>,
    pub recorded_at: i64,
}

/// A row of `ledger_postings`.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct PostingRow {
    pub transaction_id: Uuid,
    pub line: i64,
    pub org_id: Uuid,
    pub account: String,
    pub grant_id: Option<Uuid>,
    pub amount: i64,
}

/// A row of `usage_windows`.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct WindowRow {
    pub sandbox_id: Uuid,
    pub metric: String,
    pub started_at: i64,
    pub part: i64,
    pub org_id: Uuid,
    pub project_id: Uuid,
    pub ended_at: i64,
    pub quantity: i64,
    pub amount: i64,
    pub pricing_version: String,
    pub booked_from: i64,
    pub transaction_id: Option<Uuid>,
}

/// A row of `usage_lines`.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct LineRow {
    pub org_id: Uuid,
    pub booked_from: i64,
    pub used_from: i64,
    pub project_id: Uuid,
    pub metric: String,
    pub pricing_version: String,
    pub quantity: i64,
    pub amount: i64,
}

/// A row of `ledger_totals`; `pricing_version` is empty for what is not usage.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct TotalRow {
    pub org_id: Uuid,
    pub booked_from: i64,
    pub account: String,
    pub pricing_version: String,
    pub amount: i64,
}

/// A row of `statements`.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct StatementRow {
    pub id: Uuid,
    pub org_id: Uuid,
    pub period_from: i64,
    pub currency: String,
    pub due_minor_units: i64,
    pub document: String,
    pub closed_at: i64,
}

/// A row of `billing_alerts`.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct AlertRow {
    pub org_id: Uuid,
    pub period_from: i64,
    pub subject: String,
    pub percent: i64,
    pub raised_at: i64,
}

/// A row of `plan_changes`.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct ChangeRow {
    pub org_id: Uuid,
    pub setting: String,
    pub value: Option<String>,
    pub takes_effect_at: i64,
    pub made_at: i64,
}

/// A row of `plan_changes` as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct NotedRow {
    pub seq: i64,
    pub setting: String,
    pub value: Option<String>,
    pub takes_effect_at: i64,
    pub reason: String,
    pub made_at: i64,
}

/// What `usage_windows` or `usage_lines` sum up to in a span of time.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct BucketRow {
    pub bucket: i64,
    pub project_id: Uuid,
    pub metric: String,
    pub pricing_version: String,
    pub quantity: i64,
    pub amount: i64,
}
