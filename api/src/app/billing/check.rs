//! Recomputes the projections of the books from what is never changed, and says where they differ:
//! transactions that do not sum to zero, gaps in their numbers, totals, lines, grants and meters.

use std::collections::BTreeMap;

use billing::period::Period;
use domain::id::OrganizationId;
use store::{Db, Everyone, billing::Billing, rows::AccountRow};

use super::convert::{instant, period};
use crate::app::error::Result;

/// Accounts and transactions read at a time.
const PAGE: u32 = 500;

/// What was checked, and what is wrong.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Findings {
    /// Organizations looked at.
    pub n_organizations: u64,
    /// Their transactions.
    pub n_transactions: u64,
    /// What is wrong, a line each. Empty when the books are right.
    pub wrong: Vec<String>,
}

/// Checks the books of every organization. Others may go on writing: each organization is read in one
/// transaction under its account's lock.
///
/// # Errors
/// When the database does not answer.
pub async fn all(db: &Db) -> Result<Findings> {
    let billing = store::billing(Everyone::for_worker("check"));
    let mut findings = Findings::default();
    let mut after = None;
    loop {
        let accounts = billing.accounts(db.read(), after, PAGE).await?;
        let Some(last) = accounts.last() else { return Ok(findings) };
        after = Some(last.org_id);
        for account in accounts {
            let org = OrganizationId::from_uuid(account.org_id);
            let tx = db.begin().await?;
            let account = billing.lock_account(&tx, org).await?;
            one(&tx, &billing, org, &account, &mut findings).await?;
            tx.rollback().await?;
        }
    }
}

async fn one(
    tx: &store::Tx,
    billing: &Billing,
    org: OrganizationId,
    account: &AccountRow,
    findings: &mut Findings,
) -> Result<()> {
    findings.n_organizations += 1;
    let mut wrong = journal(tx, billing, org, account, &mut findings.n_transactions).await?;
    let totals = |rows: Vec<store::rows::TotalRow>| -> BTreeMap<_, _> {
        let rows = rows.into_iter().filter(|row| row.amount != 0);
        rows.map(|r| ((r.booked_from, r.account, r.pricing_version), r.amount)).collect()
    };
    let projected = totals(billing.all_totals(tx, org).await?);
    differences(
        "total",
        &projected,
        &totals(billing.totals_from_postings(tx, org).await?),
        &mut wrong,
    );
    let grants = |rows: Vec<store::rows::GrantRow>| -> BTreeMap<_, _> {
        rows.into_iter().map(|row| (row.id, row.remaining)).collect()
    };
    let projected = grants(billing.all_grants(tx, org).await?);
    let computed = grants(billing.remaining_from_postings(tx, org).await?);
    differences("grant", &projected, &computed, &mut wrong);
    let lines = |rows: Vec<store::rows::LineRow>| -> BTreeMap<_, _> {
        rows.into_iter()
            .map(|r| {
                let key = (r.booked_from, r.used_from, r.project_id, r.metric, r.pricing_version);
                (key, (r.quantity, r.amount))
            })
            .collect()
    };
    let rows = billing.all_lines(tx, org).await?;
    let mut periods: Vec<Period> = Vec::new();
    for row in &rows {
        periods.push(period(row.used_from)?);
    }
    periods.extend(billing.window_range(tx, org).await?.map(|(first, _)| Period::of(first)));
    periods.extend(billing.window_range(tx, org).await?.map(|(_, last)| Period::of(last)));
    periods.sort_unstable();
    periods.dedup();
    let mut computed = Vec::new();
    for used in periods {
        computed.extend(billing.lines_from_windows(tx, org, (used.start(), used.end())).await?);
    }
    differences("line", &lines(rows), &lines(computed), &mut wrong);
    for broken in billing.meters_that_differ(tx, org).await? {
        wrong.push(format!("meter of sandbox {broken}: its windows do not add up to it"));
    }
    findings.wrong.extend(wrong.into_iter().map(|text| format!("{org}: {text}")));
    Ok(())
}

async fn journal(
    tx: &store::Tx,
    billing: &Billing,
    org: OrganizationId,
    account: &AccountRow,
    n_transactions: &mut u64,
) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    let mut seq = 0;
    loop {
        let page = billing.journal(tx, org, seq, PAGE).await?;
        if page.is_empty() {
            break;
        }
        for (transaction, postings) in page {
            *n_transactions += 1;
            seq += 1;
            if transaction.seq != seq {
                wrong.push(format!("transactions {seq} to {} are missing", transaction.seq - 1));
                seq = transaction.seq;
            }
            let sum: i128 = postings.iter().map(|posting| i128::from(posting.amount)).sum();
            if sum != 0 || postings.is_empty() {
                let at = instant(transaction.at)?;
                wrong.push(format!("transaction {seq} of {at} sums to {sum}"));
            }
        }
    }
    if seq != account.last_seq {
        wrong.push(format!("the last transaction is {seq}, not {}", account.last_seq));
    }
    Ok(wrong)
}

fn differences<K: Ord + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
    what: &str,
    projected: &BTreeMap<K, V>,
    computed: &BTreeMap<K, V>,
    wrong: &mut Vec<String>,
) {
    for (key, value) in projected {
        if computed.get(key) != Some(value) {
            let found = computed.get(key);
            wrong.push(format!("{what} {key:?} is {value:?}, computed anew it is {found:?}"));
        }
    }
    for (key, value) in computed.iter().filter(|(key, _)| !projected.contains_key(key)) {
        wrong.push(format!("{what} {key:?} is missing, computed anew it is {value:?}"));
    }
}
