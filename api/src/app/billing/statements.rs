//! Statements: closing a period, and what a statement says, stored or so far.
//!
//! A period is closed for one organization in one transaction, together with everything that was booked
//! for it; nothing is booked for it afterwards. Organizations are closed one after the other by whoever
//! claims them, so a server that dies in between loses nothing and repeats nothing.

use std::collections::BTreeMap;

use billing::{
    ledger::Account,
    money::{decimal, minor},
    period::Period,
    plan::{Mode, terms},
    settle::{Line, Used},
    statement::{self, Statement, Total},
};
use chrono::{DateTime, Utc};
use domain::id::{OrganizationId, ProjectId, StatementId};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use store::{
    ConnectionTrait, Reach, Tx,
    billing::Billing,
    rows::{LineRow, StatementRow, TotalRow},
};

use super::{
    book::Book,
    convert::{from_of, period, word},
    entry::Entry,
    history::History,
    prices::PriceLists,
    settle::sum,
};
use crate::app::{
    App,
    error::{Error, Result},
    events::{Event, Payload, payload::StatementClosed},
};

/// A statement as it is stored and printed. Amounts and quantities are decimal numbers in strings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    /// `inv_...`; none while the period is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<StatementId>,
    /// Whose it is.
    pub org_id: OrganizationId,
    /// The organization's name when it was drawn up.
    pub organization: String,
    /// Such as `2031-02`.
    pub period: String,
    /// When the period was closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<DateTime<Utc>>,
    /// ISO 4217.
    pub currency: String,
    /// Usage.
    pub usage: Vec<UsageItem>,
    /// Credit that paid.
    pub credit: Vec<CreditItem>,
    /// The sum of `usage`.
    pub usage_total: String,
    /// The sum of `credit`.
    pub credit_total: String,
    /// What no credit paid for, in credits.
    pub overage_credits: String,
    /// What is to be paid: `usage_total` less `credit_total`; nothing on a plan without invoices.
    pub amount_due: String,
    /// What is not asked for on such a plan.
    pub written_off: String,
}

/// A line of usage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageItem {
    /// The project.
    pub project_id: ProjectId,
    /// The project's name when it was drawn up.
    pub project: String,
    /// The metric.
    pub metric: String,
    /// The pricing version.
    pub pricing_version: String,
    /// The period whose closed statement this line completes or corrects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adjusts: Option<String>,
    /// How much, in units of the metric.
    pub quantity: String,
    /// Credits for `unit_quantity` units.
    pub unit_price_credits: String,
    /// Units that the unit price is for.
    pub unit_quantity: i64,
    /// Price of a credit.
    pub currency_per_credit: String,
    /// The amount in credits, with all its digits.
    pub credits: String,
    /// The amount in money.
    pub amount: String,
}

/// A line of credit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreditItem {
    /// `plan`, `adjustment`, `free` or `purchased`.
    pub kind: String,
    /// How much of it paid, in credits.
    pub credits: String,
    /// The same in money.
    pub amount: String,
}

/// The statement of a period: as it was closed, or what it would say now.
///
/// # Errors
/// `Missing` when the organization has no account.
pub async fn get(app: &App, org: OrganizationId, period: Period) -> Result<Document> {
    let now = app.clock.now();
    let prices = app.prices.get(app.db.read(), now).await?;
    // Lines, and what paid for them, as of one instant; else they might not add up.
    let snapshot = app.db.snapshot().await?;
    let (c, billing) = (&snapshot, store::billing(Reach::Tenant { org, projects: None }));
    if let Some(row) = billing.find_statement(c, org, period.start()).await? {
        return serde_json::from_str(&row.document)
            .map_err(|_| super::convert::corrupt(format!("statement {} is no document", row.id)));
    }
    let organization = store::organizations::get(c, org).await?;
    let lines = billing.booked_lines(c, org, period.start()).await?;
    let totals = billing.totals(c, &[org], period.start()).await?;
    let statement = draw_up(period, &prices, lines, &totals)?;
    let history = History::of(&billing.changes_of_terms(c, &[org]).await?)?;
    let by_plan = || terms(organization.plan_at(now)).mode == Mode::CreditThenInvoice;
    let invoiced = history.invoices_in(period).unwrap_or_else(by_plan);
    document(c, org, &statement, invoiced).await
}

fn draw_up(
    period: Period,
    prices: &PriceLists,
    lines: Vec<LineRow>,
    totals: &[TotalRow],
) -> Result<Statement> {
    let mut sums: BTreeMap<Line, Used> = BTreeMap::new();
    for row in lines {
        let line = Line {
            booked: period,
            used: super::convert::period(row.used_from)?,
            project: ProjectId::from_uuid(row.project_id),
            metric: word(&row.metric, "a line's metric")?,
            pricing: row.pricing_version,
        };
        let used = sums.entry(line).or_default();
        used.quantity_milli += row.quantity;
        used.amount += row.amount;
    }
    statement::draw_up(period, &sums, &sum_up(totals)?, prices.all()).map_err(sum)
}

