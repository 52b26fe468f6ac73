//! An event as an AMQP message: CloudEvents 1.0 in the binary mode of its AMQP binding. The payload is
//! the body; everything else about the event is in headers.

use chrono::{DateTime, SecondsFormat};
use domain::id::{EventId, OrganizationId};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};
use migrations::rows::EventRow;

const PERSISTENT: u8 = 2;

/// A short string; none above AMQP's 255 bytes.
pub(super) fn short(text: &str) -> Option<ShortString> {
    ShortString::try_new(text.to_owned()).ok()
}

/// The routing key and the properties of an event.
///
/// # Errors
/// When a part of it is longer than AMQP takes.
pub(super) fn of(event: &EventRow) -> Result<(ShortString, BasicProperties), String> {
    let too_long = || format!("event {} does not fit a message", event.id);
    let org = OrganizationId::from_uuid(event.org_id).to_string();
    let id = EventId::from_uuid(event.id).to_string();
    let at = DateTime::from_timestamp_micros(event.occurred_at).ok_or_else(too_long)?;
    let mut headers = FieldTable::default();
    let mut header = |name: &str, value: String| {
        let name = format!("cloudEvents:{name}");
        headers.insert(name.into(), AMQPValue::LongString(value.into()));
    };
    header("specversion", "1.0".to_owned());
    header("id", id.clone());
    header("type", event.kind.clone());
    header("source", format!("urn:crownest:{org}"));
    header("subject", event.subject.clone());
    header("time", at.to_rfc3339_opts(SecondsFormat::Micros, true));
    // The number of the event within its subject, as the extension `sequence` has it.
    header("sequence", event.sequence.to_string());
    header("orgid", org.clone());
    if let Some(trace) = &event.trace_parent {
        header("traceparent", trace.clone());
    }
    let key = short(&format!("{}.{org}", event.kind)).ok_or_else(too_long)?;
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(PERSISTENT)
        .with_message_id(short(&id).ok_or_else(too_long)?)
        .with_type(short(&event.kind).ok_or_else(too_long)?)
        .with_timestamp(u64::try_from(at.timestamp()).unwrap_or(0))
        .with_headers(headers);
    Ok((key, properties))
}
