//! A document's operations as the matrix walks them.

use std::{collections::BTreeMap, path::Path};

use reqwest::Method;
use tests::{Answer, Value, team::text};

/// An operation of the document.
pub struct Operation {
    pub method: Method,
    pub path: String,
    statuses: Vec<u16>,
    pub scope: Option<String>,
    pub roles: Vec<String>,
}

impl Operation {
    /// An answer has a status that the document names.
    pub fn documents(&self, answer: &Answer) {
        let documented = &self.statuses;
        assert!(documented.contains(&answer.status), "documented are {documented:?}: {answer}");
    }
}

/// The operations of a document at the root, by id.
pub fn operations(document: &str) -> BTreeMap<String, Operation> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(document);
    let document: Value = serde_yaml_ng::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let mut operations = BTreeMap::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let Some(id) = operation["operationId"].as_str() else { continue };
            let statuses = operation["responses"].as_object().unwrap().keys();
            let roles = operation["x-crownest-roles"].as_array().into_iter().flatten();
            let operation = Operation {
                method: method.to_uppercase().parse().unwrap(),
                path: path.clone(),
                statuses: statuses.map(|status| status.parse().unwrap()).collect(),
                scope: operation["x-crownest-required-scope"].as_str().map(str::to_owned),
                roles: roles.map(text).collect(),
            };
            let before = operations.insert(id.to_owned(), operation);
            assert!(before.is_none(), "{id} is there twice");
        }
    }
    operations
}