/// Totals with several rows of one key made one.
fn sum_up(totals: &[TotalRow]) -> Result<Vec<Total>> {
    let mut sums: BTreeMap<(Account, Option<String>), i64> = BTreeMap::new();
    for row in totals {
        let pricing = Some(row.pricing_version.clone()).filter(|name| !name.is_empty());
        *sums.entry((word(&row.account, "a total's account")?, pricing)).or_default() += row.amount;
    }
    let total = |((account, pricing), amount)| Total { account, pricing, amount };
    Ok(sums.into_iter().map(total).collect())
}

/// Closes the first open period: draws up its statement and books what it asks for.
pub(super) async fn close(
    tx: &Tx,
    billing: &Billing,
    prices: &PriceLists,
    book: &mut Book,
    entry: &mut Entry,
    now: DateTime<Utc>,
) -> Result<()> {
    let period = period(book.account.open_from)?;
    let booked = from_of(period);
    let mut lines = billing.booked_lines(tx, book.org, period.start()).await?;
    lines.extend(entry.lines_of(book.org).filter(|line| line.booked_from == booked));
    let mut totals = billing.totals(tx, &[book.org], period.start()).await?;
    totals.extend(entry.totals_of(book.org).filter(|total| total.booked_from == booked));
    let statement = draw_up(period, prices, lines, &totals)?;
    let invoiced = book.invoices_in(period);
    let booked = statement::book(period, &sum_up(&totals)?, invoiced).map_err(sum)?;
    for transaction in &booked {
        entry.book(book.org, &mut book.account, transaction, now);
    }
    let id = StatementId::generate(now);
    let mut document = document(tx, book.org, &statement, invoiced).await?;
    document.id = Some(id);
    document.closed_at = Some(now);
    entry.statements.push(StatementRow {
        id: id.uuid(),
        org_id: book.org.uuid(),
        period_from: from_of(period),
        currency: statement.currency.to_string(),
        due_minor_units: if invoiced { statement.due_minor_units } else { 0 },
        document: serde_json::to_string(&document)
            .map_err(|error| super::convert::corrupt(error.to_string()))?,
        closed_at: now.timestamp_micros(),
    });
    let payload = Payload::StatementClosed(StatementClosed {
        statement_id: id,
        org_id: book.org,
        period: document.period,
        currency: document.currency,
        usage_total: document.usage_total,
        credit_total: document.credit_total,
        amount_due: document.amount_due,
    });
    entry.events.push(Event::of_organization(book.org, payload, now));
    book.account.open_from = from_of(period.next());
    Ok(())
}

async fn document(
    c: &impl ConnectionTrait,
    org: OrganizationId,
    statement: &Statement,
    invoiced: bool,
) -> Result<Document> {
    let organization = store::organizations::get(c, org).await?;
    let projects = store::projects(Reach::Tenant { org, projects: None });
    let mut names: BTreeMap<ProjectId, String> = BTreeMap::new();
    for line in &statement.usage {
        if let std::collections::btree_map::Entry::Vacant(place) = names.entry(line.project) {
            place.insert(projects.get(c, line.project).await?.name);
        }
    }
    let text = |value: Decimal| value.to_string();
    let usage = statement.usage.iter().map(|line| UsageItem {
        project_id: line.project,
        project: names.get(&line.project).cloned().unwrap_or_default(),
        metric: line.metric.as_str().to_owned(),
        pricing_version: line.pricing.clone(),
        adjusts: line.adjusts.map(|period| period.to_string()),
        quantity: text(Decimal::new(line.quantity_milli, 3).normalize()),
        unit_price_credits: text(decimal(line.rate.nano_credits)),
        unit_quantity: line.rate.per,
        currency_per_credit: text(decimal(line.nano_currency_per_credit)),
        credits: text(decimal(line.credit)),
        amount: text(minor(line.minor_units)),
    });
    let credit = statement.credit.iter().map(|line| CreditItem {
        kind: line.kind.as_str().to_owned(),
        credits: text(decimal(line.credit)),
        amount: text(minor(line.minor_units)),
    });
    let due = statement.due_minor_units;
    Ok(Document {
        id: None,
        org_id: org,
        organization: organization.name,
        period: statement.period.to_string(),
        closed_at: None,
        currency: statement.currency.to_string(),
        usage: usage.collect(),
        credit: credit.collect(),
        usage_total: text(minor(statement.usage_minor_units)),
        credit_total: text(minor(statement.credit_minor_units)),
        overage_credits: text(decimal(statement.overage)),
        amount_due: text(minor(if invoiced { due } else { 0 })),
        written_off: text(minor(if invoiced { 0 } else { due })),
    })
}

/// Reads a period as people write it.
///
/// # Errors
/// `invalid_request` naming `period`.
pub fn parse_period(text: &str) -> Result<Period> {
    text.parse().map_err(|error: billing::Error| {
        Error::Refused(domain::Refused::invalid("period", error.to_string()))
    })
}
