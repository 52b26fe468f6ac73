//! Usage over time: windows summed up by the hour or day, and lines by the month.

use chrono::{DateTime, TimeDelta, Utc};
use domain::id::{OrganizationId, ProjectId};
use migrations::rows::billing::BucketRow;
use sea_orm::ConnectionTrait;
use uuid::Uuid;

use super::Billing;
use crate::{Page, PageRequest, db::Sql, error::Result, time};

/// How usage is summed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sum {
    /// By spans of this length, counted from the epoch.
    Spans(TimeDelta),
    /// By calendar months.
    Months,
}

/// Which usage is wanted; what is `None` is not asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageFilter {
    /// What began at this instant or later, and before that one. For [`Sum::Months`] both begin months.
    pub range: (DateTime<Utc>, DateTime<Utc>),
    /// Only that of one project.
    pub project: Option<ProjectId>,
    /// Only this metric.
    pub metric: Option<String>,
}

/// A place in the order of buckets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketPlace {
    /// The first instant of the bucket, in microseconds.
    pub bucket: i64,
    /// The project.
    pub project: Uuid,
    /// The metric.
    pub metric: String,
    /// The pricing version.
    pub pricing_version: String,
}

impl Billing {
    /// A page of what an organization used and is settled, by bucket, project, metric and pricing
    /// version, in this order, from behind `after` on. What is corrected counts where it was used.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, org = %org))]
    pub async fn usage_over_time(
        &self,
        c: &impl ConnectionTrait,
        org: OrganizationId,
        sum: Sum,
        filter: &UsageFilter,
        after: Option<&BucketPlace>,
        limit: u32,
    ) -> Result<Page<BucketRow>> {
        let (from, until) = (time::micros(filter.range.0), time::micros(filter.range.1));
        // What is behind a place is in its bucket or a later one.
        let from = after.map_or(from, |after| after.bucket.max(from));
        const SUMS: &str = "cast(sum(u.quantity) as bigint) as quantity,
           cast(sum(u.amount) as bigint) as amount";
        let sql = Sql::new("select b.* from (select ", []);
        let (sql, at) = match sum {
            Sum::Spans(span) => {
                let micros = span.num_microseconds().unwrap_or(i64::MAX).max(1);
                let sql = sql.text("u.started_at - u.started_at % ").bind(micros);
                (
                    sql.text(" as bucket, u.project_id, u.metric, u.pricing_version, ")
                        .text(SUMS)
                        .text(" from usage_windows u"),
                    "u.started_at",
                )
            }
            Sum::Months => (
                sql.text("u.used_from as bucket, u.project_id, u.metric, u.pricing_version, ")
                    .text(SUMS)
                    .text(" from usage_lines u"),
                "u.used_from",
            ),
        };
        let mut sql = sql.text(" where u.org_id = ").bind(org.uuid());
        sql = sql.text(" and ").text(at).text(" >= ").bind(from);
        sql = sql.text(" and ").text(at).text(" < ").bind(until);
        if let Some(project) = filter.project {
            sql = sql.text(" and u.project_id = ").bind(project.uuid());
        }
        if let Some(metric) = &filter.metric {
            sql = sql.text(" and u.metric = ").bind(metric.as_str());
        }
        let sql = self.reach.by_project(sql, "u.org_id", "u.project_id");
        let mut sql = sql.text(" group by 1, 2, 3, 4) b");
        if let Some(after) = after {
            sql = sql.text(" where (b.bucket, b.project_id, b.metric, b.pricing_version) > (");
            sql = sql.bind(after.bucket).text(", ").bind(after.project).text(", ");
            sql = sql.bind(after.metric.as_str()).text(", ");
            sql = sql.bind(after.pricing_version.as_str()).text(")");
        }
        let sql = sql.text(" order by b.bucket, b.project_id, b.metric, b.pricing_version limit ");
        let rows = sql.bind(i64::from(limit) + 1).all(c).await?;
        PageRequest { limit, after: None }.page(rows, Ok)
    }
}
