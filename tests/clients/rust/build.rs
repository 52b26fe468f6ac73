//! Generates the client from `openapi.yaml`. progenitor reads OpenAPI 3.0 and the document is 3.1, so what
//! differs between the two is put back first, by rule and not by name; anything that 3.0 cannot say stops
//! the build.

use std::{env, error::Error, fs, path::Path};

use progenitor_impl::{GenerationSettings, Generator, InterfaceStyle};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let file = env::var("CROWNEST_OPENAPI").unwrap_or("../../../openapi.yaml".to_owned());
    println!("cargo::rerun-if-env-changed=CROWNEST_OPENAPI");
    println!("cargo::rerun-if-changed={file}");
    let mut document: Value = serde_yaml_ng::from_str(&fs::read_to_string(&file)?)?;
    older(&mut document);
    document["openapi"] = json!("3.0.3");
    if let Some(license) = document["info"]["license"].as_object_mut() {
        license.remove("identifier");
    }
    let mut settings = GenerationSettings::default();
    settings.with_interface(InterfaceStyle::Builder);
    let code = Generator::new(&settings).generate_tokens(&serde_json::from_value(document)?)?;
    let code = prettyplease::unparse(&syn::parse2(code)?);
    fs::write(Path::new(&env::var("OUT_DIR")?).join("client.rs"), code)?;
    Ok(())
}

/// Puts the schemas of 3.1 into the words of 3.0.
fn older(value: &mut Value) {
    match value {
        Value::Object(members) => {
            // Beside a reference 3.0 ignores everything, and its readers expect nothing.
            if let Some(reference) = members.get("$ref").filter(|it| it.is_string()).cloned() {
                *value = json!({ "$ref": reference });
                return;
            }
            if let Some(Value::Array(kinds)) = members.get("type") {
                let not_null: Vec<_> = kinds.iter().filter(|kind| **kind != "null").collect();
                let [kind] = not_null[..] else { panic!("3.0 has no type {kinds:?}") };
                let (kind, nullable) = (kind.clone(), kinds.len() == 2);
                members.insert("type".to_owned(), kind);
                members.insert("nullable".to_owned(), json!(nullable));
            }
            // What is in a text is no concern of 3.0.
            members
                .retain(|name, _| !matches!(name.as_str(), "contentMediaType" | "contentSchema"));
            members.values_mut().for_each(older);
        }
        Value::Array(items) => items.iter_mut().for_each(older),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
