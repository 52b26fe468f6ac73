//! Collects what a settlement wants written, of any number of organizations, and writes it: the same
//! number of statements however many there are.

use std::collections::BTreeMap;

use billing::{credit::Grant, ledger::Transaction, money::decimal, settle::Settlement};
use chrono::{DateTime, Utc};
use domain::{
    id::{OrganizationId, ProjectId, SandboxId, TransactionId},
    limits::Plan,
    metric::Metric,
};
use rust_decimal::Decimal;
use serde_json::Value;
use store::{
    Tx,
    billing::Billing,
    rows::{
        AccountRow, AlertRow, GrantRow, LineRow, MeterRow, PostingRow, StatementRow, TotalRow,
        TransactionRow, WindowRow,
    },
};
use uuid::Uuid;

use super::{
    convert::{from_of, grant_row, instant, period as period_at, transaction_rows, word},
    settle::sum,
};
use crate::app::{
    audit::Act,
    error::Result,
    events::{
        self, Event, Payload, Subject,
        payload::{CreditGranted, ThresholdReached, UsageRecorded},
    },
};

type TotalKey = (Uuid, i64, String, String);
type LineKey = (Uuid, i64, i64, Uuid, String, String);

/// What is to be written.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub accounts: Vec<AccountRow>,
    pub grants: Vec<GrantRow>,
    /// What is left of grants that were there before.
    pub remaining: BTreeMap<Uuid, i64>,
    pub transactions: Vec<TransactionRow>,
    pub postings: Vec<PostingRow>,
    pub windows: Vec<WindowRow>,
    pub meters: Vec<MeterRow>,
    pub counts: Vec<Uuid>,
    pub statements: Vec<StatementRow>,
    pub alerts: Vec<AlertRow>,
    /// Plans that took effect.
    pub plans: Vec<(OrganizationId, Plan)>,
    /// What is told of it.
    pub events: Vec<Event>,
    /// What the platform did by itself.
    pub acts: BTreeMap<OrganizationId, Vec<Act>>,
    lines: BTreeMap<LineKey, (i64, i64)>,
    totals: BTreeMap<TotalKey, i64>,
}

/// What is left to do when it is all written.
#[derive(Debug, Default)]
#[must_use]
pub(super) struct Written {
    /// Alerts that are new.
    pub alerts: Vec<AlertRow>,
    /// To be written into the audit trail: the very last thing that a transaction does.
    pub acts: BTreeMap<OrganizationId, Vec<Act>>,
}

impl Entry {
    /// Adds another entry, of other organizations.
    pub fn append(&mut self, other: Self) {
        self.accounts.extend(other.accounts);
        self.grants.extend(other.grants);
        self.remaining.extend(other.remaining);
        self.transactions.extend(other.transactions);
        self.postings.extend(other.postings);
        self.windows.extend(other.windows);
        self.meters.extend(other.meters);
        self.counts.extend(other.counts);
        self.statements.extend(other.statements);
        self.alerts.extend(other.alerts);
        self.plans.extend(other.plans);
        self.events.extend(other.events);
        self.acts.extend(other.acts);
        self.lines.extend(other.lines);
        self.totals.extend(other.totals);
    }

    /// Notes a new grant and the transaction with which it comes; returns the transaction's id.
    pub fn grant(
        &mut self,
        org: OrganizationId,
        account: &mut AccountRow,
        grant: &Grant,
        coming: &Transaction,
        now: DateTime<Utc>,
    ) -> TransactionId {
        self.grants.push(grant_row(org, grant));
        let transaction_id = self.book(org, account, coming, now);
        let payload = Payload::CreditGranted(CreditGranted {
            grant_id: grant.id,
            transaction_id,
            kind: grant.kind.as_str(),
            credits: decimal(grant.amount).to_string(),
            expires_at: grant.expires_at,
        });
        self.events.push(Event::of_organization(org, payload, grant.starts_at));
        transaction_id
    }

    /// Notes something that the platform did by itself.
    pub fn act(
        &mut self,
        org: OrganizationId,
        action: &'static str,
        to: impl ToString,
        how: Value,
    ) {
        self.acts.entry(org).or_default().push(Act::of_platform(action, to, how));
    }

    /// Notes what is left of a grant, new or old.
    pub fn left(&mut self, grant: &Grant) {
        match self.grants.iter_mut().find(|row| row.id == grant.id.uuid()) {
            Some(row) => row.remaining = grant.remaining,
            None => {
                self.remaining.insert(grant.id.uuid(), grant.remaining);
            }
        }
    }

    /// Notes a transaction of an account; returns its id.
    pub fn book(
        &mut self,
        org: OrganizationId,
        account: &mut AccountRow,
        transaction: &Transaction,
        now: DateTime<Utc>,
    ) -> TransactionId {
        let id = TransactionId::generate(now);
        account.last_seq += 1;
        let (row, postings) = transaction_rows(org, id, account.last_seq, transaction, now);
        let pricing = row.pricing_version.clone().unwrap_or_default();
        for posting in &postings {
            let key = (row.org_id, row.booked_from, posting.account.clone(), pricing.clone());
            *self.totals.entry(key).or_default() += posting.amount;
        }
        self.transactions.push(row);
        self.postings.extend(postings);
        id
    }

