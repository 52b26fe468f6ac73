//! What an organization is billed for a period: its usage by project, metric and pricing version, the
//! credit that paid for it, and what is left to pay. The parts add up to the last minor unit.

use std::{collections::BTreeMap, sync::Arc};

use domain::{id::ProjectId, metric::Metric};

use crate::{
    Error, Result,
    credit::GrantKind,
    ledger::{Account, Heading, Kind, Posting, Transaction},
    money::{Currency, Exact, split},
    period::Period,
    pricing::{PricingVersion, Rate},
    settle::{Line, Used},
};

/// The sum of an account's postings for usage that one version priced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Total {
    /// The account.
    pub account: Account,
    /// The version; none for what is not usage.
    pub pricing: Option<String>,
    /// Nano-credits.
    pub amount: i64,
}

/// A line of usage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageLine {
    /// The project.
    pub project: ProjectId,
    /// The metric.
    pub metric: Metric,
    /// The pricing version.
    pub pricing: String,
    /// The period that it corrects or completes, whose statement was closed before it was known.
    pub adjusts: Option<Period>,
    /// In thousandths of a unit; below zero for a correction that takes back.
    pub quantity_milli: i64,
    /// The unit price, in credit.
    pub rate: Rate,
    /// The price of a credit, in billionths of the currency's unit.
    pub nano_currency_per_credit: i64,
    /// The amount in nano-credits.
    pub credit: i64,
    /// The amount in minor units.
    pub minor_units: i64,
}

/// A line of credit that paid for usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreditLine {
    /// Where the credit came from.
    pub kind: GrantKind,
    /// How much of it paid, in nano-credits.
    pub credit: i64,
    /// The same in minor units.
    pub minor_units: i64,
}

/// What a statement says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Its period.
    pub period: Period,
    /// The currency of its amounts.
    pub currency: Currency,
    /// Usage: that of the period, then adjustments of earlier ones.
    pub usage: Vec<UsageLine>,
    /// Credit that paid.
    pub credit: Vec<CreditLine>,
    /// The sum of the usage lines, in minor units.
    pub usage_minor_units: i64,
    /// The sum of the credit lines, in minor units.
    pub credit_minor_units: i64,
    /// What no credit paid for, in nano-credits.
    pub overage: i64,
    /// The same in minor units: `usage_minor_units - credit_minor_units`.
    pub due_minor_units: i64,
}

/// Draws up a statement of what was booked for a period.
///
/// # Errors
/// [`Error::Currencies`] when its versions have several; [`Error::Overflow`].
pub fn draw_up(
    period: Period,
    lines: &BTreeMap<Line, Used>,
    totals: &[Total],
    versions: &BTreeMap<String, Arc<PricingVersion>>,
) -> Result<Statement> {
    let version = |name: &str| {
        versions.get(name).ok_or_else(|| Error::Pricing(format!("there is no version {name}")))
    };
    let currency = currency(lines, versions)?;
    let mut usage = Vec::with_capacity(lines.len());
    for (line, used) in lines {
        let version = version(&line.pricing)?;
        usage.push(UsageLine {
            project: line.project,
            metric: line.metric,
            pricing: line.pricing.clone(),
            adjusts: (line.used < period).then_some(line.used),
            quantity_milli: used.quantity_milli,
            rate: version.rate(line.metric),
            nano_currency_per_credit: version.nano_currency_per_credit,
            credit: used.amount,
            minor_units: 0,
        });
    }
    usage.sort_by_key(|line| (line.adjusts, line.project, line.metric, line.pricing.clone()));
    let exact = |line: &UsageLine| Exact::of(line.credit, line.nano_currency_per_credit);
    let parts: Vec<Exact> = usage.iter().map(exact).collect();
    for (line, minor_units) in usage.iter_mut().zip(split(&parts)?) {
        line.minor_units = minor_units;
    }
    // Credit first, then what is due: together they are the usage, exactly.
    let mut paid: BTreeMap<GrantKind, (i64, Exact)> = BTreeMap::new();
    let mut overage = (0_i64, Exact::default());
    for total in totals {
        let Some(pricing) = &total.pricing else { continue };
        let exact = Exact::of(-total.amount, version(pricing)?.nano_currency_per_credit);
        let sum = match total.account {
            Account::Credit(kind) => paid.entry(kind).or_default(),
            Account::Overage => &mut overage,
            Account::Usage
            | Account::Issued
            | Account::Expired
            | Account::Invoiced
            | Account::WrittenOff => continue,
        };
        sum.0 = sum.0.checked_sub(total.amount).ok_or(Error::Overflow("a total"))?;
        sum.1.0 += exact.0;
    }
    let mut parts: Vec<Exact> = paid.values().map(|(_, exact)| *exact).collect();
    parts.push(overage.1);
    let mut rounded = split(&parts)?;
    let due_minor_units = rounded.pop().unwrap_or(0);
    let credit = paid.iter().zip(&rounded).map(|((kind, (credit, _)), minor_units)| CreditLine {
        kind: *kind,
        credit: *credit,
        minor_units: *minor_units,
    });
    Ok(Statement {
        period,
        currency,
        credit: credit.collect(),
        usage_minor_units: usage.iter().map(|line| line.minor_units).sum(),
        credit_minor_units: rounded.iter().sum(),
        overage: overage.0,
        due_minor_units,
        usage,
    })
}

fn currency(
    lines: &BTreeMap<Line, Used>,
    versions: &BTreeMap<String, Arc<PricingVersion>>,
) -> Result<Currency> {
    let mut found: Option<Currency> = None;
    for line in lines.keys() {
        let Some(version) = versions.get(&line.pricing) else { continue };
        match found {
            Some(currency) if currency != version.currency => {
                let (one, other) = (currency.to_string(), version.currency.to_string());
                return Err(Error::Currencies(one, other));
            }
            _ => found = Some(version.currency),
        }
    }
    let newest =
        || crate::pricing::in_force(versions.values(), chrono::DateTime::<chrono::Utc>::MAX_UTC);
    Ok(found.or_else(|| newest().map(|version| version.currency)).unwrap_or(Currency::USD))
}

/// The transactions that move a period's overage to where a statement puts it, one per version.
///
/// # Errors
/// None that can be provoked: each amount is not zero.
pub fn book(period: Period, totals: &[Total], invoiced: bool) -> Result<Vec<Transaction>> {
    let to = if invoiced { Account::Invoiced } else { Account::WrittenOff };
    let mut transactions = Vec::new();
    for total in totals.iter().filter(|t| t.account == Account::Overage && t.amount != 0) {
        let heading = Heading {
            kind: Kind::Statement,
            key: format!("statement:{period}:{}", total.pricing.as_deref().unwrap_or_default()),
            at: period.end(),
            booked: period,
            pricing: total.pricing.clone(),
            corrects: None,
            reason: None,
        };
        let postings =
            vec![Posting::to(Account::Overage, -total.amount), Posting::to(to, total.amount)];
        transactions.push(Transaction::new(heading, postings)?);
    }
    Ok(transactions)
}
