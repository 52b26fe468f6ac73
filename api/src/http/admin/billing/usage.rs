//! Usage over time, single windows, and their correction.

use chrono::{DateTime, Utc};
use poem::http::StatusCode;
use poem_openapi::{Object, OpenApi, param::Path, registry::MetaSchema};
use rust_decimal::Decimal;
use serde::Deserialize;
use uuid::Uuid;

use domain::{
    Refused,
    id::{OrganizationId, ProjectId, SandboxId, TransactionId},
    metric::Metric,
};
use store::billing::{BucketPlace, WindowPlace};

use super::{Instant, ledger::TransactionView, precise};
use crate::{
    app::{
        admin::{
            accounts,
            usage::{self, Bucket, Used, Wanted},
        },
        billing::{
            correct::{self, Correction},
            journal::Booked,
            windows::WindowItem,
        },
    },
    http::{
        admin::Tag,
        error::ApiError,
        extract::{Admin, IdempotencyKey, Limit, Param, Query, StrictBody},
        responses::{Json, Stored, answer, list_view},
        wire::{Precise, Wire},
    },
};

/// What was used of a metric in a span of time.
#[derive(Debug, Object)]
#[oai(rename = "UsageBucket", rename_all = "camelCase")]
struct BucketView {
    from: Instant,
    until: Instant,
    project_id: Wire<ProjectId>,
    metric: Wire<Metric>,
    /// The version that priced it.
    pricing_version: String,
    /// How much, in units of the metric.
    quantity: Wire<Decimal>,
    /// Its price.
    credits: Wire<Decimal>,
}

impl From<&Used> for BucketView {
    fn from(used: &Used) -> Self {
        Self {
            from: precise(used.from),
            until: precise(used.until),
            project_id: Wire(used.project),
            metric: Wire(used.metric),
            pricing_version: used.pricing_version.clone(),
            quantity: Wire(used.quantity),
            credits: Wire(used.credits),
        }
    }
}

impl BucketView {
    fn place(&self) -> String {
        let micros = self.from.0.0.timestamp_micros();
        let project = self.project_id.0.uuid().simple();
        format!("{micros}:{project}:{}:{}", self.metric.0.as_str(), self.pricing_version)
    }
}

list_view! {
    /// A page of usage over time, from the earliest to the latest.
    UsageBucketList of BucketView, by |bucket| bucket.place()
}

/// A window of usage: the smallest span that is booked by itself.
#[derive(Debug, Object)]
#[oai(rename = "UsageWindow", rename_all = "camelCase", skip_serializing_if_is_none)]
struct WindowView {
    sandbox_id: Wire<SandboxId>,
    project_id: Wire<ProjectId>,
    metric: String,
    /// Its first instant.
    from: Instant,
    /// The first instant after it.
    until: Instant,
    /// Tells windows of one beginning apart: 0, or more for counts that came late; below 0 for what a
    /// correction added or took away.
    part: i64,
    /// How much, in units of the metric.
    quantity: String,
    /// Its price in credits.
    credits: String,
    pricing_version: String,
    /// The month whose statement shows it.
    statement: String,
    /// The transaction that books it; absent for what cost nothing.
    transaction_id: Option<Wire<TransactionId>>,
}

impl From<&WindowItem> for WindowView {
    fn from(window: &WindowItem) -> Self {
        Self {
            sandbox_id: Wire(window.sandbox_id),
            project_id: Wire(window.project_id),
            metric: window.metric.clone(),
            from: precise(window.from),
            until: precise(window.until),
            part: window.part,
            quantity: window.quantity.clone(),
            credits: window.credits.clone(),
            pricing_version: window.pricing_version.clone(),
            statement: window.statement.clone(),
            transaction_id: window.transaction_id.map(Wire),
        }
    }
}

impl WindowView {
    fn place(&self) -> String {
        let micros = self.from.0.0.timestamp_micros();
        format!("{micros}:{}:{}:{}", self.sandbox_id.0.uuid().simple(), self.metric, self.part)
    }
}

list_view! {
    /// A page of windows, from the earliest to the latest.
    UsageWindowList of WindowView, by |window| window.place()
}

/// The place of the last item of a page. As opaque to clients as other cursors.
struct Place<P>(P);

impl Param for Place<BucketPlace> {
    fn schema() -> MetaSchema {
        MetaSchema { min_length: Some(1), ..MetaSchema::new("string") }
    }
    fn read(name: &str, text: &str) -> Result<Self, Refused> {
        let place = || {
            let (bucket, project, metric, version) = parts(text)?;
            let metric = metric.parse::<Metric>().ok()?.as_str().to_owned();
            let pricing_version = plain(version)?;
            Some(Self(BucketPlace { bucket, project, metric, pricing_version }))
        };
        place().ok_or_else(|| no_cursor(name))
    }
}

impl Param for Place<WindowPlace> {
    fn schema() -> MetaSchema {
        MetaSchema { min_length: Some(1), ..MetaSchema::new("string") }
    }
    fn read(name: &str, text: &str) -> Result<Self, Refused> {
        let place = || {
            let (started_at, sandbox_id, metric, part) = parts(text)?;
            let metric = metric.parse::<Metric>().ok()?.as_str().to_owned();
            let part = part.parse().ok()?;
            Some(Self(WindowPlace { started_at, sandbox_id, metric, part }))
        };
        place().ok_or_else(|| no_cursor(name))
    }
}

fn no_cursor(name: &str) -> Refused {
    Refused::invalid(name, format!("{name} must be a page's nextCursor"))
}

fn parts(text: &str) -> Option<(i64, Uuid, &str, &str)> {
    let mut parts = text.splitn(4, ':');
    let (at, id) = (parts.next()?.parse().ok()?, Uuid::try_parse(parts.next()?).ok()?);
    Some((at, id, parts.next()?, parts.next()?))
}

