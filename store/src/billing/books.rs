//! Writes of the books: grants, transactions, postings, windows, and the projections of them. Nothing
//! that is written here is ever changed but the projections.

use domain::id::OrganizationId;
use migrations::rows::billing::{
    AlertRow, GrantRow, LineRow, PostingRow, StatementRow, TotalRow, TransactionRow, WindowRow,
};
use uuid::Uuid;

use super::{Billing, CHUNK};
use crate::{
    db::{Sql, Tx},
    error::{Error, Result},
};

impl Billing {
    fn cover(&self, orgs: impl IntoIterator<Item = Uuid>) -> Result<()> {
        orgs.into_iter()
            .try_for_each(|org| self.reach.must_cover(OrganizationId::from_uuid(org), None))
    }

    /// Writes new grants.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, n = grants.len()))]
    pub async fn insert_grants(&self, tx: &Tx, grants: &[GrantRow]) -> Result<()> {
        self.cover(grants.iter().map(|grant| grant.org_id))?;
        for part in grants.chunks(CHUNK) {
            let rows = part.iter().map(|g| {
                [
                    g.id.into(),
                    g.org_id.into(),
                    g.kind.as_str().into(),
                    g.priority.into(),
                    g.amount.into(),
                    g.remaining.into(),
                    g.starts_at.into(),
                    g.expires_at.into(),
                ]
            });
            let sql = Sql::new(
                "insert into credit_grants (id, org_id, kind, priority, amount, remaining,
                   starts_at, expires_at) values ",
                [],
            );
            sql.rows(rows).execute(tx).await?;
        }
        Ok(())
    }

    /// Stores what is left of grants.
    ///
    /// # Errors
    /// [`Error::Stale`] when one of them is not there.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, n = left.len()))]
    pub async fn update_grants(&self, tx: &Tx, left: &[(Uuid, i64)]) -> Result<()> {
        for part in left.chunks(CHUNK) {
            let rows = part.iter().map(|(id, remaining)| [(*id).into(), (*remaining).into()]);
            let sql = Sql::new("with v(id, remaining) as (values ", []).rows(rows).text(
                ") update credit_grants as g set remaining = v.remaining from v where g.id = v.id",
            );
            let updated = self.reach.by_org(sql, "g.org_id").execute(tx).await?;
            if updated != crate::db::count(part.len()) {
                return Err(Error::Stale);
            }
        }
        Ok(())
    }

    /// Writes transactions with their postings.
    ///
    /// # Errors
    /// [`Error::Taken`] with `ledger_transactions_key_key` for one that was written before.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, n = transactions.len()))]
    pub async fn insert_transactions(
        &self,
        tx: &Tx,
        transactions: &[TransactionRow],
        postings: &[PostingRow],
    ) -> Result<()> {
        self.cover(transactions.iter().map(|transaction| transaction.org_id))?;
        self.cover(postings.iter().map(|posting| posting.org_id))?;
        for part in transactions.chunks(CHUNK) {
            let rows = part.iter().map(|t| {
                [
                    t.id.into(),
                    t.org_id.into(),
                    t.seq.into(),
                    t.kind.as_str().into(),
                    t.key.as_str().into(),
                    t.at.into(),
                    t.booked_from.into(),
                    t.pricing_version.as_deref().into(),
                    t.corrects.into(),
                    t.reason.as_deref().into(),
                    t.recorded_at.into(),
                ]
            });
            let sql = Sql::new(
                "insert into ledger_transactions (id, org_id, seq, kind, key, at, booked_from,
                   pricing_version, corrects, reason, recorded_at) values ",
                [],
            );
            sql.rows(rows).execute(tx).await?;
        }
        for part in postings.chunks(CHUNK) {
            let rows = part.iter().map(|p| {
                [
                    p.transaction_id.into(),
                    p.line.into(),
                    p.org_id.into(),
                    p.account.as_str().into(),
                    p.grant_id.into(),
                    p.amount.into(),
                ]
            });
            let sql = Sql::new(
                "insert into ledger_postings (transaction_id, line, org_id, account, grant_id,
                   amount) values ",
                [],
            );
            sql.rows(rows).execute(tx).await?;
        }
        Ok(())
    }

    /// Writes windows.
    ///
    /// # Errors
    /// [`Error::Taken`] for one that was written before.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, n = windows.len()))]
    pub async fn insert_windows(&self, tx: &Tx, windows: &[WindowRow]) -> Result<()> {
        self.cover(windows.iter().map(|window| window.org_id))?;
        for part in windows.chunks(CHUNK) {
            let rows = part.iter().map(|w| {
                [
                    w.sandbox_id.into(),
                    w.metric.as_str().into(),
                    w.started_at.into(),
                    w.part.into(),
                    w.org_id.into(),
                    w.project_id.into(),
                    w.ended_at.into(),
                    w.quantity.into(),
                    w.amount.into(),
                    w.pricing_version.as_str().into(),
                    w.booked_from.into(),
                    w.transaction_id.into(),
                ]
            });
            let sql = Sql::new(
                "insert into usage_windows (sandbox_id, metric, started_at, part, org_id,
                   project_id, ended_at, quantity, amount, pricing_version, booked_from,
                   transaction_id) values ",
                [],
            );
            sql.rows(rows).execute(tx).await?;
        }
        Ok(())
    }

    /// Adds to the lines of statements. No line may occur twice.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, n = lines.len()))]
    pub async fn add_lines(&self, tx: &Tx, lines: &[LineRow]) -> Result<()> {
        self.cover(lines.iter().map(|line| line.org_id))?;
        for part in lines.chunks(CHUNK) {
            let rows = part.iter().map(|l| {
                [
                    l.org_id.into(),
                    l.booked_from.into(),
                    l.used_from.into(),
                    l.project_id.into(),
                    l.metric.as_str().into(),
                    l.pricing_version.as_str().into(),
                    l.quantity.into(),
                    l.amount.into(),
                ]
            });
            let sql = Sql::new(
                "insert into usage_lines (org_id, booked_from, used_from, project_id, metric,
                   pricing_version, quantity, amount) values ",
                [],
            );
            let sql = sql.rows(rows).text(
                " on conflict (org_id, booked_from, used_from, project_id, metric, pricing_version)
                 do update set quantity = usage_lines.quantity + excluded.quantity,
                   amount = usage_lines.amount + excluded.amount",
            );
            sql.execute(tx).await?;
        }
        Ok(())
    }

    /// Adds to the totals of accounts. No total may occur twice.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, n = totals.len()))]
    pub async fn add_totals(&self, tx: &Tx, totals: &[TotalRow]) -> Result<()> {
        self.cover(totals.iter().map(|total| total.org_id))?;
        for part in totals.chunks(CHUNK) {
            let rows = part.iter().map(|t| {
                [
                    t.org_id.into(),
                    t.booked_from.into(),
                    t.account.as_str().into(),
                    t.pricing_version.as_str().into(),
                    t.amount.into(),
                ]
            });
            let sql = Sql::new(
                "insert into ledger_totals (org_id, booked_from, account, pricing_version, amount)
                 values ",
                [],
            );
            let sql = sql.rows(rows).text(
                " on conflict (org_id, booked_from, account, pricing_version)
                 do update set amount = ledger_totals.amount + excluded.amount",
            );
            sql.execute(tx).await?;
        }
        Ok(())
    }

    /// Writes a statement.
    ///
    /// # Errors
    /// [`Error::Taken`] with `statements_period_key`.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach))]
    pub async fn insert_statement(&self, tx: &Tx, statement: &StatementRow) -> Result<()> {
        self.cover([statement.org_id])?;
        Sql::new(
            "insert into statements (id, org_id, period_from, currency, due_minor_units, document,
               closed_at) values ($1, $2, $3, $4, $5, $6, $7)",
            [
                statement.id.into(),
                statement.org_id.into(),
                statement.period_from.into(),
                statement.currency.as_str().into(),
                statement.due_minor_units.into(),
                statement.document.as_str().into(),
                statement.closed_at.into(),
            ],
        )
        .execute(tx)
        .await?;
        Ok(())
    }

    /// Raises alerts; those of one threshold, subject and period exist once. Returns what is new.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, n = alerts.len()))]
    pub async fn raise_alerts(&self, tx: &Tx, alerts: &[AlertRow]) -> Result<Vec<AlertRow>> {
        self.cover(alerts.iter().map(|alert| alert.org_id))?;
        if alerts.is_empty() {
            return Ok(Vec::new());
        }
        let rows = alerts.iter().map(|a| {
            [
                a.org_id.into(),
                a.period_from.into(),
                a.subject.as_str().into(),
                a.percent.into(),
                a.raised_at.into(),
            ]
        });
        let sql = Sql::new(
            "insert into billing_alerts (org_id, period_from, subject, percent, raised_at) values ",
            [],
        );
        sql.rows(rows)
            .text(" on conflict do nothing returning org_id, period_from, subject, percent, raised_at")
            .all(tx)
            .await
    }
}
