//! Reads of the books: what is left, what was used, what was booked.

use chrono::{DateTime, Utc};
use domain::id::{GrantId, OrganizationId, TransactionId};
use migrations::rows::billing::{
    AlertRow, GrantRow, LineRow, PostingRow, StatementRow, TotalRow, TransactionRow,
};
use sea_orm::ConnectionTrait;

use super::Billing;
use crate::{db::Sql, error::Result, reach::uuids, time};

pub(super) const GRANT: &str =
    "select g.id, g.org_id, g.kind, g.priority, g.amount, g.remaining, g.starts_at,
       g.expires_at from credit_grants g where ";
pub(super) const LINE: &str = "select l.org_id, l.booked_from, l.used_from, l.project_id, l.metric,
       l.pricing_version, l.quantity, l.amount from usage_lines l where ";
pub(super) const TOTAL: &str =
    "select t.org_id, t.booked_from, t.account, t.pricing_version, t.amount
     from ledger_totals t where ";
pub(super) const STATEMENT: &str =
    "select s.id, s.org_id, s.period_from, s.currency, s.due_minor_units,
       s.document, s.closed_at from statements s where ";
pub(super) const TRANSACTION: &str =
    "select t.id, t.org_id, t.seq, t.kind, t.key, t.at, t.booked_from,
       t.pricing_version, t.corrects, t.reason, t.recorded_at from ledger_transactions t where ";
const POSTING: &str = "select p.transaction_id, p.line, p.org_id, p.account, p.grant_id, p.amount
     from ledger_postings p where ";

impl Billing {
    /// Grants of these organizations that something is left of.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, n = orgs.len()))]
    pub async fn grants_left(
        &self,
        c: &impl ConnectionTrait,
        orgs: &[OrganizationId],
    ) -> Result<Vec<GrantRow>> {
        let sql = Sql::new(GRANT, []).text("g.remaining > 0 and g.org_id in ").list(uuids(orgs));
        self.reach.by_org(sql, "g.org_id").text(" order by g.id").all(c).await
    }

    /// These grants, whatever is left of them.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, n = ids.len()))]
    pub async fn grants(&self, c: &impl ConnectionTrait, ids: &[GrantId]) -> Result<Vec<GrantRow>> {
        let sql = Sql::new(GRANT, []).text("g.id in ").list(uuids(ids));
        self.reach.by_org(sql, "g.org_id").text(" order by g.id").all(c).await
    }

    /// Every grant of an organization, oldest first.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, org = %org))]
    pub async fn all_grants(
        &self,
        c: &impl ConnectionTrait,
        org: OrganizationId,
    ) -> Result<Vec<GrantRow>> {
        let sql = Sql::new(GRANT, []).text("g.org_id = ").bind(org.uuid());
        self.reach.by_org(sql, "g.org_id").text(" order by g.id").all(c).await
    }

    /// The totals of these organizations for a period.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, n = orgs.len()))]
    pub async fn totals(
        &self,
        c: &impl ConnectionTrait,
        orgs: &[OrganizationId],
        booked_from: DateTime<Utc>,
    ) -> Result<Vec<TotalRow>> {
        let sql = Sql::new(TOTAL, [])
            .text("t.booked_from = ")
            .bind(time::micros(booked_from))
            .text(" and t.org_id in ")
            .list(uuids(orgs));
        let order = " order by t.org_id, t.account, t.pricing_version";
        self.reach.by_org(sql, "t.org_id").text(order).all(c).await
    }

    /// The totals of these organizations for a period and all after it.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, n = orgs.len()))]
    pub async fn totals_since(
        &self,
        c: &impl ConnectionTrait,
        orgs: &[OrganizationId],
        booked_from: DateTime<Utc>,
    ) -> Result<Vec<TotalRow>> {
        let sql = Sql::new(TOTAL, [])
            .text("t.booked_from >= ")
            .bind(time::micros(booked_from))
            .text(" and t.org_id in ")
            .list(uuids(orgs));
        self.reach.by_org(sql, "t.org_id").text(" order by t.org_id, t.booked_from").all(c).await
    }

