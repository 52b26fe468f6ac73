//! Settles whoever is due, many organizations in one transaction, and then stops what has outlived its
//! credit, at the instant at which that ended.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use domain::id::OrganizationId;
use store::{ConnectionTrait, Everyone, billing::Lock};

use super::{
    Rules,
    book::{self, Book},
    convert::corrupt,
    entry::Entry,
    prices::PriceLists,
    settle::{self, Stop},
};
use crate::{
    app::{
        App,
        audit::{self, Actor},
        error::{Error, Result},
    },
    work::reconcile,
};

/// Accounts settled in one transaction.
const BATCH: u32 = 64;
/// When an account whose books make no sense is looked at again.
const BROKEN_PAUSE: TimeDelta = TimeDelta::minutes(5);

/// Settles a batch of due accounts; `true` when it was a full one and there may be more.
///
/// # Errors
/// When the database does not answer.
pub async fn round(app: &Arc<App>) -> Result<bool> {
    let now = app.clock.now();
    let rules = Rules::of(&app.config);
    let prices = app.prices.get(app.db.read(), now).await?;
    let billing = store::billing(Everyone::for_worker("billing"));
    let tx = app.db.begin().await?;
    let accounts = billing.claim_due(&tx, now, BATCH).await?;
    let orgs: Vec<_> = accounts.iter().map(|a| OrganizationId::from_uuid(a.org_id)).collect();
    if accounts.is_empty() {
        tx.rollback().await?;
        return Ok(false);
    }
    let books = book::read(&tx, &billing, &prices, accounts, now, Lock::Hold).await?;
    let mut entry = Entry::default();
    let mut stops = Vec::new();
    for book in books {
        let (org, kept) = (book.org, book.account.clone());
        let mut own = Entry::default();
        match settle::one(&tx, &billing, &rules, &prices, book, &mut own, now).await {
            Ok(stop) => {
                stops.extend(stop.filter(|stop| stop.at <= now).map(|stop| (org, stop)));
                entry.append(own);
            }
            Err(error) => {
                // One organization's nonsense must not keep the others from being billed.
                app.metrics.failures.billing.increment(1);
                tracing::error!(%org, %error, "an organization's books cannot be settled");
                let mut account = kept;
                account.due_at = (now + BROKEN_PAUSE).timestamp_micros();
                entry.accounts.push(account);
            }
        }
    }
    match entry.write(&tx, &billing, now).await {
        Ok(written) => {
            // In the order of their ids, as whoever else holds several chains.
            for (org, acts) in &written.acts {
                audit::write(&tx, *org, &Actor::platform(), acts, now).await?;
            }
            tx.commit().await?;
            settle::announce(&written.alerts);
        }
        Err(error) if is_nonsense(&error) => {
            // Somebody's rows are in the way; whose, only each of them alone can tell.
            tx.rollback().await?;
            tracing::warn!(%error, "a batch cannot be written; settling one by one");
            stops = one_by_one(app, &orgs, now).await?;
        }
        Err(error) => return Err(error),
    }
    for (org, stop) in stops {
        stop_all(app, org, stop).await?;
    }
    Ok(u32::try_from(orgs.len()).is_ok_and(|n| n >= BATCH))
}

/// Settles an organization that should have been by now, and stops what has outlived its credit;
/// `true` when something was to be stopped. Whoever is about to end a sandbox asks here first: credit
/// ends where it ends, however late a worker looks.
///
/// # Errors
/// When the database does not answer.
pub async fn catch_up(app: &Arc<App>, org: OrganizationId) -> Result<bool> {
    let now = app.clock.now();
    let billing = store::billing(Everyone::for_worker("billing"));
    let account = billing.account(app.db.read(), org).await?;
    let past = |at: i64| at <= now.timestamp_micros();
    let outlived = account.live && account.stops_at.is_some_and(past);
    if past(account.due_at) || outlived {
        return bring_up_to_date(app, org).await;
    }
    Ok(false)
}

