//! Idempotent mutations (contract, section 5): the record of a request commits together with its
//! effect, and a retry gets the stored answer byte for byte.

use chrono::TimeDelta;
use domain::{Code, Refused, id::CommandId};
use store::{
    Tx,
    idempotency::{Asker, IdempotencyScope, NewRecord, Record, RecordId},
};

use super::{App, Caller, admin::AdminCaller, error::Result};

/// How long a key is remembered.
pub const RETENTION: TimeDelta = TimeDelta::hours(24);

/// A request that carries an idempotency key.
#[derive(Debug, Clone)]
pub struct Idempotent {
    /// The key, 1 to 255 characters.
    pub key: String,
    /// The HTTP method.
    pub method: &'static str,
    /// The concrete path, ids included.
    pub path: String,
    /// A hash of everything that makes the request what it is.
    pub fingerprint: String,
}

/// A printed answer: what is stored and what is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body, as sent.
    pub body: Vec<u8>,
}

/// What is known of a request's key.
#[derive(Debug)]
pub enum Known {
    /// Nothing: carry on.
    Fresh,
    /// It was answered: send this again.
    Answered(Answer),
    /// It is still running, or was when the server stopped; the command it started, if it did.
    Running(Record, Option<CommandId>),
}

impl From<&Caller> for Asker {
    fn from(caller: &Caller) -> Self {
        Self::Tenant(caller.org_id(), caller.key.id)
    }
}

impl From<&AdminCaller> for Asker {
    fn from(caller: &AdminCaller) -> Self {
        Self::Operator(caller.key.id)
    }
}

impl Idempotent {
    fn scope(&self, asker: Asker) -> IdempotencyScope {
        IdempotencyScope {
            asker,
            method: self.method.to_owned(),
            path: self.path.clone(),
            key: self.key.clone(),
        }
    }
}

/// Looks a request up.
///
/// # Errors
/// `idempotency_key_reused` when the key was used for another request.
pub async fn look_up(
    app: &App,
    asker: impl Into<Asker>,
    request: Option<&Idempotent>,
) -> Result<Known> {
    let Some(request) = request else { return Ok(Known::Fresh) };
    let found = store::idempotency::find(app.db.read(), &request.scope(asker.into())).await?;
    let now = app.clock.now();
    let Some(record) = found.filter(|record| record.expires_at > now) else {
        return Ok(Known::Fresh);
    };
    if record.fingerprint != request.fingerprint {
        return Err(Refused::new(
            Code::IdempotencyKeyReused,
            "this Idempotency-Key was used for a different request",
        )
        .into());
    }
    Ok(match &record.outcome {
        Some((status, body)) => Known::Answered(Answer { status: *status, body: body.clone() }),
        None => {
            let command_id = record.command_id;
            Known::Running(record, command_id)
        }
    })
}

/// Writes the record of a request inside its transaction, finished if its answer is known already.
/// `false`: the same request came in at the same time and is ahead; roll back and look again.
///
/// # Errors
/// When the database refuses.
pub async fn record(
    app: &App,
    tx: &Tx,
    asker: impl Into<Asker>,
    request: Option<&Idempotent>,
    command_id: Option<CommandId>,
    answer: Option<&Answer>,
) -> Result<bool> {
    let Some(request) = request else { return Ok(true) };
    Ok(insert(app, tx, asker.into(), request, command_id, answer).await?.is_some())
}

/// Writes the record of a request whose answer the same transaction finds out, and says which one is
/// to be finished with it. `None`: the same request is ahead.
///
/// # Errors
/// When the database refuses.
pub async fn reserve(
    app: &App,
    tx: &Tx,
    asker: impl Into<Asker>,
    request: &Idempotent,
) -> Result<Option<RecordId>> {
    insert(app, tx, asker.into(), request, None, None).await
}

async fn insert(
    app: &App,
    tx: &Tx,
    asker: Asker,
    request: &Idempotent,
    command_id: Option<CommandId>,
    answer: Option<&Answer>,
) -> Result<Option<RecordId>> {
    let now = app.clock.now();
    let record = NewRecord {
        id: RecordId::generate(now),
        scope: request.scope(asker),
        fingerprint: request.fingerprint.clone(),
        command_id,
        outcome: answer.map(|answer| (answer.status, answer.body.clone())),
        created_at: now,
        expires_at: now + RETENTION,
    };
    Ok(store::idempotency::insert(tx, &record).await?.then_some(record.id))
}