/// A version's name as it may be: nothing else is worth asking the database for.
fn plain(name: &str) -> Option<String> {
    let letter = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    (name.len() <= 64 && name.bytes().all(letter)).then(|| name.to_owned())
}

/// What a window should have been.
#[derive(Debug, Object, Deserialize)]
#[oai(rename = "CorrectUsageBody", rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
struct CorrectUsage {
    sandbox_id: Wire<SandboxId>,
    /// What was measured.
    metric: Wire<Metric>,
    /// When the window begins, with all its digits.
    start: Wire<Precise>,
    /// Which of several windows of that beginning.
    part: Option<i64>,
    /// What the window should have been in all, in units of the metric, with at most three places.
    quantity: Wire<Decimal>,
    /// Why; the transaction keeps it.
    #[oai(validator(min_length = 1, max_length = 500))]
    reason: String,
}

/// A correction.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct CorrectionResponse {
    /// The transaction that points back.
    transaction: TransactionView,
}

/// The routes of usage.
#[derive(Debug)]
pub struct Usage;

#[OpenApi(prefix_path = "/admin/v1", tag = "Tag::Usage")]
impl Usage {
    /// Sum up what an organization used by hour, day or month, project, metric and pricing version.
    ///
    /// What is not settled yet, the last minute or so, is not in it. A window counts where it begins,
    /// and so does its correction.
    #[oai(
        path = "/organizations/:organizationId/usage",
        method = "get",
        operation_id = "getUsageOverTime"
    )]
    #[expect(clippy::too_many_arguments, reason = "one for each filter")]
    async fn over_time(
        &self,
        caller: Admin,
        #[oai(name = "organizationId")] id: Path<Wire<OrganizationId>>,
        /// `hour` for at most 31 days, `day` for 100, `month` for 36 months.
        bucket: Query<Wire<Bucket>>,
        /// The beginning of the first bucket, UTC.
        from: Query<Wire<DateTime<Utc>>>,
        /// The end of the last bucket; absent: that of the running one.
        until: Query<Option<Wire<DateTime<Utc>>>>,
        /// Only that of one project.
        #[oai(name = "projectId")]
        project: Query<Option<Wire<ProjectId>>>,
        /// Only this metric.
        metric: Query<Option<Wire<Metric>>>,
        limit: Query<Limit<50>>,
        cursor: Query<Option<Place<BucketPlace>>>,
    ) -> Result<Json<UsageBucketList>, ApiError> {
        let wanted = Wanted {
            bucket: bucket.0.0,
            from: from.0.0,
            until: until.0.map(|until| until.0),
            project: project.0.map(|project| project.0),
            metric: metric.0.map(|metric| metric.0),
        };
        let after = cursor.0.map(|cursor| cursor.0);
        let found = usage::over_time(caller.app(), id.0.0, &wanted, after.as_ref(), limit.0.0);
        let found = found.await?;
        let views = found.items.iter().map(BucketView::from).collect();
        Ok(Json(UsageBucketList::new(views, found.has_more)))
    }

    /// List an organization's windows of usage that begin in a span of time, from the earliest to the
    /// latest.
    #[oai(
        path = "/organizations/:organizationId/usage-windows",
        method = "get",
        operation_id = "listUsageWindows"
    )]
    async fn windows(
        &self,
        caller: Admin,
        #[oai(name = "organizationId")] id: Path<Wire<OrganizationId>>,
        /// Those that begin at this instant or later.
        from: Query<Wire<DateTime<Utc>>>,
        /// Those that begin before this instant; absent: now.
        until: Query<Option<Wire<DateTime<Utc>>>>,
        limit: Query<Limit<50>>,
        cursor: Query<Option<Place<WindowPlace>>>,
    ) -> Result<Json<UsageWindowList>, ApiError> {
        let until = until.0.map_or_else(|| caller.app().clock.now(), |until| until.0);
        let (range, after) = ((from.0.0, until), cursor.0.map(|cursor| cursor.0));
        let found = usage::windows(caller.app(), id.0.0, range, after.as_ref(), limit.0.0).await?;
        let views = found.items.iter().map(WindowView::from).collect();
        Ok(Json(UsageWindowList::new(views, found.has_more)))
    }

    /// Correct a window of usage that was measured wrong.
    ///
    /// Nothing is overwritten: a transaction that points back books the difference, and the statement
    /// of the first open month shows it.
    #[oai(
        path = "/organizations/:organizationId/usage-corrections",
        method = "post",
        operation_id = "correctUsage"
    )]
    async fn correct(
        &self,
        caller: Admin,
        #[oai(name = "organizationId")] id: Path<Wire<OrganizationId>>,
        #[oai(name = "Idempotency-Key")] key: IdempotencyKey,
        body: StrictBody<CorrectUsage>,
    ) -> Result<Stored<CorrectionResponse, 201>, ApiError> {
        let (app, org, idempotent) = (caller.app(), id.0.0, key.of(&body.json));
        let CorrectUsage { sandbox_id, metric, start, part, quantity, reason } = body.value;
        let quantity_milli = correct::quantity_milli(quantity.0)?;
        crate::app::admin::organizations::get(app, org).await?;
        let place = (sandbox_id.0, metric.0, start.0.0);
        // Windows are never changed, so where this one is does not depend on who asked before.
        let (transaction, window) = correct::find_window(app, org, place, part).await?;
        let correction = Correction { transaction, window, quantity_milli, reason };
        let print = |booked: &Booked| {
            answer(StatusCode::CREATED, &CorrectionResponse { transaction: booked.into() })
        };
        Ok(accounts::change(app, &caller, idempotent, org, correction, print).await?.into())
    }
}
