//! Accounts: one per organization, the lock of everything that changes its books.

use chrono::{DateTime, Utc};
use domain::id::OrganizationId;
use migrations::rows::billing::AccountRow;
use sea_orm::ConnectionTrait;
use uuid::Uuid;

use super::Billing;
use crate::{
    db::{Sql, Tx},
    error::{Error, Result},
    sandboxes::{CURRENT, LIVE},
    time,
};

fn select(condition: &str) -> Sql {
    Sql::new(
        format!(
            "select a.org_id, a.spend_cap, a.open_from, a.plan_period, a.plan_granted,
               a.free_granted, a.stops_at, a.stop_code, a.stop_told, a.due_at, a.last_seq,
               o.plan, o.next_plan, o.next_plan_at,
               exists (select 1 from sandboxes s where s.org_id = a.org_id
                 and s.phase in {CURRENT} and s.phase in {LIVE}) as live
             from billing_accounts a join organizations o on o.id = a.org_id where {condition}"
        ),
        [],
    )
}

/// The most overdue first.
const ORDER: &str = " order by a.due_at, a.org_id";

// Accounts are locked by a statement of their own: in one that waits for its lock, PostgreSQL would
// read the account as it is afterwards, but the organization beside it as it was when the wait began.
impl Billing {
    /// Locks up to `limit` accounts that are due and that nobody else works at, the most overdue
    /// first, until the transaction ends.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach))]
    pub async fn claim_due(
        &self,
        tx: &Tx,
        now: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<AccountRow>> {
        let sql = Sql::new("select a.org_id from billing_accounts a where a.due_at <= ", []);
        let sql = self.reach.by_org(sql.bind(time::micros(now)), "a.org_id");
        let sql = sql.text(" order by a.due_at, a.org_id limit ").bind(i64::from(limit));
        let held: Vec<Uuid> = sql.lock(tx, "for no key update of a skip locked").column(tx).await?;
        if held.is_empty() {
            return Ok(Vec::new());
        }
        self.reach.by_org(select("a.org_id in ").list(held), "a.org_id").text(ORDER).all(tx).await
    }

    /// The account, locked until the transaction ends: whoever changes an organization's books does
    /// so alone.
    ///
    /// # Errors
    /// [`Error::Missing`].
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, org = %org))]
    pub async fn lock_account(&self, tx: &Tx, org: OrganizationId) -> Result<AccountRow> {
        let sql = Sql::new("select a.org_id from billing_accounts a where a.org_id = ", []);
        let sql = self.reach.by_org(sql.bind(org.uuid()), "a.org_id");
        sql.lock(tx, "for no key update of a").column::<Uuid>(tx).await?;
        self.account(tx, org).await
    }

    /// The account.
    ///
    /// # Errors
    /// [`Error::Missing`].
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, org = %org))]
    pub async fn account(
        &self,
        c: &impl ConnectionTrait,
        org: OrganizationId,
    ) -> Result<AccountRow> {
        let sql = self.reach.by_org(select("a.org_id = ").bind(org.uuid()), "a.org_id");
        sql.one(c).await?.ok_or(Error::Missing("billing account"))
    }

    /// Accounts in the order of their organizations, from the one after `after` on; for checks of all.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach))]
    pub async fn accounts(
        &self,
        c: &impl ConnectionTrait,
        after: Option<Uuid>,
        limit: u32,
    ) -> Result<Vec<AccountRow>> {
        let sql = match after {
            Some(after) => select("a.org_id > ").bind(after),
            None => select("true"),
        };
        let sql = self.reach.by_org(sql, "a.org_id");
        sql.text(" order by a.org_id limit ").bind(i64::from(limit)).all(c).await
    }

    /// Writes the account of a new organization.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach))]
    pub async fn insert_account(&self, tx: &Tx, account: &AccountRow) -> Result<()> {
        self.reach.must_cover(OrganizationId::from_uuid(account.org_id), None)?;
        Sql::new(
            "insert into billing_accounts (org_id, spend_cap, open_from, plan_period, plan_granted,
               free_granted, stops_at, stop_code, stop_told, due_at, last_seq)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            [
                account.org_id.into(),
                account.spend_cap.into(),
                account.open_from.into(),
                account.plan_period.into(),
                account.plan_granted.into(),
                account.free_granted.into(),
                account.stops_at.into(),
                account.stop_code.as_deref().into(),
                account.stop_told.into(),
                account.due_at.into(),
                account.last_seq.into(),
            ],
        )
        .execute(tx)
        .await?;
        Ok(())
    }

    /// Stores what changed of locked accounts. One statement.
    ///
    /// # Errors
    /// [`Error::Stale`] when one of them is not there.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, n = accounts.len()))]
    pub async fn update_accounts(&self, tx: &Tx, accounts: &[AccountRow]) -> Result<()> {
        if accounts.is_empty() {
            return Ok(());
        }
        let rows = accounts.iter().map(|a| {
            [
                a.org_id.into(),
                a.spend_cap.into(),
                a.open_from.into(),
                a.plan_period.into(),
                a.plan_granted.into(),
                a.free_granted.into(),
                a.stops_at.into(),
                a.stop_code.as_deref().into(),
                a.stop_told.into(),
                a.due_at.into(),
                a.last_seq.into(),
            ]
        });
        let sql = Sql::new(
            "with v(org_id, spend_cap, open_from, plan_period, plan_granted, free_granted,
               stops_at, stop_code, stop_told, due_at, last_seq) as (values ",
            [],
        );
        let sql = sql.rows(rows).text(
            ") update billing_accounts as a set spend_cap = v.spend_cap, open_from = v.open_from,
               plan_period = v.plan_period, plan_granted = v.plan_granted,
               free_granted = v.free_granted, stops_at = v.stops_at, stop_code = v.stop_code, stop_told = v.stop_told,
               due_at = v.due_at, last_seq = v.last_seq
             from v where a.org_id = v.org_id",
        );
        let updated = self.reach.by_org(sql, "a.org_id").execute(tx).await?;
        if updated == crate::db::count(accounts.len()) { Ok(()) } else { Err(Error::Stale) }
    }

    /// Makes an account due at `at` if it is not due before that.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, org = %org))]
    pub async fn wake(
        &self,
        c: &impl ConnectionTrait,
        org: OrganizationId,
        at: DateTime<Utc>,
    ) -> Result<()> {
        let sql = Sql::new(
            "update billing_accounts as a set due_at = $2 where a.org_id = $1 and a.due_at > $2",
            [org.uuid().into(), time::micros(at).into()],
        );
        self.reach.by_org(sql, "a.org_id").execute(c).await?;
        Ok(())
    }

    /// Makes an account due at `at` and not before.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, org = %org))]
    pub async fn postpone(
        &self,
        c: &impl ConnectionTrait,
        org: OrganizationId,
        at: DateTime<Utc>,
    ) -> Result<()> {
        let sql = Sql::new(
            "update billing_accounts as a set due_at = $2 where a.org_id = $1",
            [org.uuid().into(), time::micros(at).into()],
        );
        self.reach.by_org(sql, "a.org_id").execute(c).await?;
        Ok(())
    }

    /// When the next account is due.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach))]
    pub async fn next_account_due(
        &self,
        c: &impl ConnectionTrait,
    ) -> Result<Option<DateTime<Utc>>> {
        let sql = Sql::new("select min(a.due_at) from billing_accounts a where true", []);
        time::optional(self.reach.by_org(sql, "a.org_id").value(c).await?)
    }
}
