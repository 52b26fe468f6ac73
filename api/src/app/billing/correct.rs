//! Corrects usage that was measured wrong, by a transaction that points back. The window stays as it
//! is; another part of it holds the difference.

use std::collections::BTreeSet;

use billing::{
    credit,
    ledger::{Heading, Kind, Posting},
    period::Period,
    settle::{self, Wrong},
};
use chrono::{DateTime, Utc};
use domain::{
    Refused,
    id::{GrantId, OrganizationId, SandboxId, TransactionId},
    metric::Metric,
    organization::check_reason,
};
use rust_decimal::Decimal;
use serde_json::json;
use store::{Everyone, Reach, Tx, billing::Billing, rows::WindowRow};

use super::{
    convert::{self, from_of, period, word},
    entry::Entry,
    journal::{self, Booked},
    manage::{Change, Open},
    settle as settling,
};
use crate::app::{App, audit::Act, error::Result};

/// A quantity that was measured wrong.
#[derive(Debug, Clone)]
pub struct Correction {
    /// The window's transaction.
    pub transaction: TransactionId,
    /// The window in it: its sandbox, metric, start and part.
    pub window: WindowRow,
    /// What it should have been, in thousandths of a unit.
    pub quantity_milli: i64,
    /// Why.
    pub reason: String,
}

/// A quantity in thousandths of a unit, which is what is measured.
///
/// # Errors
/// `invalid_request` for one with more places.
pub fn quantity_milli(quantity: Decimal) -> std::result::Result<i64, Refused> {
    let milli = quantity.checked_mul(Decimal::ONE_THOUSAND);
    let milli = milli.filter(|milli| milli.fract().is_zero()).and_then(|m| i64::try_from(m).ok());
    let text = "quantity must be a number with at most three places";
    milli.ok_or_else(|| Refused::invalid("quantity", text))
}

fn books() -> Billing {
    store::billing(Everyone::for_worker("correct"))
}

/// The window of a sandbox's metric that begins at an instant. Counts that came late are windows of the
/// same beginning and another part.
///
/// # Errors
/// `invalid_request` when there is none, when there are several and `part` does not say which, or when
/// it cost nothing and so has no transaction.
pub async fn find_window(
    app: &App,
    org: OrganizationId,
    (sandbox, metric, start): (SandboxId, Metric, DateTime<Utc>),
    part: Option<i64>,
) -> Result<(TransactionId, WindowRow)> {
    let billing = store::billing(Reach::Tenant { org, projects: None });
    let mut found = billing.windows_at(app.db.read(), sandbox, metric.as_str(), start).await?;
    found.retain(|window| part.map_or(window.part >= 0, |part| window.part == part));
    let refuse = |field: &str, text: &str| Err(Refused::invalid(field, text).into());
    match (found.pop(), found.is_empty()) {
        (None, _) => refuse("start", "start must be that of a window of the sandbox and metric"),
        (Some(_), false) => refuse("part", "part must say which of several windows is meant"),
        (Some(window), true) => match window.transaction_id {
            Some(id) => Ok((TransactionId::from_uuid(id), window)),
            None => refuse("start", "start is that of a window that cost nothing"),
        },
    }
}

/// The statement of the first open period shows the difference as an adjustment if the window's own is
/// closed. Refused for a quantity below zero or what is booked already, and for a transaction that is no
/// usage of the organization.
impl Change for Correction {
    /// The transaction that points back.
    type Made = Booked;

    async fn make(
        &self,
        app: &App,
        tx: &Tx,
        (org, now): (OrganizationId, DateTime<Utc>),
        acts: &mut Vec<Act>,
    ) -> Result<Booked> {
        let open = Open::new(app, tx, (org, now), acts).await?;
        let id = book(tx, &open, self, (org, now), acts).await?;
        open.close(tx, (org, now), acts).await?;
        journal::get(tx, org, id).await
    }
}

