//! Holds `asyncapi.yaml` to the code: every payload is described, nothing else is, and every reference
//! leads somewhere. That real messages are as described is told in the stories.

use std::collections::BTreeMap;

use api::{app::events::Payload, config::Config};
use serde_json::Value;
use tests::asyncapi::AsyncApi;

#[test]
fn every_payload_is_described_and_nothing_else() {
    let payloads: BTreeMap<_, _> =
        Payload::ALL.iter().map(|(name, kind)| ((*name).to_owned(), (*kind).to_owned())).collect();
    let document = AsyncApi::read();
    assert_eq!(document.messages(), payloads);
    let document = document.document;
    for channel in ["events", "usage"] {
        let messages = document["channels"][channel]["messages"].as_object();
        let named: Vec<_> = messages.expect("a channel has messages").keys().collect();
        assert_eq!(named, payloads.keys().collect::<Vec<_>>(), "{channel}");
    }
    let mut kinds: Vec<_> = payloads.values().map(String::as_str).collect();
    kinds.sort_unstable();
    let headers = &document["components"]["schemas"]["Headers"]["properties"];
    for listed in [
        &document["channels"]["events"]["parameters"]["type"]["enum"],
        &headers["cloudEvents:type"]["enum"],
    ] {
        let listed = listed.as_array().expect("a list of types");
        let mut listed: Vec<_> = listed.iter().filter_map(Value::as_str).collect();
        listed.sort_unstable();
        assert_eq!(listed, kinds);
    }
}

#[test]
fn the_names_at_the_broker_are_the_defaults() {
    let (document, config) = (AsyncApi::read().document, Config::default());
    let binding = |channel: &str| document["channels"][channel]["bindings"]["amqp"].clone();
    assert_eq!(binding("events")["exchange"]["name"], config.amqp_exchange);
    assert_eq!(binding("usage")["queue"]["name"], config.amqp_queue);
}

#[test]
fn every_reference_leads_somewhere() {
    let document = AsyncApi::read().document;
    let mut open = vec![&document];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(members) => {
                if let Some(Value::String(to)) = members.get("$ref") {
                    let there = to.strip_prefix('#').and_then(|path| document.pointer(path));
                    assert!(there.is_some(), "{to} leads nowhere");
                }
                open.extend(members.values());
            }
            Value::Array(items) => open.extend(items),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}
