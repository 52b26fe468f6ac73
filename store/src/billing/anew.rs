//! Reads for checks: the projections of the books as a whole, and the same computed anew from what is
//! never changed.

use chrono::{DateTime, Utc};
use domain::id::OrganizationId;
use migrations::rows::billing::{GrantRow, LineRow, TotalRow};
use sea_orm::ConnectionTrait;

use super::{
    Billing,
    reports::{LINE, TOTAL},
};
use crate::{db::Sql, error::Result, time};

impl Billing {
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
