//! The books of an organization whose sandboxes ran in the past, written without settling anything. They
//! are as right as settled ones: the checker finds nothing.

use anyhow::{Context, Result};
use api::clock::{Clock, SystemClock};
use chrono::{DateTime, Datelike, NaiveTime, TimeDelta, Utc};
use domain::{
    id::{ApiKeyId, GrantId, OrganizationId, ProjectId, SandboxId, TransactionId},
    metadata::Metadata,
    sandbox::{Activity, EndReason, Phase, Sandbox},
};
use serde_json::Value;
use store::{
    Backend, ConnectionTrait, Db, Everyone, Tx,
    rows::{GrantRow, LineRow, MeterRow, PostingRow, TotalRow, TransactionRow},
    usage::{Metric, UsageRecord, UsageRecordId},
};
use uuid::Uuid;

/// What a sandbox costs in a minute, in nano-credits: a thousandth of a credit a second.
const COST: i64 = 60_000_000;
/// Thousandths of compute unit seconds in a minute.
const QUANTITY: i64 = 60_000;
const VERSION: &str = "2026-07";

/// So many sandboxes ran at the same time for so many minutes.
#[derive(Debug, Clone, Copy)]
pub struct History {
    pub n_sandboxes: u32,
    pub n_minutes: u32,
}

/// An organization whose books are written.
struct Writer {
    org: OrganizationId,
    project: ProjectId,
    key: ApiKeyId,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
    history: History,
    reach: store::Reach,
}

impl History {
    /// Whole seconds that all sandboxes ran together.
    pub fn seconds(self) -> i64 {
        i64::from(self.n_sandboxes) * i64::from(self.n_minutes) * 60
    }

    /// Writes the history of a bootstrapped organization, from the beginning of this month on.
    pub async fn write(self, db: &Db, made: &Value) -> Result<()> {
        let id = |name: &str| made[name].as_str().with_context(|| format!("{name}: {made}"));
        let today = SystemClock.now().date_naive();
        let first = today.with_day(1).context("a month has a first day")?;
        let from = first.and_time(NaiveTime::MIN).and_utc();
        let writer = Writer {
            org: id("organizationId")?.parse()?,
            project: id("projectId")?.parse()?,
            key: id("apiKeyId")?.parse()?,
            from,
            until: from + TimeDelta::minutes(i64::from(self.n_minutes)),
            history: self,
            reach: Everyone::for_worker("bench"),
        };
        let tx = db.begin().await?;
        if db.backend() == Backend::Postgres {
            // A million windows take a while; what they point at is there.
            tx.execute_unprepared("set local statement_timeout = 0").await?;
            tx.execute_unprepared("set local session_replication_role = replica").await?;
        }
        writer.ledger(&tx).await?;
        writer.sandboxes(&tx).await?;
        tx.execute_unprepared(&writer.windows()).await?;
        Ok(tx.commit().await?)
    }
}

impl Writer {
    /// Purchased credit, what each minute took of it, and the projections.
    async fn ledger(&self, tx: &Tx) -> Result<()> {
        let billing = store::billing(self.reach.clone());
        let mut account = billing.lock_account(tx, self.org).await?;
        let n = i64::from(self.history.n_minutes);
        let cost = COST * i64::from(self.history.n_sandboxes);
        let (org_id, month) = (self.org.uuid(), self.from.timestamp_micros());
        let grant = GrantRow {
            id: GrantId::generate(self.from).uuid(),
            org_id,
            kind: "purchased".to_owned(),
            priority: 400,
            amount: cost * n * 2,
            remaining: cost * n,
            starts_at: month,
            expires_at: None,
        };
        let mut transactions = Vec::new();
        let mut postings = Vec::new();
        for minute in 0..=n {
            let at = month + minute * 60_000_000;
            account.last_seq += 1;
            let given = minute == 0;
            let id = TransactionId::generate(self.from).uuid();
            transactions.push(TransactionRow {
                id,
                org_id,
                seq: account.last_seq,
                kind: if given { "grant" } else { "usage" }.to_owned(),
                key: format!("{}:{minute}", self.org),
                at,
                booked_from: month,
                pricing_version: (!given).then(|| VERSION.to_owned()),
                corrects: None,
                reason: None,
                recorded_at: at,
            });
            let (credit, other) = if given { (grant.amount, "issued") } else { (-cost, "usage") };
            postings.push(posting(id, 0, org_id, Some(grant.id), credit));
            postings.push(PostingRow {
                account: other.to_owned(),
                ..posting(id, 1, org_id, None, -credit)
            });
        }
        billing.insert_grants(tx, std::slice::from_ref(&grant)).await?;
        billing.insert_transactions(tx, &transactions, &postings).await?;
        let total = |account: &str, version: &str, amount: i64| TotalRow {
            org_id,
            booked_from: month,
            account: account.to_owned(),
            pricing_version: version.to_owned(),
            amount,
        };
        let totals = [
            total("issued", "", -grant.amount),
            total("credit:purchased", "", grant.amount),
            total("credit:purchased", VERSION, -cost * n),
            total("usage", VERSION, cost * n),
        ];
        billing.add_totals(tx, &totals).await?;
        let line = LineRow {
            org_id,
            booked_from: month,
            used_from: month,
            project_id: self.project.uuid(),
            metric: Metric::ComputeUnitSeconds.as_str().to_owned(),
            pricing_version: VERSION.to_owned(),
            quantity: cost * n / COST * QUANTITY,
            amount: cost * n,
        };
        billing.add_lines(tx, &[line]).await?;
        Ok(billing.update_accounts(tx, &[account]).await?)
    }

