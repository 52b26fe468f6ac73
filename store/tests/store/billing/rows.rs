//! Books to test with: an account, a grant, transactions and windows of a tenant.

use domain::{
    id::{GrantId, StatementId, TransactionId},
    sandbox::Sandbox,
};
use store::{
    Db, Tx,
    billing::Billing,
    rows::{
        AccountRow, AlertRow, GrantRow, LineRow, MeterRow, PostingRow, StatementRow, TotalRow,
        TransactionRow, WindowRow,
    },
};

use crate::fixtures::{Tenant, at, everyone};

pub fn instant(seconds: i64) -> i64 {
    at(seconds).timestamp_micros()
}

pub fn all() -> Billing {
    store::billing(everyone())
}

pub fn account(tenant: &Tenant) -> AccountRow {
    AccountRow {
        org_id: tenant.org.id.uuid(),
        spend_cap: None,
        open_from: instant(0),
        plan_period: instant(0),
        plan_granted: 0,
        free_granted: true,
        stops_at: None,
        stop_code: None,
        stop_told: false,
        due_at: instant(10),
        last_seq: 0,
        plan: tenant.org.plan.as_str().to_owned(),
        next_plan: None,
        next_plan_at: None,
        live: false,
    }
}

pub fn grant(tenant: &Tenant) -> GrantRow {
    GrantRow {
        id: GrantId::generate(at(0)).uuid(),
        org_id: tenant.org.id.uuid(),
        kind: "purchased".to_owned(),
        priority: 400,
        amount: 1_000,
        remaining: 1_000,
        starts_at: instant(0),
        expires_at: None,
    }
}

/// A transaction with the two postings that bring a grant.
pub fn coming(grant: &GrantRow, seq: i64, key: &str) -> (TransactionRow, [PostingRow; 2]) {
    let id = TransactionId::generate(at(seq)).uuid();
    let transaction = TransactionRow {
        id,
        org_id: grant.org_id,
        seq,
        kind: "grant".to_owned(),
        key: key.to_owned(),
        at: instant(0),
        booked_from: instant(0),
        pricing_version: None,
        corrects: None,
        reason: None,
        recorded_at: instant(1),
    };
    let posting = |line, account: &str, grant_id, amount| PostingRow {
        transaction_id: id,
        line,
        org_id: grant.org_id,
        account: account.to_owned(),
        grant_id,
        amount,
    };
    let postings = [
        posting(0, "issued", None, -grant.amount),
        posting(1, "credit:purchased", Some(grant.id), grant.amount),
    ];
    (transaction, postings)
}

pub fn window(sandbox: &Sandbox, from: i64) -> WindowRow {
    WindowRow {
        sandbox_id: sandbox.id.uuid(),
        metric: "compute_unit_seconds".to_owned(),
        started_at: instant(from),
        part: 0,
        org_id: sandbox.org_id.uuid(),
        project_id: sandbox.project_id.uuid(),
        ended_at: instant(from + 60),
        quantity: 60_000,
        amount: 60,
        pricing_version: "2026-07".to_owned(),
        booked_from: instant(0),
        transaction_id: None,
    }
}

pub fn line(sandbox: &Sandbox) -> LineRow {
    LineRow {
        org_id: sandbox.org_id.uuid(),
        booked_from: instant(0),
        used_from: instant(0),
        project_id: sandbox.project_id.uuid(),
        metric: "compute_unit_seconds".to_owned(),
        pricing_version: "2026-07".to_owned(),
        quantity: 60_000,
        amount: 60,
    }
}

pub fn total(tenant: &Tenant) -> TotalRow {
    TotalRow {
        org_id: tenant.org.id.uuid(),
        booked_from: instant(0),
        account: "usage".to_owned(),
        pricing_version: "2026-07".to_owned(),
        amount: 60,
    }
}

pub fn statement(tenant: &Tenant) -> StatementRow {
    StatementRow {
        id: StatementId::generate(at(0)).uuid(),
        org_id: tenant.org.id.uuid(),
        period_from: instant(0),
        currency: "USD".to_owned(),
        due_minor_units: 0,
        document: "{}".to_owned(),
        closed_at: instant(1),
    }
}

pub fn alert(tenant: &Tenant, percent: i64) -> AlertRow {
    AlertRow {
        org_id: tenant.org.id.uuid(),
        period_from: instant(0),
        subject: "credit".to_owned(),
        percent,
        raised_at: instant(1),
    }
}

/// The meter of a sandbox, opened at second 1.
pub fn meter(sandbox: &Sandbox) -> MeterRow {
    MeterRow {
        sandbox_id: sandbox.id.uuid(),
        org_id: sandbox.org_id.uuid(),
        project_id: sandbox.project_id.uuid(),
        metric: "compute_unit_seconds".to_owned(),
        opened_at: instant(1),
        closed_at: None,
        multiplier_milli: 1000,
        pricing_version: "2026-07".to_owned(),
        settled_until: instant(1),
        settled_quantity: 0,
        settled_amount: 0,
        n_parts: 0,
        expires_at: instant(3600),
        seen_alive_at: Some(instant(1)),
    }
}

/// A tenant with an account and a grant.
pub async fn tenant(db: &Db, name: &str) -> (Tenant, GrantRow) {
    let tenant = Tenant::new(db, name).await;
    let grant = grant(&tenant);
    write(db, async |tx| {
        all().insert_account(tx, &account(&tenant)).await.unwrap();
        all().insert_grants(tx, std::slice::from_ref(&grant)).await.unwrap();
    })
    .await;
    (tenant, grant)
}

/// Writes something and commits.
pub async fn write(db: &Db, work: impl AsyncFnOnce(&Tx)) {
    let tx = db.begin().await.unwrap();
    work(&tx).await;
    tx.commit().await.unwrap();
}
