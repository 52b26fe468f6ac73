//! Usage over time, and single windows, page by page. Decides only how much may be asked for at once.

use billing::{money::decimal, period::Period};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    Refused,
    id::{OrganizationId, ProjectId},
    metric::Metric,
};
use rust_decimal::Decimal;
use store::{
    Page, Scope,
    billing::{BucketPlace, Sum, UsageFilter, WindowPlace},
    rows::BucketRow,
};

use crate::app::{
    App,
    billing::{
        convert::{instant, word},
        windows::WindowItem,
    },
    error::Result,
};

/// How usage is summed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bucket {
    /// By the hour.
    Hour,
    /// By the day, UTC.
    Day,
    /// By the calendar month, UTC.
    Month,
}

impl Bucket {
    /// Every bucket.
    pub const ALL: [Self; 3] = [Self::Hour, Self::Day, Self::Month];

    /// The wire form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// The longest range that may be asked for, and how that is said.
    const fn longest(self) -> (TimeDelta, &'static str) {
        match self {
            Self::Hour => (TimeDelta::days(31), "31 days"),
            Self::Day => (TimeDelta::days(100), "100 days"),
            Self::Month => (TimeDelta::days(36 * 31), "36 months"),
        }
    }

    const fn span(self) -> Option<TimeDelta> {
        match self {
            Self::Hour => Some(TimeDelta::hours(1)),
            Self::Day => Some(TimeDelta::days(1)),
            Self::Month => None,
        }
    }

    /// Whether one begins at an instant.
    fn begins_at(self, at: DateTime<Utc>) -> bool {
        match self.span().and_then(|span| span.num_microseconds()) {
            Some(span) => at.timestamp_micros() % span == 0,
            None => Period::of(at).start() == at,
        }
    }

    /// The first instant behind the one that an instant lies in.
    fn end_of(self, at: DateTime<Utc>) -> DateTime<Utc> {
        let Some(span) = self.span() else { return Period::of(at).end() };
        let micros = span.num_microseconds().unwrap_or(1);
        let begun = TimeDelta::microseconds(at.timestamp_micros().rem_euclid(micros));
        at - begun + span
    }
}

/// Which usage is wanted.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// How it is summed up.
    pub bucket: Bucket,
    /// The beginning of the first bucket.
    pub from: DateTime<Utc>,
    /// The end of the last one; that of the running one if nothing is said.
    pub until: Option<DateTime<Utc>>,
    /// Only that of one project.
    pub project: Option<ProjectId>,
    /// Only this metric.
    pub metric: Option<Metric>,
}

/// What was used of a metric in a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    /// The first instant of the bucket.
    pub from: DateTime<Utc>,
    /// The first instant behind it.
    pub until: DateTime<Utc>,
    /// The project.
    pub project: ProjectId,
    /// The metric.
    pub metric: Metric,
    /// The version that priced it.
    pub pricing_version: String,
    /// How much, in units of the metric.
    pub quantity: Decimal,
    /// Its price in credits.
    pub credits: Decimal,
}

impl Used {
    fn of(row: &BucketRow, bucket: Bucket) -> Result<Self> {
        let from = instant(row.bucket)?;
        Ok(Self {
            from,
            until: bucket.end_of(from),
            project: ProjectId::from_uuid(row.project_id),
            metric: word(&row.metric, "a window's metric")?,
            pricing_version: row.pricing_version.clone(),
            quantity: Decimal::new(row.quantity, 3).normalize(),
            credits: decimal(row.amount),
        })
    }
}

impl Wanted {
    fn range(&self, now: DateTime<Utc>) -> Result<(DateTime<Utc>, DateTime<Utc>)> {
        let (from, until) = (self.from, self.until.unwrap_or_else(|| self.bucket.end_of(now)));
        let name = self.bucket.as_str();
        for (field, at) in [("from", from), ("until", until)] {
            if !self.bucket.begins_at(at) {
                let text = format!("{field} must be the beginning of a {name}, UTC");
                return Err(Refused::invalid(field, text).into());
            }
        }
        let (longest, text) = self.bucket.longest();
        if until <= from || until - from > longest {
            let text = format!("until must be after from, by at most {text} for each {name}");
            return Err(Refused::invalid("until", text).into());
        }
        Ok((from, until))
    }
}

