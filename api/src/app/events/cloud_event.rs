//! An event as CloudEvents 1.0 has it, whatever carries it: attributes, which are texts, and data.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat};
use domain::id::{EventId, OrganizationId};
use migrations::rows::EventRow;
use serde_json::{Map, Value};

use crate::app::{billing::convert::corrupt, error::Result};

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudEvent {
    /// Where it is in the outbox, if it was read there.
    pub position: Option<i64>,
    /// The attributes by name, extensions included.
    pub attributes: BTreeMap<String, String>,
    /// What it says.
    pub data: Value,
}

impl CloudEvent {
    /// The event of a row.
    ///
    /// # Errors
    /// When the row is not as it was written.
    pub fn of(row: &EventRow) -> Result<Self> {
        let broken = |what: &str| corrupt(format!("event {} has {what}", row.id));
        let attributes = attributes(row).ok_or_else(|| broken("no time"))?;
        let data = serde_json::from_str(&row.data).map_err(|_| broken("data that are no JSON"))?;
        let attributes = attributes.map(|(name, value)| (name.to_owned(), value)).collect();
        Ok(Self { position: Some(row.position), attributes, data })
    }

    /// An attribute; empty if it has none of this name.
    #[must_use]
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }

    /// The event in CloudEvents' structured form. One that was read in the outbox has its position as
    /// an extension, `position`: where to go on after it.
    #[must_use]
    pub fn json(&self) -> Value {
        let texts = self.attributes.iter().map(|(name, text)| (name.clone(), text.clone().into()));
        let mut members: Map<String, Value> = texts.collect();
        if let Some(position) = self.position {
            members.insert("position".to_owned(), position.into());
        }
        members.insert("datacontenttype".to_owned(), "application/json".into());
        members.insert("data".to_owned(), self.data.clone());
        Value::Object(members)
    }
}

/// The attributes of a row's event; none if its time is none.
pub(crate) fn attributes(row: &EventRow) -> Option<impl Iterator<Item = (&'static str, String)>> {
    let org = OrganizationId::from_uuid(row.org_id).to_string();
    let at = DateTime::from_timestamp_micros(row.occurred_at)?;
    let always = [
        ("specversion", "1.0".to_owned()),
        ("id", EventId::from_uuid(row.id).to_string()),
        ("type", row.kind.clone()),
        ("source", format!("urn:crownest:{org}")),
        ("subject", row.subject.clone()),
        ("time", at.to_rfc3339_opts(SecondsFormat::Micros, true)),
        // The number of the event within its subject, as the extension `sequence` has it.
        ("sequence", row.sequence.to_string()),
        ("orgid", org),
    ];
    let trace = row.trace_parent.clone().map(|trace| ("traceparent", trace));
    Some(always.into_iter().chain(trace))
}
