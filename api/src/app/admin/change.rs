//! The frame of every change that an operator makes: once per idempotency key, and in one transaction
//! with what is told of it. What is changed is the use case's to say.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use store::{Tx, audit::Chain, idempotency::RecordId};

use super::AdminCaller;
use crate::{
    app::{
        App,
        audit::{self, Act, Actor},
        error::{Error, Result},
        events::{self, Event},
        idempotency::{self, Answer, Idempotent, Known},
    },
    work::announcements::KEYS,
};

/// A change on its way. Dropped without [`Change::commit`], nothing has happened.
#[derive(Debug)]
pub struct Change {
    app: Arc<App>,
    actor: Actor,
    record: Option<RecordId>,
    /// The transaction that everything belongs to.
    pub tx: Tx,
    /// The instant of the change.
    pub now: DateTime<Utc>,
}

/// What came of beginning a change.
#[derive(Debug)]
pub enum Begun {
    /// It is to be made.
    Fresh(Box<Change>),
    /// It was made before, for the same idempotency key.
    Answered(Answer),
}

/// What a change comes to.
#[derive(Debug)]
pub struct Outcome {
    /// What is sent.
    pub answer: Answer,
    /// What is kept for a replay; `None` = the same. For answers with a secret, which is stored nowhere.
    pub replay: Option<Answer>,
    /// Where it is written down.
    pub chain: Chain,
    /// Who is told of it. None of either = nothing was changed.
    pub events: Vec<Event>,
    /// What is written down.
    pub acts: Vec<Act>,
}

impl Change {
    /// Begins a change, unless it was made before. The record of the request comes first: of two that
    /// arrive at once, one waits here for the other and is answered as that was.
    ///
    /// # Errors
    /// Those of idempotency.
    pub async fn begin(
        app: &Arc<App>,
        caller: &AdminCaller,
        request: Option<Idempotent>,
    ) -> Result<Begun> {
        let known = |known| match known {
            Known::Fresh => Ok(None),
            Known::Answered(answer) => Ok(Some(Begun::Answered(answer))),
            Known::Running(..) => Err(Error::InProgress),
        };
        if let Some(begun) = known(idempotency::look_up(app, caller, request.as_ref()).await?)? {
            return Ok(begun);
        }
        let tx = app.db.begin().await?;
        let record = match &request {
            None => None,
            Some(request) => match idempotency::reserve(app, &tx, caller, request).await? {
                Some(record) => Some(record),
                None => {
                    tx.rollback().await?;
                    let found = idempotency::look_up(app, caller, Some(request)).await?;
                    return known(found)?.ok_or(Error::InProgress);
                }
            },
        };
        let actor = Actor::of_admin(caller);
        let (app, now) = (Arc::clone(app), app.clock.now());
        Ok(Begun::Fresh(Box::new(Self { app, actor, record, tx, now })))
    }

    /// Writes down what was changed and who did it, and makes it so. From here on, every server reads
    /// keys and organizations anew.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn commit(self, outcome: Outcome) -> Result<Answer> {
        let Self { app, actor, record, tx, now } = self;
        if let Some(record) = record {
            let kept = outcome.replay.as_ref().unwrap_or(&outcome.answer);
            store::idempotency::finish(&tx, record, kept.status, &kept.body).await?;
        }
        store::notify(&tx, KEYS).await?;
        events::emit(&tx, &outcome.events, now).await?;
        audit::write(&tx, outcome.chain, &actor, &outcome.acts, now).await?;
        // A client that goes away while this commits must not leave old rows in this server's memory.
        let committing = Arc::clone(&app);
        let commit = async move {
            tx.commit().await?;
            committing.auth.forget_rows();
            Ok(())
        };
        app.detached(commit).await?;
        Ok(outcome.answer)
    }
}
