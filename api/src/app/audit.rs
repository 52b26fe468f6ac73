//! The audit trail: who did what, when, from where, on what, with what outcome. Entries are written in
//! the transaction of what they tell of, and chained by hashes per organization, so that one that was
//! changed, removed, inserted or moved later is found. What concerns no organization, such as
//! operators' keys, is in a chain of the installation. Entries are never deleted.

use chrono::{DateTime, SecondsFormat, Utc};
use domain::{Code, id::OrganizationId};
use migrations::rows::AuditRow;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use store::{
    ConnectionTrait, Db, Everyone, Page, Tx,
    audit::{AuditFilter, Chain},
};

use super::{Caller, admin::AdminCaller, billing::convert::corrupt, error::Result};

/// Entries read at a time.
const PAGE: u32 = 1_000;

/// Who acts, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// A key's id, tenant's or operator's, a person's id, `operator`, or `platform` for what nobody
    /// asked for.
    pub name: String,
    /// The address that the request came from; empty for none.
    pub origin: String,
    /// The request; empty for none.
    pub request_id: String,
}

impl Actor {
    /// Whoever sent a request.
    #[must_use]
    pub fn of(caller: &Caller) -> Self {
        Self {
            name: caller.key.id.to_string(),
            origin: caller.origin.clone(),
            request_id: caller.request_id.clone(),
        }
    }

    /// The operator who sent a request.
    #[must_use]
    pub fn of_admin(caller: &AdminCaller) -> Self {
        Self {
            name: caller.key.id.to_string(),
            origin: caller.origin.clone(),
            request_id: caller.request_id.clone(),
        }
    }

    /// Somebody with access to the installation itself.
    #[must_use]
    pub fn operator() -> Self {
        Self { name: "operator".to_owned(), origin: String::new(), request_id: String::new() }
    }

    /// The platform by itself.
    #[must_use]
    pub fn platform() -> Self {
        Self { name: "platform".to_owned(), origin: String::new(), request_id: String::new() }
    }
}

/// Something to be written down.
#[derive(Debug, Clone, PartialEq)]
pub struct Act {
    /// What was done, such as `sandbox.create`.
    pub action: &'static str,
    /// The id of what it was done to.
    pub object: String,
    /// `ok`, or the code of the refusal.
    pub outcome: String,
    /// More, such as the end's reason; never a secret, an environment or a command's text.
    pub details: Value,
    /// Who did it, if not whoever caused the transaction in which it is written down.
    pub actor: Option<Actor>,
}

impl Act {
    /// Something that the platform did by itself, whoever's transaction it happened in.
    #[must_use]
    pub fn of_platform(action: &'static str, object: impl ToString, details: Value) -> Self {
        Self { actor: Some(Actor::platform()), ..Self::done(action, object, details) }
    }

    /// Something that was done.
    #[must_use]
    pub fn done(action: &'static str, object: impl ToString, details: Value) -> Self {
        let outcome = "ok".to_owned();
        Self { action, object: object.to_string(), outcome, details, actor: None }
    }

    /// Something that was asked for and refused.
    #[must_use]
    pub fn refused(
        action: &'static str,
        object: impl ToString,
        code: Code,
        details: Value,
    ) -> Self {
        let outcome = code.as_str().to_owned();
        Self { action, object: object.to_string(), outcome, details, actor: None }
    }
}

/// Writes down acts. The very last thing that a transaction does, after its events: it holds the
/// chain from here on.
///
/// # Errors
/// When the database refuses.
pub async fn write(
    tx: &Tx,
    chain: impl Into<Chain>,
    actor: &Actor,
    acts: &[Act],
    now: DateTime<Utc>,
) -> Result<()> {
    if acts.is_empty() {
        return Ok(());
    }
    let chain = chain.into();
    let trail = store::audit(Everyone::for_worker("audit"));
    let end = trail.hold_chain(tx, chain, &genesis(chain)).await?;
    let (mut seq, mut hash) = (end.last_seq, end.last_hash);
    let mut rows = Vec::with_capacity(acts.len());
    for act in acts {
        let actor = act.actor.as_ref().unwrap_or(actor);
        seq += 1;
        let mut row = AuditRow {
            org_id: chain.org_id(),
            seq,
            at: now.timestamp_micros(),
            actor: actor.name.clone(),
            action: act.action.to_owned(),
            object: act.object.clone(),
            outcome: act.outcome.clone(),
            origin: actor.origin.clone(),
            request_id: actor.request_id.clone(),
            details: act.details.to_string(),
            hash: Vec::new(),
        };
        row.hash = chained(&hash, &row);
        hash.clone_from(&row.hash);
        rows.push(row);
    }
    Ok(trail.append(tx, &rows).await?)
}

/// Where a chain begins: no two begin alike, so none can be put in another's place.
fn genesis(chain: Chain) -> Vec<u8> {
    Sha256::digest(format!("crownest audit chain of {chain}")).to_vec()
}

/// The hash of an entry: SHA-256 over the hash before it and every column, each with its length before
/// it, so that nothing can be moved from one column to the next.
fn chained(previous: &[u8], row: &AuditRow) -> Vec<u8> {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(bytes);
    };
    part(previous);
    part(row.org_id.as_bytes());
    part(&row.seq.to_be_bytes());
    part(&row.at.to_be_bytes());
    for text in [
        &row.actor,
        &row.action,
        &row.object,
        &row.outcome,
        &row.origin,
        &row.request_id,
        &row.details,
    ] {
        part(text.as_bytes());
    }
    hash.finalize().to_vec()
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Entries that are as they were written.
    pub n_entries: u64,
    /// The number of the first entry that is not, and what is wrong with it.
    pub broken: Option<(i64, String)>,
}

