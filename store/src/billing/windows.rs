//! Windows of usage, one by one.

use chrono::{DateTime, Utc};
use domain::id::{OrganizationId, SandboxId, TransactionId};
use migrations::rows::billing::{TransactionRow, WindowRow};
use sea_orm::ConnectionTrait;
use uuid::Uuid;

use super::{Billing, reports::TRANSACTION};
use crate::{db::Sql, error::Result, time};

const WINDOW: &str = "select w.sandbox_id, w.metric, w.started_at, w.part, w.org_id, w.project_id,
       w.ended_at, w.quantity, w.amount, w.pricing_version, w.booked_from, w.transaction_id
     from usage_windows w where ";

/// A place in the order of windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowPlace {
    /// When the window begins, in microseconds.
    pub started_at: i64,
    /// Its sandbox.
    pub sandbox_id: Uuid,
    /// Its metric.
    pub metric: String,
    /// Its part.
    pub part: i64,
}

impl From<&WindowRow> for WindowPlace {
    fn from(row: &WindowRow) -> Self {
        let metric = row.metric.clone();
        Self { started_at: row.started_at, sandbox_id: row.sandbox_id, metric, part: row.part }
    }
}

impl Billing {
    /// A page of an organization's windows that begin in `[from, until)`, by start, sandbox, metric and
    /// part, from the one after `after` on.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, org = %org))]
    pub async fn windows(
        &self,
        c: &impl ConnectionTrait,
        org: OrganizationId,
        (from, until): (DateTime<Utc>, DateTime<Utc>),
        after: Option<&WindowPlace>,
        limit: u32,
    ) -> Result<Vec<WindowRow>> {
        let from = time::micros(from);
        let from = after.map_or(from, |last| last.started_at.max(from));
        let sql = Sql::new(WINDOW, []).text("w.org_id = ").bind(org.uuid());
        let sql = sql.text(" and w.started_at >= ").bind(from);
        let mut sql = sql.text(" and w.started_at < ").bind(time::micros(until));
        if let Some(last) = after {
            sql = sql.text(" and (w.started_at, w.sandbox_id, w.metric, w.part) > (");
            sql = sql.bind(last.started_at).text(", ").bind(last.sandbox_id).text(", ");
            sql = sql.bind(last.metric.as_str()).text(", ").bind(last.part).text(")");
        }
        self.reach
            .by_project(sql, "w.org_id", "w.project_id")
            .text(" order by w.started_at, w.sandbox_id, w.metric, w.part limit ")
            .bind(i64::from(limit))
            .all(c)
            .await
    }

    /// The windows of a sandbox's metric that begin at an instant, by part: counts that came late and
    /// corrections are parts of their own.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, sandbox = %sandbox))]
    pub async fn windows_at(
        &self,
        c: &impl ConnectionTrait,
        sandbox: SandboxId,
        metric: &str,
        started_at: DateTime<Utc>,
    ) -> Result<Vec<WindowRow>> {
        let sql = Sql::new(WINDOW, []).text("w.sandbox_id = ").bind(sandbox.uuid());
        let sql = sql.text(" and w.metric = ").bind(metric);
        let sql = sql.text(" and w.started_at = ").bind(time::micros(started_at));
        let sql = self.reach.by_project(sql, "w.org_id", "w.project_id");
        sql.text(" order by w.part").all(c).await
    }

    /// The transactions that correct one, oldest first.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, transaction = %id))]
    pub async fn corrections_of(
        &self,
        c: &impl ConnectionTrait,
        org: OrganizationId,
        id: TransactionId,
    ) -> Result<Vec<TransactionRow>> {
        let sql = Sql::new(TRANSACTION, []).text("t.org_id = ").bind(org.uuid());
        let sql = sql.text(" and t.corrects = ").bind(id.uuid());
        self.reach.by_org(sql, "t.org_id").text(" order by t.seq").all(c).await
    }
}
