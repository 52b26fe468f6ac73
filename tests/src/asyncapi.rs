//! `asyncapi.yaml` as a consumer reads it: which messages there are, and whether one is as described.

use std::{collections::BTreeMap, path::Path};

use jsonschema::Validator;
use serde_json::{Value, json};

use crate::message::Message;

/// The document.
#[derive(Debug)]
pub struct AsyncApi {
    pub document: Value,
}

impl AsyncApi {
    /// Reads it. What it leaves open for later versions is closed here: a field that it does not
    /// describe is an error.
    #[must_use]
    pub fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../asyncapi.yaml");
        let text = std::fs::read_to_string(path).unwrap();
        let mut document: Value = serde_yaml_ng::from_str(&text).unwrap();
        for schema in document["components"]["schemas"].as_object_mut().unwrap().values_mut() {
            if schema["type"] == "object" {
                schema["additionalProperties"] = json!(false);
            }
        }
        Self { document }
    }

    /// The names and types of the messages.
    #[must_use]
    pub fn messages(&self) -> BTreeMap<String, String> {
        let messages = self.document["components"]["messages"].as_object().unwrap();
        let kind = |message: &Value| message["name"].as_str().unwrap().to_owned();
        messages.iter().map(|(name, message)| (name.clone(), kind(message))).collect()
    }

    /// What is wrong with messages of any type, by the document.
    #[must_use]
    pub fn wrong(&self, messages: &[Message]) -> Vec<String> {
        let headers = self.validator("Headers");
        let names = self.messages().into_iter();
        let payloads: BTreeMap<_, _> =
            names.map(|(name, kind)| (kind, self.validator(&name))).collect();
        let mut wrong = Vec::new();
        for message in messages {
            let (kind, (found, data)) = (message.kind(), message.described());
            let Some(payload) = payloads.get(&kind) else {
                wrong.push(format!("{kind} is not described"));
                continue;
            };
            for (validator, value) in [(&headers, &found), (payload, &data)] {
                let errors = validator.iter_errors(value);
                wrong.extend(errors.map(|error| format!("{kind}: {error} in {value}")));
            }
        }
        wrong
    }

    fn validator(&self, name: &str) -> Validator {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$ref": format!("#/components/schemas/{name}"),
            "components": self.document["components"],
        });
        jsonschema::options().should_validate_formats(true).build(&schema).unwrap()
    }
}
