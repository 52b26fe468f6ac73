//! A message as a consumer gets it, and what it must be for an event of the database.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, SecondsFormat};
use domain::id::{EventId, OrganizationId};
use lapin::{
    BasicProperties,
    message::Delivery,
    types::{AMQPValue, ShortString},
};
use migrations::rows::EventRow;
use serde_json::{Value, json};
use store::Db;

use crate::tables;

/// A message.
#[derive(Debug, Clone)]
pub struct Message {
    pub exchange: String,
    pub routing_key: String,
    pub properties: BasicProperties,
    pub body: Vec<u8>,
}

impl From<Delivery> for Message {
    fn from(delivery: Delivery) -> Self {
        Self {
            exchange: delivery.exchange.as_str().to_owned(),
            routing_key: delivery.routing_key.as_str().to_owned(),
            properties: delivery.properties,
            body: delivery.data,
        }
    }
}

impl Message {
    /// The id that consumers drop repeats by.
    #[must_use]
    pub fn id(&self) -> String {
        self.properties.message_id().as_ref().map_or_else(String::new, ToString::to_string)
    }

    /// The event's type.
    #[must_use]
    pub fn kind(&self) -> String {
        self.header("type")
    }

    #[must_use]
    pub fn subject(&self) -> String {
        self.header("subject")
    }

    #[must_use]
    pub fn sequence(&self) -> i64 {
        self.header("sequence").parse().unwrap()
    }

    #[must_use]
    pub fn data(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// A CloudEvents attribute.
    #[must_use]
    pub fn header(&self, name: &str) -> String {
        let headers = self.headers();
        headers[&format!("cloudEvents:{name}")].as_str().unwrap().to_owned()
    }

    /// Every header but the broker's own, which must all be texts.
    #[must_use]
    pub fn headers(&self) -> Value {
        let mut texts = serde_json::Map::new();
        for (name, value) in self.properties.headers().as_ref().unwrap().inner() {
            if name.as_str().starts_with("x-") {
                continue;
            }
            let AMQPValue::LongString(text) = value else { panic!("{name} is no text") };
            texts.insert(name.as_str().to_owned(), text.to_string().into());
        }
        Value::Object(texts)
    }

    /// The message as `asyncapi.yaml` describes it: its headers and its payload.
    #[must_use]
    pub fn described(&self) -> (Value, Value) {
        (self.headers(), self.data())
    }

    /// Compares the message with the event that it should be, word by word.
    #[track_caller]
    pub fn must_be(&self, event: &EventRow, exchange: &str) {
        let (id, org) = (id_of(event), OrganizationId::from_uuid(event.org_id).to_string());
        let at = DateTime::from_timestamp_micros(event.occurred_at).unwrap();
        let mut headers = json!({
            "cloudEvents:specversion": "1.0",
            "cloudEvents:id": id,
            "cloudEvents:type": event.kind,
            "cloudEvents:source": format!("urn:crownest:{org}"),
            "cloudEvents:subject": event.subject,
            "cloudEvents:time": at.to_rfc3339_opts(SecondsFormat::Micros, true),
            "cloudEvents:sequence": event.sequence.to_string(),
            "cloudEvents:orgid": org,
        });
        if let Some(trace) = &event.trace_parent {
            headers["cloudEvents:traceparent"] = trace.as_str().into();
        }
        assert_eq!(self.headers(), headers);
        assert_eq!(self.exchange, exchange);
        assert_eq!(self.routing_key, format!("{}.{org}", event.kind));
        assert_eq!(String::from_utf8_lossy(&self.body), event.data);
        let text = |text: &str| Some(ShortString::try_new(text.to_owned()).unwrap());
        assert_eq!(self.properties.content_type(), &text("application/json"));
        assert_eq!(self.properties.delivery_mode(), &Some(2), "persistent");
        assert_eq!(self.properties.message_id(), &text(&id));
        assert_eq!(self.properties.kind(), &text(&event.kind));
        let seconds = u64::try_from(at.timestamp()).unwrap();
        assert_eq!(self.properties.timestamp(), &Some(seconds));
    }
}

/// An event's id as the wire has it.
#[must_use]
pub fn id_of(event: &EventRow) -> String {
    EventId::from_uuid(event.id).to_string()
}

/// Every event in the database, in the order of positions, settled or not.
pub async fn events(db: &Db) -> Vec<EventRow> {
    tables::rows(db, "select * from outbox_events order by position").await
}

/// What a consumer that drops repeats must find: each message an event of the database, the first of
/// each in the order of its subject without a gap. Returns the ids that came.
#[must_use]
#[track_caller]
pub fn in_order(messages: &[Message], events: &[EventRow], exchange: &str) -> BTreeSet<String> {
    let known: BTreeMap<_, _> = events.iter().map(|event| (id_of(event), event)).collect();
    let (mut seen, mut last) = (BTreeSet::new(), BTreeMap::<String, i64>::new());
    for message in messages {
        let id = message.id();
        let event = known.get(&id).unwrap_or_else(|| panic!("no event is {id}"));
        message.must_be(event, exchange);
        if seen.insert(id) {
            let before = last.insert(message.subject(), message.sequence()).unwrap_or(0);
            let n = message.sequence();
            assert_eq!(n, before + 1, "the order of {}", message.subject());
        }
    }
    seen
}
