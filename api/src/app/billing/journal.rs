//! The ledger as it is read: transaction by transaction, or as a plain-text journal for hledger, whose
//! accounts are those of the ledger below the organization's name; every transaction has its number,
//! kind and reason.

use std::fmt::Write;

use billing::{
    ledger::{Heading, Posting},
    money::decimal,
};
use chrono::{DateTime, Utc};
use domain::id::{GrantId, OrganizationId, TransactionId};
use store::{
    ConnectionTrait, Db, Everyone, Page, Reach,
    rows::{PostingRow, TransactionRow},
};

use super::convert::{instant, period, posting, word};
use crate::app::error::Result;

const PAGE: u32 = 500;

/// A transaction of the ledger as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Booked {
    /// Its id.
    pub id: TransactionId,
    /// Its number among the organization's, without a gap.
    pub seq: i64,
    /// What it says of itself.
    pub heading: Heading,
    /// When it was written.
    pub recorded_at: DateTime<Utc>,
    /// Its postings, which sum to zero.
    pub postings: Vec<Posting>,
}

impl Booked {
    fn of(row: &TransactionRow, postings: &[PostingRow]) -> Result<Self> {
        let heading = Heading {
            kind: word(&row.kind, "a transaction's kind")?,
            key: row.key.clone(),
            at: instant(row.at)?,
            booked: period(row.booked_from)?,
            pricing: row.pricing_version.clone(),
            corrects: row.corrects.map(TransactionId::from_uuid),
            reason: row.reason.clone(),
        };
        Ok(Self {
            id: TransactionId::from_uuid(row.id),
            seq: row.seq,
            heading,
            recorded_at: instant(row.recorded_at)?,
            postings: postings.iter().map(posting).collect::<Result<_>>()?,
        })
    }
}

/// A page of an organization's transactions behind a number, in their order.
///
/// # Errors
/// When the database does not answer.
pub async fn list(
    c: &impl ConnectionTrait,
    org: OrganizationId,
    after: i64,
    limit: u32,
) -> Result<Page<Booked>> {
    let billing = store::billing(Reach::Tenant { org, projects: None });
    let mut rows = billing.journal(c, org, after, limit.saturating_add(1)).await?;
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = rows.len() > wanted;
    rows.truncate(wanted);
    let items = rows.iter().map(|(row, postings)| Booked::of(row, postings));
    Ok(Page { items: items.collect::<Result<_>>()?, has_more })
}

/// One of an organization's transactions.
///
/// # Errors
/// `Missing`.
pub async fn get(
    c: &impl ConnectionTrait,
    org: OrganizationId,
    id: TransactionId,
) -> Result<Booked> {
    let billing = store::billing(Reach::Tenant { org, projects: None });
    let row = billing.find_transaction(c, id).await?;
    let row = row.ok_or(store::Error::Missing("transaction"))?;
    Booked::of(&row, &billing.postings(c, &[id]).await?)
}

/// What a journal begins with: how its numbers are read, and to how many places they balance.
pub const HEADER: &str = "decimal-mark .\ncommodity 1000.000000000 credits\n\n";

/// Writes an organization's part of a journal, which follows the heading, piece by piece.
///
/// # Errors
/// When the database does not answer, or `write` fails.
pub async fn export(
    db: &Db,
    org: OrganizationId,
    mut write: impl FnMut(&str) -> std::io::Result<()>,
) -> anyhow::Result<()> {
    let mut after = 0;
    while let Some((text, last)) = piece(db, org, after).await? {
        write(&text)?;
        after = last;
    }
    Ok(())
}

/// The piece of an organization's journal that follows a transaction's number, and the number of its
/// last one; none behind the last.
///
/// # Errors
/// When the database does not answer.
pub async fn piece(db: &Db, org: OrganizationId, after: i64) -> Result<Option<(String, i64)>> {
    let billing = store::billing(Reach::Tenant { org, projects: None });
    let page = billing.journal(db.read(), org, after, PAGE).await?;
    let Some((last, _)) = page.last() else { return Ok(None) };
    let entries = page.iter().map(|(transaction, postings)| entry(org, transaction, postings));
    Ok(Some((entries.collect::<Result<String>>()?, last.seq)))
}

/// Writes a journal of every organization piece by piece, heading included.
///
/// # Errors
/// As [`export`].
pub async fn export_all(
    db: &Db,
    mut write: impl FnMut(&str) -> std::io::Result<()>,
) -> anyhow::Result<()> {
    let billing = store::billing(Everyone::for_worker("journal"));
    write(HEADER)?;
    let mut after = None;
    loop {
        let accounts = billing.accounts(db.read(), after, PAGE).await?;
        let Some(last) = accounts.last() else { return Ok(()) };
        after = Some(last.org_id);
        for account in accounts {
            export(db, OrganizationId::from_uuid(account.org_id), &mut write).await?;
        }
    }
}

fn entry(
    org: OrganizationId,
    transaction: &TransactionRow,
    postings: &[PostingRow],
) -> Result<String> {
    let at = instant(transaction.at)?;
    let mut text = format!(
        "{} ({}) {}  ; at: {}, key: {}",
        at.format("%Y-%m-%d"),
        transaction.seq,
        transaction.kind,
        at.format("%H:%M:%S%.6fZ"),
        in_a_comment(&transaction.key),
    );
    if let Some(pricing) = &transaction.pricing_version {
        let _ = write!(text, ", pricing: {pricing}");
    }
    if let Some(reason) = &transaction.reason {
        let _ = write!(text, ", reason: {}", in_a_comment(reason));
    }
    text.push('\n');
    for posting in postings {
        let _ = write!(text, "    {org}:{}", posting.account);
        if let Some(grant) = posting.grant_id {
            let _ = write!(text, ":{}", GrantId::from_uuid(grant));
        }
        let _ = writeln!(text, "  {} credits", decimal(posting.amount));
    }
    text.push('\n');
    Ok(text)
}

/// What people wrote, such that it stays on its line and in its tag, which ends with a comma.
fn in_a_comment(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || c == ',' { ' ' } else { c }).collect()
}
