//! Events: what happened, told to billing pipelines and whoever else listens. Each is written in the
//! transaction that makes it true; publishing is the relay's. `asyncapi.yaml` describes them.

mod cloud_event;
pub mod feed;
mod kinds;
mod make;
pub mod payload;

use chrono::{DateTime, Utc};
use domain::{
    id::{EventId, Id, Named, OrganizationId},
    sandbox::Sandbox,
};
use store::{Everyone, Tx, outbox::NewEvent};

use super::error::Result;
use crate::trace;
pub use cloud_event::CloudEvent;
pub(crate) use cloud_event::attributes;
pub use kinds::Kinds;
pub use make::{
    closed, created, ended, finished, key_created, key_revoked, key_rotated, ready, resumed,
    suspended,
};
pub use payload::Payload;

/// An event to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Whose it is.
    pub org: OrganizationId,
    /// What it is about: a sandbox, else the organization. Events of a subject keep their order.
    pub subject: Subject,
    /// What happened.
    pub payload: Payload,
    /// When.
    pub at: DateTime<Utc>,
}

/// What an event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    name: String,
    spread: u8,
}

impl Subject {
    /// What has an id.
    #[must_use]
    pub fn of<T: Named>(id: Id<T>) -> Self {
        // The last byte of a UUIDv7 is random: subjects spread evenly over the partitions.
        Self { name: id.to_string(), spread: id.uuid().into_bytes()[15] }
    }
}

impl Event {
    /// Something that happened to a sandbox.
    #[must_use]
    pub fn of_sandbox(sandbox: &Sandbox, payload: Payload, at: DateTime<Utc>) -> Self {
        Self { org: sandbox.org_id, subject: Subject::of(sandbox.id), payload, at }
    }

    /// Something that happened to an organization.
    #[must_use]
    pub fn of_organization(org: OrganizationId, payload: Payload, at: DateTime<Utc>) -> Self {
        Self { org, subject: Subject::of(org), payload, at }
    }
}

/// Writes events. The last thing that a transaction does: it holds their subjects from here on.
///
/// # Errors
/// When the database refuses.
pub async fn emit(tx: &Tx, events: &[Event], now: DateTime<Utc>) -> Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    let trace_parent = trace::current().map(|parent| parent.to_string());
    let mut rows = Vec::with_capacity(events.len());
    for event in events {
        rows.push(NewEvent {
            id: EventId::generate(now),
            org: event.org,
            subject: event.subject.name.clone(),
            spread: event.subject.spread,
            kind: event.payload.kind(),
            data: event.payload.json()?,
            trace_parent: trace_parent.clone(),
            occurred_at: event.at,
        });
    }
    Ok(store::outbox(Everyone::for_worker("events")).append(tx, &rows, now).await?)
}
