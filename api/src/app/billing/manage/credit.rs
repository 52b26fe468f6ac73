//! Credit that operators grant, and credit that they take back.

use billing::{
    credit::{Grant, GrantKind},
    forecast,
    ledger::{Heading, Kind, Posting},
    money::{self, decimal},
    period::Period,
    settle,
};
use chrono::{DateTime, Utc};
use domain::{
    Code, Refused,
    id::{GrantId, OrganizationId, TransactionId},
    organization::check_reason,
};
use rust_decimal::Decimal;
use serde_json::json;
use store::{Reach, Tx};

use super::{
    super::{
        convert::{corrupt, grant as grant_of, period},
        entry::Entry,
        journal::{self, Booked},
        settle as settling, tick,
    },
    Change, Open, accounts, check_key,
};
use crate::app::{App, audit::Act, error::Result};

/// Credit to grant. Made once per key: the same grant again changes nothing.
#[derive(Debug, Clone)]
pub struct NewGrant {
    /// Bought, or for another reason.
    pub kind: GrantKind,
    /// In credits.
    pub credits: Decimal,
    /// Smaller is burnt first; the kind's own if none is named.
    pub priority: Option<i64>,
    /// When it is lost.
    pub expires_at: Option<DateTime<Utc>>,
    /// A grant with the same key is made once.
    pub key: String,
    /// Why.
    pub reason: String,
}

/// Credit to take back from what is left of a grant, by a transaction that points back to the one with
/// which the credit came. Made once per key.
#[derive(Debug, Clone)]
pub struct TakeBack {
    /// The grant.
    pub grant: GrantId,
    /// How much, in credits, above zero.
    pub credits: Decimal,
    /// Credit is taken back once for the same key.
    pub key: String,
    /// Why.
    pub reason: String,
}

/// A grant, and the transaction that gave or took of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credited {
    /// The grant as it is now.
    pub grant: Grant,
    /// The transaction.
    pub transaction: Booked,
    /// Whether it was made now, and not for an earlier request with the same key.
    pub is_new: bool,
}

fn above_zero(credits: Decimal) -> Result<i64> {
    let amount = money::nano(credits).filter(|amount| *amount > 0);
    let text = "credits must be above zero, with at most nine places";
    Ok(amount.ok_or_else(|| Refused::invalid("credits", text))?)
}

fn other_content() -> Refused {
    Refused::field(Code::Conflict, "key", "something else was booked with this key")
}

impl NewGrant {
    fn check(&self, now: DateTime<Utc>) -> Result<Grant> {
        check_key(&self.key)?;
        match self.kind {
            GrantKind::Purchased | GrantKind::Adjustment | GrantKind::Free => {}
            GrantKind::Plan => {
                return Err(Refused::invalid("kind", "plan credit comes with the plan").into());
            }
        }
        let amount = above_zero(self.credits)?;
        Ok(Grant {
            id: GrantId::generate(now),
            kind: self.kind,
            priority: self.priority.unwrap_or_else(|| self.kind.priority()),
            amount,
            remaining: amount,
            starts_at: now,
            expires_at: self.expires_at.map(store::truncate),
        })
    }
}

impl Change for NewGrant {
    type Made = Credited;

    async fn make(
        &self,
        app: &App,
        tx: &Tx,
        (org, now): (OrganizationId, DateTime<Utc>),
        acts: &mut Vec<Act>,
    ) -> Result<Credited> {
        let (grant, reason) = (self.check(now)?, check_reason(&self.reason)?);
        let open = Open::new(app, tx, (org, now), acts).await?;
        // Apart from the keys of plan credit, which would else be refused when it is due.
        let key = format!("grant:operator:{}", self.key);
        if let Some(found) = find(tx, org, &key).await? {
            let terms =
                |grant: &Grant| (grant.kind, grant.amount, grant.priority, grant.expires_at);
            let same = terms(&found.grant) == terms(&grant);
            return if same { Ok(found) } else { Err(other_content().into()) };
        }
        if grant.expires_at.is_some_and(|at| at <= now) {
            return Err(Refused::invalid("expiresAt", "expiry must be in the future").into());
        }
        let mut account = accounts().lock_account(tx, org).await?;
        let details = json!({
            "kind": grant.kind.as_str(),
            "credits": self.credits.normalize().to_string(),
            "reason": reason,
        });
        acts.push(Act::done("credit.grant", grant.id, details));
        let first_open = period(account.open_from)?;
        let coming =
            settle::grant(&grant, key, now, first_open, Some(reason)).map_err(settling::sum)?;
        let mut entry = Entry::default();
        let id = entry.grant(org, &mut account, &grant, &coming, now);
        entry.accounts.push(account);
        acts.extend(entry.write(tx, &accounts(), now).await?.acts.into_values().flatten());
        open.close(tx, (org, now), acts).await?;
        booked(tx, org, id, true).await
    }
}

