//! What happened, by cursor: the audit trail and events.

use chrono::{DateTime, Utc};
use poem_openapi::{Object, OpenApi, param::Path, registry::MetaSchema};
use serde_json::Value;

use domain::{Refused, id::OrganizationId};
use store::audit::{AuditFilter, Chain};

use super::Tag;
use crate::{
    app::{
        App,
        admin::organizations,
        audit::{self, Entry},
        events::{
            CloudEvent, Kinds,
            feed::{self, Wanted},
        },
    },
    http::{
        error::ApiError,
        extract::{Admin, Limit, Param, Position, Query},
        responses::{Json, feed_view},
        wire::{Precise, Wire},
    },
};

/// An entry of the audit trail.
#[derive(Debug, Object)]
#[oai(rename = "AuditEntry", rename_all = "camelCase", skip_serializing_if_is_none)]
struct EntryView {
    /// Whose trail it is in; absent: the installation's own.
    org_id: Option<Wire<OrganizationId>>,
    /// Its number in the trail, without a gap.
    seq: i64,
    at: Wire<Precise>,
    /// A key's id, an admin key's, `operator` for the command line, or `platform`.
    actor: String,
    /// What was done, such as `sandbox.kill`.
    action: String,
    /// The id of what it was done to.
    object: String,
    /// `ok`, or the code of the refusal.
    outcome: String,
    /// The address that the request came from; empty for none.
    origin: String,
    /// The request; empty for none.
    request_id: String,
    /// More, by action.
    details: Value,
    /// SHA-256 over this entry and the hash of the one before it.
    hash: String,
}

impl From<&Entry> for EntryView {
    fn from(entry: &Entry) -> Self {
        Self {
            org_id: entry.org_id.map(Wire),
            seq: entry.seq,
            at: Wire(Precise(entry.at)),
            actor: entry.actor.clone(),
            action: entry.action.clone(),
            object: entry.object.clone(),
            outcome: entry.outcome.clone(),
            origin: entry.origin.clone(),
            request_id: entry.request_id.clone(),
            details: entry.details.clone(),
            hash: entry.hash.clone(),
        }
    }
}

feed_view! {
    /// A page of an audit trail.
    AuditEntryList of EntryView
}

/// An event as CloudEvents 1.0 has it in its structured form.
#[derive(Debug, Object)]
#[oai(rename = "Event", rename_all = "lowercase", skip_serializing_if_is_none)]
struct EventView {
    specversion: String,
    /// What consumers drop repeats by.
    id: String,
    /// What happened, with its version, such as `crownest.sandbox.created.v1`.
    #[oai(rename = "type")]
    kind: String,
    source: String,
    /// What it is about: a sandbox's id, or the organization's.
    subject: String,
    time: String,
    /// The number of the event within its subject.
    sequence: String,
    orgid: String,
    traceparent: Option<String>,
    datacontenttype: String,
    /// Where it is in the outbox.
    position: Option<i64>,
    /// What it says, by type: `asyncapi.yaml` describes it.
    data: Value,
}

impl From<&CloudEvent> for EventView {
    fn from(event: &CloudEvent) -> Self {
        let text = |name| event.attribute(name).to_owned();
        Self {
            specversion: text("specversion"),
            id: text("id"),
            kind: text("type"),
            source: text("source"),
            subject: text("subject"),
            time: text("time"),
            sequence: text("sequence"),
            orgid: text("orgid"),
            traceparent: event.attributes.get("traceparent").cloned(),
            datacontenttype: "application/json".to_owned(),
            position: event.position,
            data: event.data.clone(),
        }
    }
}

feed_view! {
    /// A page of events; it may be empty although there are more.
    EventList of EventView
}

/// A text that something else must equal.
struct Word(String);

const MAX_WORD: usize = 255;

impl Param for Word {
    fn schema() -> MetaSchema {
        let (min_length, max_length) = (Some(1), Some(MAX_WORD));
        MetaSchema { min_length, max_length, ..MetaSchema::new("string") }
    }
    fn read(name: &str, text: &str) -> Result<Self, Refused> {
        if text.is_empty() || text.len() > MAX_WORD || text.chars().any(char::is_control) {
            let text = format!("{name} must be 1 to {MAX_WORD} bytes without control characters");
            return Err(Refused::invalid(name, text));
        }
        Ok(Self(text.to_owned()))
    }
}

/// The beginning of event types.
struct KindStart(Kinds);

impl Param for KindStart {
    fn schema() -> MetaSchema {
        MetaSchema { min_length: Some(1), max_length: Some(200), ..MetaSchema::new("string") }
    }
    fn read(name: &str, text: &str) -> Result<Self, Refused> {
        let refused = |why| Refused::invalid(name, format!("{name}: {why}"));
        text.parse().map(Self).map_err(refused)
    }
}