    /// The lines that a period's statement shows.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, org = %org))]
    pub async fn booked_lines(
        &self,
        c: &impl ConnectionTrait,
        org: OrganizationId,
        booked_from: DateTime<Utc>,
    ) -> Result<Vec<LineRow>> {
        let sql = Sql::new(LINE, []).text("l.org_id = ").bind(org.uuid());
        let sql = sql.text(" and l.booked_from = ").bind(time::micros(booked_from));
        self.reach.by_project(sql, "l.org_id", "l.project_id").all(c).await
    }

    /// What was used in a period and is settled, whatever statement shows it.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, org = %org))]
    pub async fn used_lines(
        &self,
        c: &impl ConnectionTrait,
        org: OrganizationId,
        used_from: DateTime<Utc>,
    ) -> Result<Vec<LineRow>> {
        let sql = Sql::new(LINE, []).text("l.org_id = ").bind(org.uuid());
        let sql = sql.text(" and l.used_from = ").bind(time::micros(used_from));
        self.reach.by_project(sql, "l.org_id", "l.project_id").all(c).await
    }

    /// A period's statement.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, org = %org))]
    pub async fn find_statement(
        &self,
        c: &impl ConnectionTrait,
        org: OrganizationId,
        period_from: DateTime<Utc>,
    ) -> Result<Option<StatementRow>> {
        let sql = Sql::new(STATEMENT, []).text("s.org_id = ").bind(org.uuid());
        let sql = sql.text(" and s.period_from = ").bind(time::micros(period_from));
        self.reach.by_org(sql, "s.org_id").one(c).await
    }

    /// The alerts of an organization in a period.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, org = %org))]
    pub async fn alerts(
        &self,
        c: &impl ConnectionTrait,
        org: OrganizationId,
        period_from: DateTime<Utc>,
    ) -> Result<Vec<AlertRow>> {
        let sql = Sql::new(
            "select a.org_id, a.period_from, a.subject, a.percent, a.raised_at
             from billing_alerts a where a.org_id = ",
            [],
        );
        let sql =
            sql.bind(org.uuid()).text(" and a.period_from = ").bind(time::micros(period_from));
        self.reach.by_org(sql, "a.org_id").text(" order by a.subject, a.percent").all(c).await
    }

    /// A page of an organization's transactions in the order in which they were written, from the one
    /// after `after` on, with their postings.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, org = %org))]
    pub async fn journal(
        &self,
        c: &impl ConnectionTrait,
        org: OrganizationId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<(TransactionRow, Vec<PostingRow>)>> {
        let limit = limit.min(1_000);
        let sql = Sql::new(TRANSACTION, []).text("t.org_id = ").bind(org.uuid());
        let sql = sql.text(" and t.seq > ").bind(after);
        let sql = self.reach.by_org(sql, "t.org_id").text(" order by t.seq limit ");
        let rows: Vec<TransactionRow> = sql.bind(i64::from(limit)).all(c).await?;
        let ids: Vec<_> = rows.iter().map(|row| TransactionId::from_uuid(row.id)).collect();
        let mut postings = self.postings(c, &ids).await?.into_iter().peekable();
        let mut journal = Vec::with_capacity(rows.len());
        for row in rows {
            let mut mine = Vec::new();
            while let Some(posting) = postings.next_if(|p| p.transaction_id == row.id) {
                mine.push(posting);
            }
            journal.push((row, mine));
        }
        Ok(journal)
    }

    /// The postings of these transactions, in their order.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, n = ids.len()))]
    pub async fn postings(
        &self,
        c: &impl ConnectionTrait,
        ids: &[TransactionId],
    ) -> Result<Vec<PostingRow>> {
        let sql = Sql::new(POSTING, []).text("p.transaction_id in ").list(uuids(ids));
        let mut rows: Vec<PostingRow> = self.reach.by_org(sql, "p.org_id").all(c).await?;
        let place = |row: &PostingRow| ids.iter().position(|id| id.uuid() == row.transaction_id);
        rows.sort_by_cached_key(|row| (place(row), row.line));
        Ok(rows)
    }

    /// A transaction.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, transaction = %id))]
    pub async fn find_transaction(
        &self,
        c: &impl ConnectionTrait,
        id: TransactionId,
    ) -> Result<Option<TransactionRow>> {
        let sql = Sql::new(TRANSACTION, []).text("t.id = ").bind(id.uuid());
        self.reach.by_org(sql, "t.org_id").one(c).await
    }
}