impl Change for TakeBack {
    type Made = Credited;

    async fn make(
        &self,
        app: &App,
        tx: &Tx,
        (org, now): (OrganizationId, DateTime<Utc>),
        acts: &mut Vec<Act>,
    ) -> Result<Credited> {
        let (amount, reason) = (above_zero(self.credits)?, check_reason(&self.reason)?);
        check_key(&self.key)?;
        let open = Open::new(app, tx, (org, now), acts).await?;
        let key = format!("take-back:operator:{}", self.key);
        if let Some(found) = find(tx, org, &key).await? {
            let taken =
                |posting: &Posting| (posting.grant, posting.amount) == (Some(self.grant), -amount);
            let same = found.transaction.postings.iter().any(taken);
            return if same { Ok(found) } else { Err(other_content().into()) };
        }
        let mut account = accounts().lock_account(tx, org).await?;
        let (mut grant, came) = self.find_grant(tx, org).await?;
        let left = left(tx, &open, org, &grant, now).await?;
        if amount > left {
            let text = format!("{} credits of this grant are left to be taken", decimal(left));
            return Err(Refused::field(Code::Conflict, "credits", text).into());
        }
        let heading = Heading {
            kind: Kind::Correction,
            key,
            at: now,
            booked: Period::of(now).max(period(account.open_from)?),
            pricing: None,
            corrects: Some(came),
            reason: Some(reason.clone()),
        };
        let transaction = settle::take_back(&mut grant, amount, heading).map_err(settling::sum)?;
        let mut entry = Entry::default();
        let id = entry.book(org, &mut account, &transaction, now);
        entry.left(&grant);
        entry.accounts.push(account);
        acts.extend(entry.write(tx, &accounts(), now).await?.acts.into_values().flatten());
        let credits = self.credits.normalize().to_string();
        let details = json!({ "credits": credits, "transactionId": id, "reason": reason });
        acts.push(Act::done("credit.take_back", grant.id, details));
        open.close(tx, (org, now), acts).await?;
        booked(tx, org, id, true).await
    }
}

impl TakeBack {
    /// The grant, and the transaction with which its credit came.
    async fn find_grant(&self, tx: &Tx, org: OrganizationId) -> Result<(Grant, TransactionId)> {
        let books = books(org);
        let missing = || Refused::invalid("grantId", "the organization has no such grant");
        let row = books.grants(tx, &[self.grant]).await?.pop().ok_or_else(missing)?;
        let came = books.transaction_of_grant(tx, self.grant).await?;
        let came = came.ok_or_else(|| corrupt("a grant came with no transaction"))?;
        Ok((grant_of(&row)?, TransactionId::from_uuid(came)))
    }
}

/// What may be taken of a grant: not what has to pay for usage that is known and not booked yet.
async fn left(
    tx: &Tx,
    open: &Open,
    org: OrganizationId,
    grant: &Grant,
    now: DateTime<Utc>,
) -> Result<i64> {
    if grant.expires_at.is_some_and(|at| at <= now) {
        return Ok(0);
    }
    let book = tick::look(tx, &open.prices, org, now).await?;
    let all = forecast::credit_left(&book.grants, &book.meters(), now).map_err(settling::sum)?;
    Ok(grant.remaining.min(all))
}

fn books(org: OrganizationId) -> store::billing::Billing {
    store::billing(Reach::Tenant { org, projects: None })
}

async fn find(tx: &Tx, org: OrganizationId, key: &str) -> Result<Option<Credited>> {
    match books(org).transaction_of_key(tx, org, key).await? {
        None => Ok(None),
        Some(id) => booked(tx, org, TransactionId::from_uuid(id), false).await.map(Some),
    }
}

/// A transaction of credit with its grant.
async fn booked(tx: &Tx, org: OrganizationId, id: TransactionId, is_new: bool) -> Result<Credited> {
    let transaction = journal::get(tx, org, id).await?;
    let grant = transaction.postings.iter().find_map(|posting| posting.grant);
    let grant = grant.ok_or_else(|| corrupt(format!("{id} is about no grant")))?;
    let grant = books(org).grants(tx, &[grant]).await?.pop();
    let grant = grant.ok_or_else(|| corrupt(format!("the grant of {id} is gone")))?;
    Ok(Credited { grant: grant_of(&grant)?, transaction, is_new })
}
