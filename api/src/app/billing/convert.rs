//! Rows of the books and what they mean, both ways. A row that means nothing is corrupt, not a panic.

use std::collections::BTreeMap;

use billing::{
    credit::Grant,
    ledger::{Posting, Transaction},
    money::Currency,
    period::Period,
    pricing::{PricingVersion, Rate},
};
use chrono::{DateTime, Utc};
use domain::id::{GrantId, OrganizationId, TransactionId};
use domain::metric::Metric;
use serde::{Deserialize, Serialize};
use store::rows::{GrantRow, PostingRow, PricingVersionRow, TransactionRow};

use crate::app::error::{Error, Result};

/// Stored rates: nano-credits for so many units.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredRate {
    nano_credits: i64,
    per: i64,
}

pub(in crate::app) fn corrupt(what: impl Into<String>) -> Error {
    store::Error::Corrupt(what.into()).into()
}

pub(in crate::app) fn instant(micros: i64) -> Result<DateTime<Utc>> {
    DateTime::from_timestamp_micros(micros)
        .ok_or_else(|| corrupt(format!("{micros} is no instant")))
}

pub(in crate::app) fn period(micros: i64) -> Result<Period> {
    Ok(Period::of(instant(micros)?))
}

pub(super) fn from_of(period: Period) -> i64 {
    period.start().timestamp_micros()
}

pub(in crate::app) fn word<T: std::str::FromStr>(text: &str, what: &str) -> Result<T> {
    text.parse().map_err(|_| corrupt(format!("{what} is {text:?}")))
}

pub(in crate::app) fn version(row: &PricingVersionRow) -> Result<PricingVersion> {
    let broken = || corrupt(format!("pricing version {:?} breaks the rules", row.name));
    let sizes: BTreeMap<String, i64> = serde_json::from_str(&row.sizes).map_err(|_| broken())?;
    let stored: BTreeMap<String, StoredRate> =
        serde_json::from_str(&row.rates).map_err(|_| broken())?;
    let mut rates = BTreeMap::new();
    for (metric, rate) in stored {
        let metric: Metric = metric.parse().map_err(|()| broken())?;
        rates.insert(metric, Rate { nano_credits: rate.nano_credits, per: rate.per });
    }
    let version = PricingVersion {
        name: row.name.clone(),
        currency: row.currency.parse::<Currency>().map_err(|_| broken())?,
        compute_unit_seconds_per_credit: u32::try_from(row.compute_unit_seconds_per_credit)
            .map_err(|_| broken())?,
        nano_currency_per_credit: row.nano_currency_per_credit,
        sizes,
        idle_factor_milli: row.idle_factor_milli,
        rates,
        rounding: row.rounding.parse().map_err(|_| broken())?,
        valid_from: instant(row.valid_from)?,
    };
    version.check().map_err(|_| broken())?;
    Ok(version)
}

pub(super) fn version_row(version: &PricingVersion) -> PricingVersionRow {
    let rates: BTreeMap<&str, StoredRate> = version
        .rates
        .iter()
        .map(|(metric, rate)| {
            (metric.as_str(), StoredRate { nano_credits: rate.nano_credits, per: rate.per })
        })
        .collect();
    PricingVersionRow {
        name: version.name.clone(),
        currency: version.currency.to_string(),
        compute_unit_seconds_per_credit: i64::from(version.compute_unit_seconds_per_credit),
        nano_currency_per_credit: version.nano_currency_per_credit,
        sizes: serde_json::json!(version.sizes).to_string(),
        idle_factor_milli: version.idle_factor_milli,
        rates: serde_json::json!(rates).to_string(),
        rounding: version.rounding.as_str().to_owned(),
        valid_from: version.valid_from.timestamp_micros(),
    }
}

pub(in crate::app) fn grant(row: &GrantRow) -> Result<Grant> {
    Ok(Grant {
        id: GrantId::from_uuid(row.id),
        kind: word(&row.kind, "a grant's kind")?,
        priority: row.priority,
        amount: row.amount,
        remaining: row.remaining,
        starts_at: instant(row.starts_at)?,
        expires_at: row.expires_at.map(instant).transpose()?,
    })
}

/// A new grant's row: all of it is left, until its transaction is written together with it.
pub(super) fn grant_row(org: OrganizationId, grant: &Grant) -> GrantRow {
    GrantRow {
        id: grant.id.uuid(),
        org_id: org.uuid(),
        kind: grant.kind.as_str().to_owned(),
        priority: grant.priority,
        amount: grant.amount,
        remaining: grant.remaining,
        starts_at: grant.starts_at.timestamp_micros(),
        expires_at: grant.expires_at.map(|at| at.timestamp_micros()),
    }
}

pub(super) fn transaction_rows(
    org: OrganizationId,
    id: TransactionId,
    seq: i64,
    transaction: &Transaction,
    now: DateTime<Utc>,
) -> (TransactionRow, Vec<PostingRow>) {
    let heading = transaction.heading();
    let row = TransactionRow {
        id: id.uuid(),
        org_id: org.uuid(),
        seq,
        kind: heading.kind.as_str().to_owned(),
        key: heading.key.clone(),
        at: heading.at.timestamp_micros(),
        booked_from: from_of(heading.booked),
        pricing_version: heading.pricing.clone(),
        corrects: heading.corrects.map(TransactionId::uuid),
        reason: heading.reason.clone(),
        recorded_at: now.timestamp_micros(),
    };
    let postings = transaction.postings().iter().zip(0_i64..).map(|(posting, line)| PostingRow {
        transaction_id: id.uuid(),
        line,
        org_id: org.uuid(),
        account: posting.account.as_str().to_owned(),
        grant_id: posting.grant.map(GrantId::uuid),
        amount: posting.amount,
    });
    (row, postings.collect())
}

pub(in crate::app) fn posting(row: &PostingRow) -> Result<Posting> {
    Ok(Posting {
        account: word(&row.account, "a posting's account")?,
        grant: row.grant_id.map(GrantId::from_uuid),
        amount: row.amount,
    })
}