type At = Query<Option<Wire<DateTime<Utc>>>>;

fn filter(
    (actor, action, object): (Option<Word>, Option<Word>, Option<Word>),
    (from, until): (At, At),
) -> AuditFilter {
    let micros = |at: At| at.0.map(|at| at.0.timestamp_micros());
    AuditFilter {
        actor: actor.map(|word| word.0),
        action: action.map(|word| word.0),
        object: object.map(|word| word.0),
        from: micros(from),
        until: micros(until),
    }
}

async fn entries(
    app: &App,
    chain: impl Into<Chain>,
    filter: &AuditFilter,
    limit: Limit<50>,
    cursor: Option<Position>,
) -> Result<Json<AuditEntryList>, ApiError> {
    let after = cursor.map_or(0, |cursor| cursor.0);
    let found = audit::list(app.db.read(), chain, filter, after, limit.0).await?;
    let next = found.items.last().map_or(after, |last| last.seq);
    let views = found.items.iter().map(EntryView::from).collect();
    Ok(Json(AuditEntryList::new(views, found.has_more, next)))
}

/// The routes of feeds.
#[derive(Debug)]
pub struct Feeds;

#[OpenApi(prefix_path = "/admin/v1", tag = "Tag::Feeds")]
impl Feeds {
    /// List what was done in and to an organization, oldest first.
    #[oai(
        path = "/organizations/:organizationId/audit-entries",
        method = "get",
        operation_id = "listAuditEntries"
    )]
    #[expect(clippy::too_many_arguments, reason = "one for each filter")]
    async fn organization(
        &self,
        caller: Admin,
        #[oai(name = "organizationId")] id: Path<Wire<OrganizationId>>,
        /// Only what this key, admin key, `operator` or `platform` did.
        actor: Query<Option<Word>>,
        /// Only this action, such as `sandbox.kill`.
        action: Query<Option<Word>>,
        /// Only what was done to the thing with this id.
        object: Query<Option<Word>>,
        /// From this instant on.
        from: At,
        /// Before this instant.
        until: At,
        limit: Query<Limit<50>>,
        cursor: Query<Option<Position>>,
    ) -> Result<Json<AuditEntryList>, ApiError> {
        let org = organizations::get(caller.app(), id.0.0).await?.id;
        let filter = filter((actor.0, action.0, object.0), (from, until));
        entries(caller.app(), org, &filter, limit.0, cursor.0).await
    }

    /// List what was done to no organization, such as to operators' keys, and what operators were
    /// refused, oldest first.
    #[oai(path = "/audit-entries", method = "get", operation_id = "listInstallationAuditEntries")]
    #[expect(clippy::too_many_arguments, reason = "one for each filter")]
    async fn installation(
        &self,
        caller: Admin,
        /// Only what this admin key or `operator` did.
        actor: Query<Option<Word>>,
        /// Only this action, such as `admin_key.create`.
        action: Query<Option<Word>>,
        /// Only what was done to the thing with this id.
        object: Query<Option<Word>>,
        /// From this instant on.
        from: At,
        /// Before this instant.
        until: At,
        limit: Query<Limit<50>>,
        cursor: Query<Option<Position>>,
    ) -> Result<Json<AuditEntryList>, ApiError> {
        let filter = filter((actor.0, action.0, object.0), (from, until));
        entries(caller.app(), Chain::Installation, &filter, limit.0, cursor.0).await
    }

    /// List events, published or not, oldest first.
    ///
    /// Nothing that is wanted ever appears up to a `nextCursor` that was returned. Events that the
    /// broker has confirmed are gone after the retention time.
    #[oai(path = "/events", method = "get", operation_id = "listEvents")]
    async fn events(
        &self,
        caller: Admin,
        /// Only those of one organization.
        #[oai(name = "organizationId")]
        org: Query<Option<Wire<OrganizationId>>>,
        /// Only these types: their first words, such as `crownest.sandbox`, with `*` for any one word.
        #[oai(name = "type")]
        kinds: Query<Option<KindStart>>,
        /// Only those that were written at this instant or later.
        since: At,
        limit: Query<Limit<50>>,
        cursor: Query<Option<Position>>,
    ) -> Result<Json<EventList>, ApiError> {
        let wanted = Wanted {
            org: org.0.map(|org| org.0),
            kinds: kinds.0.map(|kinds| kinds.0),
            since: since.0.map(|since| since.0),
        };
        let after = cursor.0.map_or(0, |cursor| cursor.0);
        let page = feed::page(&caller.app().db, &wanted, after, limit.0.0).await?;
        let views = page.events.iter().map(EventView::from).collect();
        Ok(Json(EventList::new(views, page.has_more, page.next)))
    }
}
