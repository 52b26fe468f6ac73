//! Recomputes the projections of the books from what is never changed, and says where they differ:
//! transactions that do not sum to zero, gaps in their numbers, totals, lines, grants and meters, and
//! usage that costs something else than was booked.

use std::collections::BTreeMap;

use billing::{ledger::Account, money::decimal, period::Period};
use chrono::{DateTime, Utc};
use domain::id::{GrantId, OrganizationId, ProjectId};
use rust_decimal::Decimal;
use store::{
    Db, Everyone,
    billing::Billing,
    rows::{AccountRow, GrantRow, LineRow, TotalRow},
};

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
    let (totals, lines) = (billing.all_totals(tx, org).await?, billing.all_lines(tx, org).await?);
    let anew = billing.totals_from_postings(tx, org).await?;
    differences("total", &by_total(&totals)?, &by_total(&anew)?, &mut wrong);
    let (grants, anew) =
        (billing.all_grants(tx, org).await?, billing.remaining_from_postings(tx, org).await?);
    differences("grant", &by_grant(&grants), &by_grant(&anew), &mut wrong);
    let mut anew = Vec::new();
    for used in months(billing.window_range(tx, org).await?) {
        anew.extend(billing.lines_from_windows(tx, org, (used.start(), used.end())).await?);
    }
    differences("line", &by_line(&lines)?, &by_line(&anew)?, &mut wrong);
    // Windows and the ledger are written together; what the ones cost is what the other booked.
    differences("usage", &usage_of(&totals)?, &usage_in(&lines)?, &mut wrong);
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

/// What is compared, as people read it: what it is about, and how much.
type Sums = BTreeMap<String, String>;

fn by_total(rows: &[TotalRow]) -> Result<Sums> {
    let rows = rows.iter().filter(|row| row.amount != 0);
    rows.map(|row| {
        let booked = period(row.booked_from)?;
        let key = format!("{} of {booked} {}", row.account, row.pricing_version);
        Ok((key.trim_end().to_owned(), credits(row.amount)))
    })
    .collect()
}

fn by_grant(rows: &[GrantRow]) -> Sums {
    let left = |row: &GrantRow| (GrantId::from_uuid(row.id).to_string(), credits(row.remaining));
    rows.iter().map(left).collect()
}

fn by_line(rows: &[LineRow]) -> Result<Sums> {
    rows.iter()
        .map(|row| {
            let (used, booked) = (period(row.used_from)?, period(row.booked_from)?);
            let project = ProjectId::from_uuid(row.project_id);
            let (metric, pricing) = (&row.metric, &row.pricing_version);
            let quantity = Decimal::new(row.quantity, 3).normalize();
            let key = format!("{metric} of {project} in {used}, booked for {booked}, {pricing}");
            Ok((key, format!("{quantity} for {}", credits(row.amount))))
        })
        .collect()
}

/// What the ledger booked as usage, by period and pricing version.
fn usage_of(rows: &[TotalRow]) -> Result<Sums> {
    let usage = rows.iter().filter(|row| row.account == Account::Usage.as_str());
    summed(usage.map(|row| (row.booked_from, row.pricing_version.as_str(), row.amount)))
}

/// What the lines of usage say it is.
fn usage_in(rows: &[LineRow]) -> Result<Sums> {
    summed(rows.iter().map(|row| (row.booked_from, row.pricing_version.as_str(), row.amount)))
}

fn summed<'a>(amounts: impl Iterator<Item = (i64, &'a str, i64)>) -> Result<Sums> {
    let mut sums: BTreeMap<(i64, &str), i64> = BTreeMap::new();
    for (booked_from, pricing, amount) in amounts {
        *sums.entry((booked_from, pricing)).or_default() += amount;
    }
    let sums = sums.into_iter().filter(|(_, sum)| *sum != 0);
    sums.map(|((booked_from, pricing), sum)| {
        Ok((format!("of {} {pricing}", period(booked_from)?), credits(sum)))
    })
    .collect()
}

fn credits(nano: i64) -> String {
    format!("{} credits", decimal(nano))
}

/// Every month from that of the first window to that of the last.
fn months(range: Option<(DateTime<Utc>, DateTime<Utc>)>) -> impl Iterator<Item = Period> {
    let last = range.map(|(_, last)| Period::of(last));
    std::iter::successors(range.map(|(first, _)| Period::of(first)), |month| Some(month.next()))
        .take_while(move |month| Some(*month) <= last)
}

fn differences(what: &str, projected: &Sums, computed: &Sums, wrong: &mut Vec<String>) {
    for (key, value) in projected {
        match computed.get(key) {
            Some(anew) if anew == value => {}
            Some(anew) => wrong.push(format!("{what} {key} is {value}, computed anew {anew}")),
            None => wrong.push(format!("{what} {key} is {value}, computed anew there is none")),
        }
    }
    for (key, value) in computed.iter().filter(|(key, _)| !projected.contains_key(*key)) {
        wrong.push(format!("{what} {key} is missing, computed anew it is {value}"));
    }
}