    /// Notes windows and the transactions that book them.
    pub fn settled(
        &mut self,
        org: OrganizationId,
        account: &mut AccountRow,
        settlement: &Settlement,
        now: DateTime<Utc>,
    ) -> Result<()> {
        let ids: Vec<_> = settlement
            .transactions
            .iter()
            .map(|transaction| self.book(org, account, transaction, now))
            .collect();
        for window in &settlement.windows {
            self.windows.push(WindowRow {
                sandbox_id: window.sandbox.uuid(),
                metric: window.metric.as_str().to_owned(),
                started_at: window.piece.from.timestamp_micros(),
                part: window.piece.part,
                org_id: org.uuid(),
                project_id: window.project.uuid(),
                ended_at: window.piece.until.timestamp_micros(),
                quantity: window.piece.quantity_milli,
                amount: window.piece.amount,
                pricing_version: window.pricing.clone(),
                booked_from: from_of(window.booked),
                transaction_id: window.transaction.map(|place| ids[place].uuid()),
            });
        }
        for (line, used) in settlement.lines().map_err(sum)? {
            let key = (
                org.uuid(),
                from_of(line.booked),
                from_of(line.used),
                line.project.uuid(),
                line.metric.as_str().to_owned(),
                line.pricing,
            );
            let sum = self.lines.entry(key).or_default();
            sum.0 += used.quantity_milli;
            sum.1 += used.amount;
        }
        Ok(())
    }

    /// Notes one window whose transaction is noted already.
    pub fn window(&mut self, window: WindowRow) -> Result<()> {
        let key = (
            window.org_id,
            window.booked_from,
            from_of(period_at(window.started_at)?),
            window.project_id,
            window.metric.clone(),
            window.pricing_version.clone(),
        );
        let sum = self.lines.entry(key).or_default();
        sum.0 += window.quantity;
        sum.1 += window.amount;
        self.windows.push(window);
        Ok(())
    }

    /// The totals that an organization's transactions add to.
    pub fn totals_of(&self, org: OrganizationId) -> impl Iterator<Item = TotalRow> {
        self.totals.iter().filter(move |(key, _)| key.0 == org.uuid()).map(total_row)
    }

    /// The lines that an organization's windows add to.
    pub fn lines_of(&self, org: OrganizationId) -> impl Iterator<Item = LineRow> {
        self.lines.iter().filter(move |(key, _)| key.0 == org.uuid()).map(line_row)
    }

    /// Writes it all but the audit trail, which is left to the end of the transaction.
    pub async fn write(self, tx: &Tx, billing: &Billing, now: DateTime<Utc>) -> Result<Written> {
        billing.insert_grants(tx, &self.grants).await?;
        let left: Vec<_> = self.remaining.into_iter().collect();
        billing.update_grants(tx, &left).await?;
        billing.insert_transactions(tx, &self.transactions, &self.postings).await?;
        billing.insert_windows(tx, &self.windows).await?;
        billing.store_meters(tx, &self.meters).await?;
        billing.mark_settled(tx, &self.counts).await?;
        let lines: Vec<_> = self.lines.iter().map(line_row).collect();
        billing.add_lines(tx, &lines).await?;
        let totals = self.totals.iter().filter(|(_, amount)| **amount != 0).map(total_row);
        billing.add_totals(tx, &totals.collect::<Vec<_>>()).await?;
        for statement in &self.statements {
            billing.insert_statement(tx, statement).await?;
        }
        for (org, plan) in &self.plans {
            store::organizations::set_plan(tx, *org, *plan, None).await?;
        }
        billing.update_accounts(tx, &self.accounts).await?;
        let alerts = billing.raise_alerts(tx, &self.alerts).await?;
        let mut told = self.events;
        for window in &self.windows {
            told.push(usage_recorded(window, now)?);
        }
        for alert in &alerts {
            told.push(threshold_reached(alert)?);
        }
        events::emit(tx, &told, now).await?;
        Ok(Written { alerts, acts: self.acts })
    }
}

fn usage_recorded(window: &WindowRow, now: DateTime<Utc>) -> Result<Event> {
    let metric: Metric = word(&window.metric, "a window's metric")?;
    let sandbox_id = SandboxId::from_uuid(window.sandbox_id);
    let payload = Payload::UsageRecorded(UsageRecorded {
        sandbox_id,
        project_id: ProjectId::from_uuid(window.project_id),
        metric: metric.as_str(),
        started_at: instant(window.started_at)?,
        ended_at: instant(window.ended_at)?,
        part: window.part,
        quantity: Decimal::new(window.quantity, 3).normalize().to_string(),
        credits: decimal(window.amount).to_string(),
        pricing_version: window.pricing_version.clone(),
        period: period_at(window.booked_from)?.to_string(),
        transaction_id: window.transaction_id.map(TransactionId::from_uuid),
        correction: window.part < 0,
    });
    let org = OrganizationId::from_uuid(window.org_id);
    Ok(Event { org, subject: Subject::of(sandbox_id), payload, at: now })
}

/// The event of an alert.
pub(super) fn threshold_reached(alert: &AlertRow) -> Result<Event> {
    let payload = Payload::ThresholdReached(ThresholdReached {
        subject: alert.subject.clone(),
        percent: alert.percent,
        period: period_at(alert.period_from)?.to_string(),
    });
    let org = OrganizationId::from_uuid(alert.org_id);
    Ok(Event::of_organization(org, payload, instant(alert.raised_at)?))
}

fn total_row((key, amount): (&TotalKey, &i64)) -> TotalRow {
    let (org_id, booked_from, account, pricing_version) = key.clone();
    TotalRow { org_id, booked_from, account, pricing_version, amount: *amount }
}

fn line_row((key, used): (&LineKey, &(i64, i64))) -> LineRow {
    let (org_id, booked_from, used_from, project_id, metric, pricing_version) = key.clone();
    LineRow {
        org_id,
        booked_from,
        used_from,
        project_id,
        metric,
        pricing_version,
        quantity: used.0,
        amount: used.1,
    }
}