/// Computes a chain anew.
///
/// # Errors
/// When the database does not answer.
pub async fn verify(db: &Db, chain: impl Into<Chain>) -> Result<Verified> {
    let chain = chain.into();
    let snapshot = db.snapshot().await?;
    let trail = store::audit(Everyone::for_worker("audit verify"));
    let (mut seq, mut hash) = (0, genesis(chain));
    let broken = |n: i64, seq: i64, what: &str| Verified {
        n_entries: u64::try_from(n).unwrap_or(0),
        broken: Some((seq, what.to_owned())),
    };
    loop {
        let page = trail.list(&snapshot, chain, &AuditFilter::default(), seq, PAGE).await?;
        if page.is_empty() {
            break;
        }
        for row in page {
            if row.seq != seq + 1 {
                return Ok(broken(seq, seq + 1, "it is missing"));
            }
            if row.hash != chained(&hash, &row) {
                let what = "it, or the order of entries up to it, is not as it was written";
                return Ok(broken(seq, row.seq, what));
            }
            (seq, hash) = (row.seq, row.hash);
        }
    }
    let end = trail.chain_end(&snapshot, chain).await?;
    match end {
        None if seq > 0 => Ok(broken(seq, seq, "the end of the chain is missing")),
        Some(end) if end.last_seq > seq => {
            Ok(broken(seq, seq + 1, "it and all that follow are missing"))
        }
        Some(end) if end.last_seq < seq || end.last_hash != hash => {
            Ok(broken(seq, end.last_seq + 1, "it was added after the end of the chain"))
        }
        None | Some(_) => Ok(Verified { n_entries: u64::try_from(seq).unwrap_or(0), broken: None }),
    }
}

/// Prints a chain's entries as JSON lines, oldest first.
///
/// # Errors
/// When the database does not answer or `print` fails.
pub async fn export(
    c: &impl ConnectionTrait,
    chain: impl Into<Chain>,
    filter: &AuditFilter,
    mut print: impl FnMut(&str) -> std::io::Result<()>,
) -> anyhow::Result<()> {
    let chain = chain.into();
    let trail = store::audit(Everyone::for_worker("audit export"));
    let mut after = 0;
    loop {
        let page = trail.list(c, chain, filter, after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.seq;
        for row in &page {
            print(&format!("{}\n", line(row)))?;
        }
    }
}

/// An entry as it is read.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Whose chain it is in; `None` = the installation's.
    pub org_id: Option<OrganizationId>,
    /// Its number in the chain.
    pub seq: i64,
    /// When it was written.
    pub at: DateTime<Utc>,
    /// Who acted.
    pub actor: String,
    /// What was done.
    pub action: String,
    /// To what.
    pub object: String,
    /// `ok`, or the code of the refusal.
    pub outcome: String,
    /// From where; empty for none.
    pub origin: String,
    /// The request; empty for none.
    pub request_id: String,
    /// More.
    pub details: Value,
    /// Of this entry and the one before it, in hex.
    pub hash: String,
}

/// A page of a chain's entries behind a number, oldest first.
///
/// # Errors
/// When the database does not answer.
pub async fn list(
    c: &impl ConnectionTrait,
    chain: impl Into<Chain>,
    filter: &AuditFilter,
    after: i64,
    limit: u32,
) -> Result<Page<Entry>> {
    let trail = store::audit(Everyone::for_worker("audit feed"));
    let mut rows = trail.list(c, chain.into(), filter, after, limit.saturating_add(1)).await?;
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = rows.len() > wanted;
    rows.truncate(wanted);
    Ok(Page { items: rows.into_iter().map(entry).collect::<Result<_>>()?, has_more })
}

fn entry(row: AuditRow) -> Result<Entry> {
    let broken = || corrupt(format!("entry {} of an audit trail breaks the rules", row.seq));
    Ok(Entry {
        org_id: organization(&row),
        seq: row.seq,
        at: DateTime::from_timestamp_micros(row.at).ok_or_else(broken)?,
        details: serde_json::from_str(&row.details).map_err(|_| broken())?,
        actor: row.actor,
        action: row.action,
        object: row.object,
        outcome: row.outcome,
        origin: row.origin,
        request_id: row.request_id,
        hash: hex::encode(&row.hash),
    })
}

fn organization(row: &AuditRow) -> Option<OrganizationId> {
    match Chain::of(row) {
        Chain::Organization(org) => Some(org),
        Chain::Installation => None,
    }
}

fn line(row: &AuditRow) -> Value {
    let at = DateTime::from_timestamp_micros(row.at);
    json!({
        "orgId": organization(row),
        "seq": row.seq,
        "at": at.map(|at| at.to_rfc3339_opts(SecondsFormat::Micros, true)),
        "actor": row.actor,
        "action": row.action,
        "object": row.object,
        "outcome": row.outcome,
        "origin": row.origin,
        "requestId": row.request_id,
        "details": serde_json::from_str::<Value>(&row.details).unwrap_or(Value::Null),
        "hash": hex::encode(&row.hash),
    })
}