/// Sums up what an organization used and is settled, by bucket, project, metric and pricing version, in
/// this order.
///
/// # Errors
/// `not_found`; `invalid_request` for a range that is too long or ends within a bucket.
pub async fn over_time(
    app: &App,
    org: OrganizationId,
    wanted: &Wanted,
    after: Option<&BucketPlace>,
    limit: u32,
) -> Result<Page<Used>> {
    let range = wanted.range(app.clock.now())?;
    store::organizations::get(app.db.read(), org).await?;
    let metric = wanted.metric.map(|metric| metric.as_str().to_owned());
    let filter = UsageFilter { range, project: wanted.project, metric };
    let sum = wanted.bucket.span().map_or(Sum::Months, Sum::Spans);
    let books = store::billing(Scope::org(org, None));
    let page = books.usage_over_time(app.db.read(), org, sum, &filter, after, limit).await?;
    let items = page.items.iter().map(|row| Used::of(row, wanted.bucket)).collect::<Result<_>>()?;
    Ok(Page { items, has_more: page.has_more })
}

/// Lists an organization's windows that begin in `[from, until)`, in the order of their beginnings.
///
/// # Errors
/// `not_found`.
pub async fn windows(
    app: &App,
    org: OrganizationId,
    range: (DateTime<Utc>, DateTime<Utc>),
    after: Option<&WindowPlace>,
    limit: u32,
) -> Result<Page<WindowItem>> {
    store::organizations::get(app.db.read(), org).await?;
    let books = store::billing(Scope::org(org, None));
    let more = limit.saturating_add(1);
    let mut rows = books.windows(app.db.read(), org, range, after, more).await?;
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = rows.len() > wanted;
    rows.truncate(wanted);
    Ok(Page { items: rows.iter().map(WindowItem::of).collect::<Result<_>>()?, has_more })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_are_whole_buckets_and_bounded() {
        let now = at("2031-03-10T12:30:00Z");
        for (bucket, from, until, field) in [
            (Bucket::Hour, "2031-03-10T10:00:00Z", None, None),
            (Bucket::Hour, "2031-03-10T10:00:01Z", None, Some("from")),
            (Bucket::Hour, "2031-03-10T13:00:00Z", None, Some("until")),
            (Bucket::Hour, "2031-02-01T00:00:00Z", None, Some("until")),
            (Bucket::Day, "2031-02-01T00:00:00Z", Some("2031-02-02T00:00:00Z"), None),
            (Bucket::Day, "2031-02-01T01:00:00Z", None, Some("from")),
            (Bucket::Day, "2031-02-01T00:00:00Z", Some("2031-02-01T01:00:00Z"), Some("until")),
            (Bucket::Month, "2028-04-01T00:00:00Z", None, None),
            (Bucket::Month, "2028-02-01T00:00:00Z", None, Some("until")),
            (Bucket::Month, "2031-02-02T00:00:00Z", None, Some("from")),
        ] {
            let until = until.map(at);
            let wanted = Wanted { bucket, from: at(from), until, project: None, metric: None };
            let refused = match wanted.range(now) {
                Err(crate::app::error::Error::Refused(refused)) => refused.field,
                other => other.map(|_| None).unwrap(),
            };
            assert_eq!(refused.as_deref(), field, "{bucket:?} {from} {until:?}");
        }
        assert_eq!(Bucket::Day.end_of(now), at("2031-03-11T00:00:00Z"));
        assert_eq!(Bucket::Month.end_of(now), at("2031-04-01T00:00:00Z"));
    }
}
