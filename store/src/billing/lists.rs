//! Pages of the books, for whoever reads them over an API, and transactions by what they book.

use chrono::{DateTime, Utc};
use domain::id::{GrantId, OrganizationId};
use migrations::rows::billing::{GrantRow, StatementRow};
use sea_orm::ConnectionTrait;
use uuid::Uuid;

use super::{
    Billing,
    reports::{GRANT, STATEMENT},
};
use crate::{Page, PageRequest, db::Sql, error::Result, time};

impl Billing {
    /// A page of an organization's grants, newest first.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, org = %org))]
    pub async fn list_grants(
        &self,
        c: &impl ConnectionTrait,
        org: OrganizationId,
        page: PageRequest,
    ) -> Result<Page<GrantRow>> {
        let sql = Sql::new(GRANT, []).text("g.org_id = ").bind(org.uuid());
        let sql = page.apply(self.reach.by_org(sql, "g.org_id"), "g.id");
        page.page(sql.all(c).await?, Ok)
    }

    /// A page of an organization's statements, that of the latest period first: those of periods before
    /// `before`, if given.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, org = %org))]
    pub async fn list_statements(
        &self,
        c: &impl ConnectionTrait,
        org: OrganizationId,
        before: Option<DateTime<Utc>>,
        limit: u32,
    ) -> Result<Page<StatementRow>> {
        let sql = Sql::new(STATEMENT, []).text("s.org_id = ").bind(org.uuid());
        let mut sql = self.reach.by_org(sql, "s.org_id");
        if let Some(before) = before {
            sql = sql.text(" and s.period_from < ").bind(time::micros(before));
        }
        let page = PageRequest { limit, after: None };
        let sql = sql.text(" order by s.period_from desc limit ").bind(i64::from(limit) + 1);
        page.page(sql.all(c).await?, Ok)
    }

    /// The transaction of an organization that has this key.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, org = %org))]
    pub async fn transaction_of_key(
        &self,
        c: &impl ConnectionTrait,
        org: OrganizationId,
        key: &str,
    ) -> Result<Option<Uuid>> {
        let sql = Sql::new("select t.id from ledger_transactions t where t.org_id = ", []);
        let sql = sql.bind(org.uuid()).text(" and t.key = ").bind(key);
        Ok(self.reach.by_org(sql, "t.org_id").column(c).await?.pop())
    }

    /// The transaction with which a grant's credit came.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, grant = %grant))]
    pub async fn transaction_of_grant(
        &self,
        c: &impl ConnectionTrait,
        grant: GrantId,
    ) -> Result<Option<Uuid>> {
        // What gives back to a grant has postings above zero, too.
        let sql = Sql::new(
            "select t.id from ledger_postings p
             join ledger_transactions t on t.id = p.transaction_id
             where p.amount > 0 and t.kind = 'grant' and p.grant_id = ",
            [],
        );
        Ok(self.reach.by_org(sql.bind(grant.uuid()), "p.org_id").column(c).await?.pop())
    }
}
