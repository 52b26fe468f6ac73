//! The record of what operators changed of an organization's terms, and why.

use chrono::{DateTime, Utc};
use domain::id::OrganizationId;
use migrations::rows::billing::{ChangeRow, NotedRow};
use sea_orm::ConnectionTrait;

use super::Billing;
use crate::{
    Page, PageRequest,
    db::{Sql, Tx},
    error::Result,
    reach::uuids,
    time,
};

impl Billing {
    /// A page of what was changed of plans, limits and caps of an organization, the last change first:
    /// those before the number `before`, if given.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, org = %org))]
    pub async fn changes(
        &self,
        c: &impl ConnectionTrait,
        org: OrganizationId,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Page<NotedRow>> {
        let sql = Sql::new(
            "select p.seq, p.setting, p.value, p.takes_effect_at, p.reason, p.made_at
             from plan_changes p where p.org_id = ",
            [],
        );
        let mut sql = self.reach.by_org(sql.bind(org.uuid()), "p.org_id");
        if let Some(before) = before {
            sql = sql.text(" and p.seq < ").bind(before);
        }
        let page = PageRequest { limit, after: None };
        let sql = sql.text(" order by p.seq desc limit ").bind(i64::from(limit) + 1);
        page.page(sql.all(c).await?, Ok)
    }

    /// What was changed of plans and caps of these organizations, in the order in which it was.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, n = orgs.len()))]
    pub async fn changes_of_terms(
        &self,
        c: &impl ConnectionTrait,
        orgs: &[OrganizationId],
    ) -> Result<Vec<ChangeRow>> {
        let sql = Sql::new(
            "select p.org_id, p.setting, p.value, p.takes_effect_at, p.made_at
             from plan_changes p where p.setting in ('plan', 'spend_cap') and p.org_id in ",
            [],
        );
        let sql = self.reach.by_org(sql.list(uuids(orgs)), "p.org_id");
        sql.text(" order by p.org_id, p.seq").all(c).await
    }

    /// Notes that an operator changed a setting of an organization, and why.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, org = %org, setting))]
    pub async fn note_change(
        &self,
        tx: &Tx,
        org: OrganizationId,
        (setting, value): (&str, Option<&str>),
        takes_effect_at: DateTime<Utc>,
        reason: &str,
        now: DateTime<Utc>,
    ) -> Result<()> {
        self.reach.must_cover(org, None)?;
        let id = domain::id::TransactionId::generate(now).uuid();
        Sql::new(
            "insert into plan_changes (id, org_id, seq, setting, value, takes_effect_at, reason,
               made_at)
             values ($1, $2, (select coalesce(max(seq), 0) + 1 from plan_changes where org_id = $2),
               $3, $4, $5, $6, $7)",
            [
                id.into(),
                org.uuid().into(),
                setting.into(),
                value.into(),
                time::micros(takes_effect_at).into(),
                reason.into(),
                time::micros(now).into(),
            ],
        )
        .execute(tx)
        .await?;
        Ok(())
    }
}
