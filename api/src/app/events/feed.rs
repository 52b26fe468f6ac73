//! Events by cursor, from the outbox: for the command line and for whoever reads them over an API. A
//! position is a cursor: nothing that is wanted ever appears up to one that was returned.

use chrono::{DateTime, Utc};
use domain::id::OrganizationId;
use store::{Db, Everyone, Reach, Scope, outbox::EventFilter};

use super::{CloudEvent, Kinds};
use crate::app::error::Result;

/// Which events are wanted; what is `None` is not asked about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Whose.
    pub org: Option<OrganizationId>,
    /// Of which types.
    pub kinds: Option<Kinds>,
    /// Written at this instant or later.
    pub since: Option<DateTime<Utc>>,
}

/// Events, and where to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Events in the order of positions; may be empty although there are more.
    pub events: Vec<CloudEvent>,
    /// The cursor for the next page; the one that was given if nothing is new.
    pub next: i64,
    /// Whether there may be more already.
    pub has_more: bool,
}

/// At most `limit` events after a position, 0 for the beginning. Decides nothing about who may see them.
///
/// # Errors
/// When the database does not answer.
pub async fn page(db: &Db, wanted: &Wanted, after: i64, limit: u32) -> Result<Page> {
    let filter =
        EventFilter { kind_start: wanted.kinds.as_ref().map(Kinds::start), since: wanted.since };
    let fed = store::outbox(reach(wanted)).feed(db, &filter, after, limit).await?;
    let is_wanted = |kind: &str| wanted.kinds.as_ref().is_none_or(|kinds| kinds.has(kind));
    let rows = fed.events.iter().filter(|row| is_wanted(&row.kind));
    let events = rows.map(CloudEvent::of).collect::<Result<_>>()?;
    Ok(Page { events, next: fed.next, has_more: fed.has_more })
}

/// The cursor behind everything that is there.
///
/// # Errors
/// When the database does not answer.
pub async fn end(db: &Db) -> Result<i64> {
    Ok(store::outbox(Everyone::for_worker("event feed")).end(db).await?)
}

fn reach(wanted: &Wanted) -> Reach {
    wanted.org.map_or(Everyone::for_worker("event feed"), |org| Scope::org(org, None))
}