    /// Sandboxes that are over, with meters that are settled to their end.
    async fn sandboxes(&self, tx: &Tx) -> Result<()> {
        let template = store::templates::latest(tx, "python").await?.context("a template")?;
        let n = i64::from(self.history.n_minutes);
        let mut meters = Vec::new();
        for _ in 0..self.history.n_sandboxes {
            let sandbox = Sandbox {
                id: SandboxId::generate(self.from),
                org_id: self.org,
                project_id: self.project,
                created_by: self.key,
                template: template.clone(),
                pricing_version: VERSION.to_owned(),
                phase: Phase::Destroyed,
                generation: 4,
                host: "bench".to_owned(),
                ttl_ms: u64::from(self.history.n_minutes) * 60_000,
                metadata: Metadata::default(),
                created_at: self.from,
                ready_at: Some(self.from),
                expires_at: self.until,
                ended_at: Some(self.until),
                end_reason: Some(EndReason::TtlExpired),
                removed_at: Some(self.until),
                last_activity_at: self.from,
                seen_alive_at: Some(self.until),
                activity: Activity::Unused,
            };
            store::sandboxes(self.reach.clone()).insert(tx, &sandbox, None).await?;
            let record = UsageRecord {
                id: UsageRecordId::generate(self.from),
                org_id: self.org,
                project_id: self.project,
                sandbox_id: sandbox.id,
                metric: Metric::SandboxCreates,
                resource_id: sandbox.id.to_string(),
                amount: 1,
                at: self.from,
            };
            store::usage(self.reach.clone()).record(tx, &record).await?;
            meters.push(MeterRow {
                sandbox_id: sandbox.id.uuid(),
                org_id: self.org.uuid(),
                project_id: self.project.uuid(),
                metric: Metric::ComputeUnitSeconds.as_str().to_owned(),
                opened_at: self.from.timestamp_micros(),
                closed_at: Some(self.until.timestamp_micros()),
                multiplier_milli: 1000,
                pricing_version: VERSION.to_owned(),
                settled_until: self.until.timestamp_micros(),
                settled_quantity: QUANTITY * n,
                settled_amount: COST * n,
                n_parts: 0,
                expires_at: self.until.timestamp_micros(),
                seen_alive_at: None,
            });
        }
        Ok(store::billing(self.reach.clone()).store_meters(tx, &meters).await?)
    }

    /// A window of each sandbox for each minute.
    fn windows(&self) -> String {
        let (from, n) = (self.from.timestamp_micros(), self.history.n_minutes);
        format!(
            "with recursive minutes(n) as
               (select 0 union all select n + 1 from minutes where n + 1 < {n})
             insert into usage_windows (sandbox_id, metric, started_at, part, org_id, project_id,
               ended_at, quantity, amount, pricing_version, booked_from, transaction_id)
             select m.sandbox_id, m.metric, {from} + n * cast(60000000 as bigint), 0, m.org_id,
               m.project_id, {from} + (n + 1) * cast(60000000 as bigint), {QUANTITY}, {COST},
               m.pricing_version, t.booked_from, t.id
             from minutes
             join ledger_transactions t on t.kind = 'usage'
               and t.at = {from} + (n + 1) * cast(60000000 as bigint)
             join meters m on m.org_id = t.org_id
             where t.key like '{}:%'
             order by n, m.sandbox_id",
            self.org
        )
    }
}

fn posting(id: Uuid, line: i64, org_id: Uuid, grant_id: Option<Uuid>, amount: i64) -> PostingRow {
    let account = "credit:purchased".to_owned();
    PostingRow { transaction_id: id, line, org_id, account, grant_id, amount }
}
