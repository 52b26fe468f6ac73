//! An event as an AMQP message: CloudEvents 1.0 in the binary mode of its AMQP binding. The payload is
//! the body; everything else about the event is in headers.

use chrono::DateTime;
use domain::id::{EventId, OrganizationId};
use lapin::{
    BasicProperties,
    types::{AMQPValue, ShortString},
};
use migrations::rows::EventRow;

use crate::{
    amqp::{none, short},
    app::events::attributes,
};

const PERSISTENT: u8 = 2;

/// The routing key and the properties of an event.
///
/// # Errors
/// When a part of it is longer than AMQP takes.
pub(super) fn of(event: &EventRow) -> Result<(ShortString, BasicProperties), String> {
    let too_long = || format!("event {} does not fit a message", event.id);
    let (org, id) = (OrganizationId::from_uuid(event.org_id), EventId::from_uuid(event.id));
    let at = DateTime::from_timestamp_micros(event.occurred_at).ok_or_else(too_long)?;
    let mut headers = none();
    for (name, value) in attributes(event).ok_or_else(too_long)? {
        let name = format!("cloudEvents:{name}");
        headers.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    let key = short(&format!("{}.{org}", event.kind)).ok_or_else(too_long)?;
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(PERSISTENT)
        .with_message_id(short(&id.to_string()).ok_or_else(too_long)?)
        .with_type(short(&event.kind).ok_or_else(too_long)?)
        .with_timestamp(u64::try_from(at.timestamp()).unwrap_or(0))
        .with_headers(headers);
    Ok((key, properties))
}
