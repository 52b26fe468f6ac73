//! Reads of the books: what is left, what was used, and everything there is, for checks and exports.

use chrono::{DateTime, Utc};
use domain::id::{GrantId, OrganizationId, TransactionId};
use migrations::rows::billing::{
    AlertRow, GrantRow, LineRow, PostingRow, StatementRow, TotalRow, TransactionRow, WindowRow,
};
use sea_orm::ConnectionTrait;

use super::{Billing, CHUNK};
use crate::{db::Sql, error::Result, reach::uuids, time};

const GRANT: &str = "select g.id, g.org_id, g.kind, g.priority, g.amount, g.remaining, g.starts_at,
       g.expires_at from credit_grants g where ";
const LINE: &str = "select l.org_id, l.booked_from, l.used_from, l.project_id, l.metric,
       l.pricing_version, l.quantity, l.amount from usage_lines l where ";
const TOTAL: &str = "select t.org_id, t.booked_from, t.account, t.pricing_version, t.amount
     from ledger_totals t where ";
const STATEMENT: &str = "select s.id, s.org_id, s.period_from, s.currency, s.due_minor_units,
       s.document, s.closed_at from statements s where ";
const TRANSACTION: &str = "select t.id, t.org_id, t.seq, t.kind, t.key, t.at, t.booked_from,
       t.pricing_version, t.corrects, t.reason, t.recorded_at from ledger_transactions t where ";
const POSTING: &str = "select p.transaction_id, p.line, p.org_id, p.account, p.grant_id, p.amount
     from ledger_postings p where ";
const WINDOW: &str = "select w.sandbox_id, w.metric, w.started_at, w.part, w.org_id, w.project_id,
       w.ended_at, w.quantity, w.amount, w.pricing_version, w.booked_from, w.transaction_id
     from usage_windows w where ";

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

    /// The windows that a transaction booked.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, org = %org))]
    pub async fn windows(
        &self,
        c: &impl ConnectionTrait,
        org: OrganizationId,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<WindowRow>> {
        let sql = Sql::new(WINDOW, []).text("w.org_id = ").bind(org.uuid());
        let sql = sql.text(" and w.started_at >= ").bind(time::micros(from));
        let sql = sql.text(" and w.started_at < ").bind(time::micros(until));
        self.reach
            .by_project(sql, "w.org_id", "w.project_id")
            .text(" order by w.started_at, w.sandbox_id, w.metric, w.part limit ")
            .bind(i64::from(limit.min(u32::try_from(CHUNK).unwrap_or(u32::MAX) * 500)))
            .all(c)
            .await
    }

    /// The lines of an organization as its windows say, for comparison with the projection.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, org = %org))]
    pub async fn lines_from_windows(
        &self,
        c: &impl ConnectionTrait,
        org: OrganizationId,
        used: (DateTime<Utc>, DateTime<Utc>),
    ) -> Result<Vec<LineRow>> {
        let from = time::micros(used.0);
        let sql = Sql::new(
            "select w.org_id, w.booked_from, cast($1 as bigint) as used_from, w.project_id,
               w.metric, w.pricing_version, cast(sum(w.quantity) as bigint) as quantity,
               cast(sum(w.amount) as bigint) as amount
             from usage_windows w where w.started_at >= $1 and w.started_at < $2 and w.org_id = $3",
            [from.into(), time::micros(used.1).into(), org.uuid().into()],
        );
        self.reach
            .by_org(sql, "w.org_id")
            .text(" group by w.org_id, w.booked_from, w.project_id, w.metric, w.pricing_version")
            .all(c)
            .await
    }

    /// When the first and the last window of an organization begin.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, org = %org))]
    pub async fn window_range(
        &self,
        c: &impl ConnectionTrait,
        org: OrganizationId,
    ) -> Result<Option<(DateTime<Utc>, DateTime<Utc>)>> {
        let ends = |function: &str| {
            let text =
                format!("select {function}(w.started_at) from usage_windows w where w.org_id = ");
            self.reach.by_org(Sql::new(text, []).bind(org.uuid()), "w.org_id")
        };
        let first = time::optional(ends("min").value(c).await?)?;
        let last = time::optional(ends("max").value(c).await?)?;
        Ok(first.zip(last))
    }

    /// The sandboxes that have a meter whose windows, without corrections, are not what it says.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, org = %org))]
    pub async fn meters_that_differ(
        &self,
        c: &impl ConnectionTrait,
        org: OrganizationId,
    ) -> Result<Vec<domain::id::SandboxId>> {
        let sql = Sql::new(
            "select m.sandbox_id from meters m
             left join (select w.sandbox_id, w.metric, sum(w.quantity) as quantity,
                 sum(w.amount) as amount
               from usage_windows w left join ledger_transactions t on t.id = w.transaction_id
               where w.org_id = $1 and coalesce(t.kind, 'usage') = 'usage'
               group by w.sandbox_id, w.metric) w
               on w.sandbox_id = m.sandbox_id and w.metric = m.metric
             where m.org_id = $1 and (coalesce(w.quantity, 0) <> m.settled_quantity
               or coalesce(w.amount, 0) <> m.settled_amount)",
            [org.uuid().into()],
        );
        let ids: Vec<uuid::Uuid> = self.reach.by_org(sql, "m.org_id").column(c).await?;
        Ok(ids.into_iter().map(domain::id::SandboxId::from_uuid).collect())
    }

    /// Every line of an organization.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, org = %org))]
    pub async fn all_lines(
        &self,
        c: &impl ConnectionTrait,
        org: OrganizationId,
    ) -> Result<Vec<LineRow>> {
        let sql = Sql::new(LINE, []).text("l.org_id = ").bind(org.uuid());
        self.reach.by_org(sql, "l.org_id").all(c).await
    }

    /// The totals of an organization as its postings say, for comparison with the projection.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, org = %org))]
    pub async fn totals_from_postings(
        &self,
        c: &impl ConnectionTrait,
        org: OrganizationId,
    ) -> Result<Vec<TotalRow>> {
        let sql = Sql::new(
            "select t.org_id, t.booked_from, p.account,
               coalesce(t.pricing_version, '') as pricing_version,
               cast(sum(p.amount) as bigint) as amount
             from ledger_postings p join ledger_transactions t on t.id = p.transaction_id
             where p.org_id = ",
            [],
        );
        let sql = self.reach.by_org(sql.bind(org.uuid()), "p.org_id");
        sql.text(" group by t.org_id, t.booked_from, p.account, t.pricing_version").all(c).await
    }

    /// Every total of an organization.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, org = %org))]
    pub async fn all_totals(
        &self,
        c: &impl ConnectionTrait,
        org: OrganizationId,
    ) -> Result<Vec<TotalRow>> {
        let sql = Sql::new(TOTAL, []).text("t.org_id = ").bind(org.uuid());
        self.reach.by_org(sql, "t.org_id").all(c).await
    }

    /// What is left of each grant of an organization as its postings say.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, org = %org))]
    pub async fn remaining_from_postings(
        &self,
        c: &impl ConnectionTrait,
        org: OrganizationId,
    ) -> Result<Vec<GrantRow>> {
        let sql = Sql::new(
            "select g.id, g.org_id, g.kind, g.priority, g.amount,
               cast(coalesce((select sum(p.amount) from ledger_postings p
                 where p.grant_id = g.id and p.org_id = g.org_id), 0) as bigint) as remaining,
               g.starts_at, g.expires_at
             from credit_grants g where g.org_id = ",
            [],
        );
        self.reach.by_org(sql.bind(org.uuid()), "g.org_id").text(" order by g.id").all(c).await
    }
}
