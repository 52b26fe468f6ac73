//! Usage on the wire (contract, section 8.2).

use poem_openapi::{Object, OpenApi};

use chrono::{DateTime, Utc};
use domain::id::{OrganizationId, ProjectId};
use store::usage::{Metric, UsageRecord};

use super::{
    Tag,
    error::ApiError,
    extract::Auth,
    responses::Json,
    wire::{Wire, WireNumber},
};
use crate::app::usage::{self, Quota, UsageSummary};

/// What the organization used in the running period.
#[derive(Debug, Object)]
#[oai(rename = "UsageSummaryResponse", rename_all = "camelCase")]
struct UsageView {
    period: PeriodView,
    /// The version of the price list.
    pricing_version: String,
    compute_unit_seconds_per_credit: u32,
    currency_per_credit: WireNumber,
    compute_unit_seconds: SecondsView,
    credits: CreditsView,
    quotas: QuotasView,
    /// The latest counted events, newest first.
    events: Vec<UsageEventView>,
}

/// A calendar month, UTC, half open.
#[derive(Debug, Object)]
#[oai(rename = "UsagePeriod", rename_all = "camelCase")]
struct PeriodView {
    start: Wire<DateTime<Utc>>,
    end: Wire<DateTime<Utc>>,
    /// The same as `end`.
    reset_at: Wire<DateTime<Utc>>,
}

/// Metered compute.
#[derive(Debug, Object)]
#[oai(rename = "UsageComputeUnitSeconds")]
struct SecondsView {
    used: i64,
}

/// Credits.
#[derive(Debug, Object)]
#[oai(rename = "UsageCredits", skip_serializing_if_is_none)]
struct CreditsView {
    used: WireNumber,
    /// Absent: without limit.
    remaining: Option<WireNumber>,
}

/// The quotas of the plan.
#[derive(Debug, Object)]
#[oai(rename = "UsageQuotas")]
struct QuotasView {
    /// Live sandboxes.
    active_sandboxes: QuotaView,
    /// Active previews.
    active_previews: QuotaView,
}

/// How far a quota is used up.
#[derive(Debug, Object)]
#[oai(rename = "UsageQuota", rename_all = "camelCase")]
struct QuotaView {
    current: u64,
    limit: u64,
    remaining: u64,
    /// When it starts anew; null for one that is about what exists at a time.
    #[oai(nullable)]
    reset_at: Option<Wire<DateTime<Utc>>>,
}

/// Something that was counted.
#[derive(Debug, Object)]
#[oai(rename = "UsageEvent", rename_all = "camelCase", skip_serializing_if_is_none)]
struct UsageEventView {
    amount: i64,
    created_at: Wire<DateTime<Utc>>,
    metric: Wire<Metric>,
    org_id: Wire<OrganizationId>,
    project_id: Option<Wire<ProjectId>>,
    resource_id: Option<String>,
}

impl From<&UsageSummary> for UsageView {
    fn from(summary: &UsageSummary) -> Self {
        let (start, end) = summary.period;
        Self {
            period: PeriodView { start: Wire(start), end: Wire(end), reset_at: Wire(end) },
            pricing_version: summary.pricing_version.clone(),
            compute_unit_seconds_per_credit: summary.compute_unit_seconds_per_credit,
            currency_per_credit: WireNumber(summary.currency_per_credit),
            compute_unit_seconds: SecondsView { used: summary.compute_unit_seconds_used },
            credits: CreditsView {
                used: WireNumber(summary.credits_used),
                remaining: summary.credits_remaining.map(WireNumber),
            },
            quotas: QuotasView {
                active_sandboxes: summary.active_sandboxes.into(),
                active_previews: summary.active_previews.into(),
            },
            events: summary.events.iter().map(UsageEventView::from).collect(),
        }
    }
}

impl From<Quota> for QuotaView {
    fn from(Quota { current, limit }: Quota) -> Self {
        Self { current, limit, remaining: limit.saturating_sub(current), reset_at: None }
    }
}

impl From<&UsageRecord> for UsageEventView {
    fn from(record: &UsageRecord) -> Self {
        Self {
            amount: record.amount,
            created_at: Wire(record.at),
            metric: Wire(record.metric),
            org_id: Wire(record.org_id),
            project_id: Some(Wire(record.project_id)),
            resource_id: Some(record.resource_id.clone()),
        }
    }
}

/// The route of usage.
#[derive(Debug)]
pub struct Usage;

#[OpenApi(prefix_path = "/v1", tag = "Tag::Usage")]
impl Usage {
    /// Get what the organization used this month, and how far its quotas are used up.
    #[oai(path = "/usage", method = "get", operation_id = "getUsage")]
    async fn get(&self, caller: Auth) -> Result<Json<UsageView>, ApiError> {
        let summary = usage::summary(caller.app(), &caller).await?;
        Ok(Json((&summary).into()))
    }
}
