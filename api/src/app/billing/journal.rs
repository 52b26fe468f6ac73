//! The ledger as a plain-text journal that hledger reads. Accounts are those of the ledger below the
//! organization's name; every transaction has its number, kind and reason.

use std::fmt::Write;

use billing::money::decimal;
use domain::id::{GrantId, OrganizationId};
use store::{
    Db, Everyone, Reach,
    rows::{PostingRow, TransactionRow},
};

use super::convert::instant;
use crate::app::error::Result;

const PAGE: u32 = 500;

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
    let billing = store::billing(Reach::Tenant { org, projects: None });
    let mut after = 0;
    loop {
        let page = billing.journal(db.read(), org, after, PAGE).await?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        after = last.seq;
        for (transaction, postings) in &page {
            write(&entry(org, transaction, postings)?)?;
        }
    }
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
