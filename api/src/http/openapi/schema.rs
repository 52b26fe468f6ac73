//! From OpenAPI 3.0's schemas to 3.1's, which are JSON Schema, and without what poem says needlessly.

use serde_json::{Value, json};

/// Rewrites every schema and parameter of a document.
pub fn modernize(value: &mut Value) {
    match value {
        Value::Object(members) => {
            if members.get("nullable") == Some(&json!(true))
                && let Some(Value::String(one)) = members.get("type")
            {
                let both = json!([one, "null"]);
                members.insert("type".to_owned(), both);
            }
            members.retain(|name, value| match name.as_str() {
                "nullable" => !value.is_boolean(),
                // These are the defaults.
                "deprecated" => *value != json!(false),
                "explode" => *value != json!(true),
                // poem repeats the component's name here.
                "title" => !value.is_string(),
                _ => true,
            });
            // A reference stands alone in poem's allOf only to carry a description beside it, which
            // 3.1 allows without.
            if let Some(Value::Array(parts)) = members.get("allOf")
                && let [Value::Object(reference), _] = parts.as_slice()
                && reference.contains_key("$ref")
            {
                let reference = reference["$ref"].clone();
                members.remove("allOf");
                members.insert("$ref".to_owned(), reference);
            }
            if let Some(Value::String(text)) = members.get_mut("description") {
                *text = unwrapped(text);
            }
            // Anything may be in such an object; generators read one of which nothing is said as empty.
            if members.get("type") == Some(&json!("object")) && !members.contains_key("properties")
            {
                members.entry("additionalProperties").or_insert(json!(true));
            }
            members.values_mut().for_each(modernize);
        }
        Value::Array(items) => items.iter_mut().for_each(modernize),
        Value::Number(number) => whole(number),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// Says of a stream of server-sent events that it is a text, and in JSON Schema's own words what is in
/// it: poem gives the schema of one event, which generators take for that of the whole body.
pub fn describe_events(media: &mut Value) {
    let event = media["schema"].take();
    media["schema"] = json!({
        "type": "string",
        "contentMediaType": "text/event-stream",
        "contentSchema": { "type": "array", "items": event },
    });
}

/// Doc comments are broken into lines for the width of the source; paragraphs stay.
fn unwrapped(text: &str) -> String {
    text.split("\n\n").map(|part| part.replace('\n', " ")).collect::<Vec<_>>().join("\n\n")
}

/// poem's limits are floats; `1.0` is printed as `1`.
fn whole(number: &mut serde_json::Number) {
    let text = number.to_string();
    if let Some(Ok(integer)) = text.strip_suffix(".0").map(str::parse::<i64>) {
        *number = integer.into();
    }
}

/// Leaves away the answers and headers that nothing in the document refers to, such as those that only
/// the other document's operations have.
pub fn drop_unused(document: &mut Value) {
    // Answers refer to headers, so they go first.
    for kind in ["responses", "headers"] {
        let text = document.to_string();
        let parts = document["components"][kind].as_object_mut();
        let parts = parts.expect("a document has these components");
        parts.retain(|name, _| text.contains(&format!("\"#/components/{kind}/{name}\"")));
    }
}

/// Says of every object that requests are made of that it has no other members.
pub fn close_requests(document: &mut Value) {
    let reference = |value: &Value| {
        let text = value.as_str()?.strip_prefix("#/components/schemas/")?;
        Some(text.to_owned())
    };
    let paths = document["paths"].as_object().into_iter().flatten();
    let operations = paths.filter_map(|(_, path)| path.as_object()).flatten();
    let mut open: Vec<String> = operations
        .filter_map(|(_, operation)| {
            reference(operation.pointer("/requestBody/content/application~1json/schema/$ref")?)
        })
        .collect();
    while let Some(name) = open.pop() {
        let Some(Value::Object(schema)) =
            document.pointer_mut(&format!("/components/schemas/{name}"))
        else {
            continue;
        };
        if schema.contains_key("additionalProperties") || !schema.contains_key("properties") {
            continue;
        }
        schema.insert("additionalProperties".to_owned(), json!(false));
        let mut parts = vec![&schema["properties"]];
        while let Some(part) = parts.pop() {
            open.extend(part.get("$ref").and_then(reference));
            parts.extend(part.as_object().into_iter().flat_map(|members| members.values()));
            parts.extend(part.as_array().into_iter().flatten());
        }
    }
}