async fn book(
    tx: &Tx,
    open: &Open,
    correction: &Correction,
    (org, now): (OrganizationId, DateTime<Utc>),
    acts: &mut Vec<Act>,
) -> Result<TransactionId> {
    let prices = &open.prices;
    let reason = check_reason(&correction.reason)?;
    if correction.quantity_milli < 0 {
        return Err(Refused::invalid("quantity", "quantity must be zero or more").into());
    }
    let mut account = books().lock_account(tx, org).await?;
    let booked = Window::read(tx, org, correction).await?;
    let window = &booked.window;
    let version = prices.get(&window.pricing_version)?;
    let metric = word(&window.metric, "a window's metric")?;
    let price = version.price(metric, correction.quantity_milli).map_err(settling::sum)?;
    let (quantity, amount) =
        (correction.quantity_milli - booked.quantity_milli, price - booked.amount);
    if quantity == 0 || amount == 0 {
        return Err(Refused::invalid("quantity", "this costs what was booked").into());
    }
    let wrong = Wrong {
        id: correction.transaction,
        postings: &booked.postings,
        pricing: Some(window.pricing_version.clone()),
    };
    let first_open = period(account.open_from)?;
    let used = Period::of(convert::instant(window.started_at)?);
    let seq = account.last_seq + 1;
    let heading = Heading {
        kind: Kind::Correction,
        key: format!("correction:{}:{seq}", correction.transaction),
        at: now,
        booked: used.max(first_open),
        pricing: wrong.pricing.clone(),
        corrects: Some(correction.transaction),
        reason: Some(reason.clone()),
    };
    // Also grants that nothing is left of: what comes back comes back to them.
    let ids: Vec<_> = booked.postings.iter().filter_map(|posting| posting.grant).collect();
    let mut grants = Vec::new();
    for row in books().grants(tx, &ids).await? {
        grants.push(convert::grant(&row)?);
    }
    for row in books().grants_left(tx, &[org]).await? {
        if !ids.contains(&GrantId::from_uuid(row.id)) {
            grants.push(convert::grant(&row)?);
        }
    }
    credit::sort(&mut grants);
    let spent: BTreeSet<_> = grants.iter().filter(|g| g.remaining == 0).map(|g| g.id).collect();
    let transaction = if amount < 0 {
        settle::give_back(&mut grants, &wrong, -amount, heading)
    } else {
        settle::take_more(&mut grants, &wrong, amount, heading, now)
    }
    .map_err(settling::sum)?;
    let mut entry = Entry::default();
    let id = entry.book(org, &mut account, &transaction, now);
    // What came back to a grant that had ended is lost once more, under a key of its own. A grant that
    // something was left of has usage to pay for that is not known yet; settlement ends it.
    let (mut ended, kept): (Vec<_>, Vec<_>) =
        grants.into_iter().partition(|grant| spent.contains(&grant.id));
    let again = format!(":{id}");
    for (_, expiry) in settle::expire(&mut ended, now, first_open, &again).map_err(settling::sum)? {
        entry.book(org, &mut account, &expiry, now);
    }
    ended.iter().chain(&kept).for_each(|grant| entry.left(grant));
    entry.window(WindowRow {
        // Below zero, where no count that comes late will ever be.
        part: -seq,
        quantity,
        amount,
        booked_from: from_of(used.max(first_open)),
        transaction_id: Some(id.uuid()),
        ..window.clone()
    })?;
    entry.accounts.push(account);
    acts.extend(entry.write(tx, &books(), now).await?.acts.into_values().flatten());
    let details = json!({ "quantityMilli": quantity, "nanoCredits": amount, "reason": reason });
    acts.push(Act::done("usage.correct", id, details));
    Ok(id)
}

/// A window as the books have it, earlier corrections included.
struct Window {
    window: WindowRow,
    quantity_milli: i64,
    amount: i64,
    /// What its transaction and those that corrected it took, by account and grant.
    postings: Vec<Posting>,
}

impl Window {
    async fn read(tx: &Tx, org: OrganizationId, wanted: &Correction) -> Result<Self> {
        let books = store::billing(Reach::Tenant { org, projects: None });
        let mut ids = vec![wanted.transaction];
        for row in books.corrections_of(tx, org, wanted.transaction).await? {
            ids.push(TransactionId::from_uuid(row.id));
        }
        let place = &wanted.window;
        let start = convert::instant(place.started_at)?;
        let sandbox = SandboxId::from_uuid(place.sandbox_id);
        let mut windows = books.windows_at(tx, sandbox, &place.metric, start).await?;
        windows.retain(|w| w.transaction_id.is_some_and(|id| ids.iter().any(|i| i.uuid() == id)));
        let window = windows.iter().find(|window| {
            window.part == place.part && window.transaction_id == Some(wanted.transaction.uuid())
        });
        let window = window.cloned().ok_or_else(|| {
            Refused::invalid("transaction", "the organization has no such transaction of usage")
        })?;
        let mut postings: Vec<Posting> = Vec::new();
        for row in &books.postings(tx, &ids).await? {
            let posting = convert::posting(row)?;
            let same = |other: &&mut Posting| {
                (other.account, other.grant) == (posting.account, posting.grant)
            };
            match postings.iter_mut().find(same) {
                Some(sum) => sum.amount += posting.amount,
                None => postings.push(posting),
            }
        }
        Ok(Self {
            quantity_milli: windows.iter().map(|window| window.quantity).sum(),
            amount: windows.iter().map(|window| window.amount).sum(),
            window,
            postings,
        })
    }
}