/// As [`catch_up`], whether or not the organization is due: whoever is about to refuse new work asks
/// here first, because what the account says is a prediction and may be old.
///
/// # Errors
/// When the database does not answer.
pub async fn bring_up_to_date(app: &Arc<App>, org: OrganizationId) -> Result<bool> {
    let now = app.clock.now();
    match settle_one(app, org, now).await {
        Ok(None) => Ok(false),
        Ok(Some(stop)) => {
            stop_all(app, org, stop).await?;
            // What is left without it may be enough for something new.
            settle_one(app, org, now).await?;
            Ok(true)
        }
        Err(error) if is_nonsense(&error) => {
            // Books that make no sense must not keep anything from ending.
            app.metrics.failures.billing.increment(1);
            tracing::error!(%org, %error, "an organization's books cannot be settled");
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Whether it is about an organization's rows, and not about the database.
const fn is_nonsense(error: &Error) -> bool {
    !matches!(error, Error::Store(store::Error::Unavailable(_)))
}

/// Settles organizations each in a transaction of its own; those that cannot be wait for a while.
async fn one_by_one(
    app: &Arc<App>,
    orgs: &[OrganizationId],
    now: DateTime<Utc>,
) -> Result<Vec<(OrganizationId, Stop)>> {
    let mut stops = Vec::new();
    for org in orgs {
        match settle_one(app, *org, now).await {
            Ok(stop) => stops.extend(stop.map(|stop| (*org, stop))),
            Err(error) if is_nonsense(&error) => {
                app.metrics.failures.billing.increment(1);
                tracing::error!(%org, %error, "an organization's books cannot be settled");
                let billing = store::billing(Everyone::for_worker("billing"));
                billing.postpone(app.db.write(), *org, now + BROKEN_PAUSE).await?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(stops)
}

/// Settles one organization; returns the stop that has come.
async fn settle_one(
    app: &Arc<App>,
    org: OrganizationId,
    now: DateTime<Utc>,
) -> Result<Option<Stop>> {
    let rules = Rules::of(&app.config);
    let prices = app.prices.get(app.db.read(), now).await?;
    let tx = app.db.begin().await?;
    let mut acts = Vec::new();
    let stop = settle::organization(&tx, &rules, &prices, org, now, &mut acts).await?;
    audit::write(&tx, org, &Actor::platform(), &acts, now).await?;
    tx.commit().await?;
    Ok(stop.filter(|stop| stop.at <= now))
}

/// Ends every live sandbox of an organization at the instant of the stop.
async fn stop_all(app: &Arc<App>, org: OrganizationId, stop: Stop) -> Result<()> {
    let sandboxes = store::sandboxes(Everyone::for_worker("billing"));
    let live = sandboxes.live_of(app.db.read(), org).await?;
    if live.is_empty() {
        return Ok(());
    }
    let n = live.len();
    tracing::info!(%org, at = %stop.at, code = stop.code.as_str(), n, "stopping sandboxes");
    for sandbox in live {
        let id = sandbox.id;
        if let Err(error) = reconcile::stop(app, &sandbox, stop.at).await {
            tracing::warn!(sandbox = %id, %error, "a sandbox without credit is stopped later");
        }
    }
    // What has ended is settled at once, up to its end.
    store::billing(Everyone::for_worker("billing"))
        .wake(app.db.write(), org, app.clock.now())
        .await?;
    Ok(())
}

/// An organization's books as they stand, without holding anything. `c` is a snapshot if more is read
/// that must fit them.
///
/// # Errors
/// When the database does not answer; `Missing` without an account.
pub async fn look(
    c: &impl ConnectionTrait,
    prices: &PriceLists,
    org: OrganizationId,
    now: DateTime<Utc>,
) -> Result<Book> {
    let billing = store::billing(Everyone::for_worker("billing"));
    let account = billing.account(c, org).await?;
    let mut books = book::read(c, &billing, prices, vec![account], now, Lock::Look).await?;
    books.pop().ok_or_else(|| corrupt("a book without an account"))
}
