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
            members.values_mut().for_each(modernize);
        }
        Value::Array(items) => items.iter_mut().for_each(modernize),
        Value::Number(number) => whole(number),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
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
