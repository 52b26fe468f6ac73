//! The OpenAPI documents: poem-openapi's 3.0 descriptions, turned into 3.1 and completed with what its
//! macros cannot say. `openapi.yaml` and `openapi.admin.yaml` at the root are these, without a server.

use std::sync::LazyLock;

use poem::http::StatusCode;
use poem_openapi::OpenApiService;
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Map, Value, json};

use domain::Code;

use super::{
    admin,
    extract::HUMAN_HEADERS,
    operations::{self, Needs, Operation},
};

mod schema;

/// A document, made once: nothing in it depends on a request.
pub struct Document(LazyLock<Value>);

/// The public API's, `openapi.yaml`.
pub static PUBLIC: Document = Document(LazyLock::new(|| {
    let service = OpenApiService::new(super::apis(), "CrowNest API", VERSION);
    let description = "Isolated live sandboxes over HTTP. Errors are always the envelope of the \
        `ErrorEnvelope` schema; clients branch on its `code`.";
    build(&service.spec(), "CrowNest API", description)
}));

/// The admin API's, `openapi.admin.yaml`.
pub static ADMIN: Document = Document(LazyLock::new(|| {
    let service = OpenApiService::new(admin::apis(), "CrowNest Admin API", VERSION);
    let description = "The operator's side of CrowNest. Errors, pages and idempotency are those of the \
        public API; unknown fields and parameters are refused, and amounts are decimal strings.";
    let mut document = build(&service.spec(), "CrowNest Admin API", description);
    schema::close_requests(&mut document);
    document
}));

const VERSION: &str = "1.0.0";

impl Document {
    /// The document of a server that is reached under `base_url`.
    #[must_use]
    pub fn served_at(&self, base_url: &str) -> Ordered {
        let mut document = self.0.clone();
        document["servers"] = json!([{ "url": base_url }]);
        Ordered(document)
    }

    /// The document as it is kept in the repository, without a server.
    ///
    /// # Panics
    /// Never: a JSON value can be printed as YAML.
    #[must_use]
    pub fn yaml(&self) -> String {
        serde_yaml_ng::to_string(&Ordered(self.0.clone())).expect("a JSON value is YAML")
    }
}

/// The page that shows the public document, with everything it needs inside, so that it works offline.
#[must_use]
pub fn docs_page() -> String {
    let service = OpenApiService::new(super::apis(), "CrowNest API", VERSION);
    // The page is poem's, but its description is not the finished one. A server of "/" is whatever
    // the page came from.
    service.swagger_ui_html().replacen(&service.spec(), &PUBLIC.served_at("/").to_string(), 1)
}

fn build(spec: &str, title: &str, description: &str) -> Value {
    let mut document: Value =
        serde_json::from_str(spec).expect("poem prints its description as JSON");
    schema::modernize(&mut document);
    document["openapi"] = json!("3.1.0");
    document["info"] = json!({
        "title": title,
        "version": VERSION,
        "description": description,
        "license": { "name": "Apache License 2.0", "identifier": "Apache-2.0" },
    });
    document["servers"] = json!([{ "url": "/" }]);
    document["components"]["responses"] = error_responses();
    document["components"]["headers"] = headers();
    let mut parameters = Map::new();
    let paths = document["paths"].as_object_mut().expect("a document has paths");
    for operation in paths.values_mut().filter_map(Value::as_object_mut).flat_map(Map::values_mut) {
        complete(operation, &mut parameters);
    }
    document["components"]["parameters"] = Value::Object(parameters);
    schema::drop_unused(&mut document);
    document
}

/// Adds the scope, the security and the answers' headers, and shortens what is said many times.
fn complete(operation: &mut Value, shared: &mut Map<String, Value>) {
    let id = operation["operationId"].as_str().unwrap_or_default();
    let row = operations::by_id(id).expect("every operation has a row");
    match row.needs {
        Needs::Nothing => operation["x-crownest-required-scope"] = Value::Null,
        Needs::Scope(scope) => operation["x-crownest-required-scope"] = json!(scope.as_str()),
        Needs::Role(roles) => {
            let roles: Vec<_> = roles.iter().map(|role| role.as_str()).collect();
            operation["x-crownest-roles"] = json!(roles);
        }
    }
    if operation.get("security").is_none() {
        operation["security"] = json!([]);
    }
    operation["security"].as_array_mut().into_iter().flatten().for_each(join_human_headers);
    let responses = operation["responses"].as_object_mut().expect("an operation has answers");
    responses.retain(|status, _| is_success(status));
    for answer in responses.values_mut() {
        answer["headers"] = success_headers(row);
        if let Some(media) = answer.pointer_mut("/content/text~1event-stream") {
            schema::describe_events(media);
        }
    }
    for status in row.errors {
        let reference = format!("#/components/responses/{}", error_name(*status));
        responses.insert(status.to_string(), json!({ "$ref": reference }));
    }
    if let Some(parameters) = operation.get_mut("parameters").and_then(Value::as_array_mut) {
        parameters.iter_mut().for_each(|parameter| share(parameter, shared));
    }
}

/// poem can only say that one header is enough; a person needs all of theirs.
fn join_human_headers(requirement: &mut Value) {
    if requirement.get(HUMAN_HEADERS[0].0).is_some() {
        *requirement = HUMAN_HEADERS
            .iter()
            .map(|(scheme, _)| ((*scheme).to_owned(), json!([])))
            .collect::<Map<_, _>>()
            .into();
    }
}

fn is_success(status: &str) -> bool {
    status.starts_with('2')
}

fn success_headers(row: &Operation) -> Value {
    let mut names = vec!["X-Request-Id"];
    if row.errors.contains(&429) {
        names.extend(["X-RateLimit-Limit", "X-RateLimit-Remaining"]);
    }
    if row.successor.is_some() {
        names.extend(["Deprecation", "Sunset", "Link"]);
    }
    let reference = |name| json!({ "$ref": format!("#/components/headers/{name}") });
    names.into_iter().map(|name| (name.to_owned(), reference(name))).collect::<Map<_, _>>().into()
}

/// Parameters that many operations have are told once, as long as they are exactly the same.
fn share(parameter: &mut Value, shared: &mut Map<String, Value>) {
    let component = match parameter["name"].as_str() {
        Some("limit") => "limit",
        Some("cursor") => "cursor",
        Some("Idempotency-Key") => "idempotencyKey",
        _ => return,
    };
    parameter["description"] = json!(match component {
        "limit" => "How many items at most.",
        "cursor" => "The `nextCursor` of the page before.",
        _ => "Makes a retry safe: the same key and request are carried out once, within 24 hours.",
    });
    let first = shared.entry(component).or_insert_with(|| parameter.clone());
    if first == parameter {
        *parameter = json!({ "$ref": format!("#/components/parameters/{component}") });
    }
}

fn headers() -> Value {
    let header = |description, schema| json!({ "description": description, "schema": schema });
    let (text, number) = (json!({ "type": "string" }), json!({ "type": "integer", "minimum": 0 }));
    json!({
        "X-Request-Id": header("The request, as in the logs and in errors.", text.clone()),
        "X-RateLimit-Limit": header("Requests per minute and key; absent when not limited.", number.clone()),
        "X-RateLimit-Remaining": header("Requests left at this instant.", number.clone()),
        "Retry-After": header("Seconds after which to try again.", number),
        "Deprecation": header("Since when the route is deprecated.", text.clone()),
        "Sunset": header("When the route may go.", text.clone()),
        "Link": header("The route's successor.", text),
    })
}

fn error_name(status: u16) -> String {
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    reason.unwrap_or("Error").replace(' ', "")
}

fn error_responses() -> Value {
    let responses = super::error::STATUSES.map(|status| {
        let codes = Code::ALL.iter().filter(|code| code.status() == status);
        let lines = codes.map(|code| format!("- `{}`: {}", code.as_str(), code.meaning()));
        let mut headers =
            json!({ "X-Request-Id": { "$ref": "#/components/headers/X-Request-Id" } });
        if matches!(status, 409 | 429 | 503) {
            headers["Retry-After"] = json!({ "$ref": "#/components/headers/Retry-After" });
        }
        let response = json!({
            "description": lines.collect::<Vec<_>>().join("\n"),
            "headers": headers,
            "content": { "application/json": {
                "schema": { "$ref": "#/components/schemas/ErrorEnvelope" },
            }},
        });
        (error_name(status), response)
    });
    responses.into_iter().collect::<Map<_, _>>().into()
}

/// A JSON value that prints in one order, whatever order the maps of this build have: members that
/// people look for first come first, the rest follow by name.
#[derive(Debug)]
pub struct Ordered(Value);

const FIRST: &[&str] = &[
    "openapi",
    "info",
    "servers",
    "tags",
    "paths",
    "components",
    "operationId",
    "summary",
    "name",
    "in",
    "title",
    "version",
    "type",
    "format",
    "description",
    "deprecated",
    "security",
    "x-crownest-required-scope",
    "x-crownest-roles",
    "parameters",
    "requestBody",
    "responses",
    "required",
    "schema",
];

impl Serialize for Ordered {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        InOrder(&self.0, FIRST).serialize(serializer)
    }
}

impl std::fmt::Display for Ordered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| std::fmt::Error)?)
    }
}

struct InOrder<'v>(&'v Value, &'static [&'static str]);

impl Serialize for InOrder<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(members) => {
                let rank = |name: &str| self.1.iter().position(|first| *first == name);
                let mut members: Vec<_> = members.iter().collect();
                members.sort_by_key(|(name, _)| (rank(name).unwrap_or(self.1.len()), *name));
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for (name, value) in members {
                    // The names of properties are ours and mean nothing to the order.
                    let first = if name == "properties" { &[][..] } else { FIRST };
                    map.serialize_entry(name, &InOrder(value, first))?;
                }
                map.end()
            }
            Value::Array(items) => {
                serializer.collect_seq(items.iter().map(|item| InOrder(item, FIRST)))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                self.0.serialize(serializer)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operations(document: &Value) -> impl Iterator<Item = (&String, &String, &Value)> {
        let paths = document["paths"].as_object().unwrap();
        paths.iter().flat_map(|(path, item)| {
            item.as_object().unwrap().iter().map(move |(method, op)| (path, method, op))
        })
    }

    #[test]
    fn every_operation_says_what_the_contract_asks_for() {
        for (document, prefix, mark) in [
            (&PUBLIC, "/v1/", "x-crownest-required-scope"),
            (&ADMIN, "/admin/v1/", "x-crownest-roles"),
        ] {
            for (path, method, operation) in operations(&document.0) {
                let at = format!("{method} {path}");
                assert!(operation["operationId"].is_string(), "{at}: id");
                assert_eq!(operation["tags"].as_array().map(Vec::len), Some(1), "{at}: tag");
                assert!(operation["summary"].as_str().unwrap().ends_with('.'), "{at}: summary");
                let asks_for_a_key = !operation["security"].as_array().unwrap().is_empty();
                let documents = path.ends_with("/openapi.json");
                let is_public = !path.starts_with(prefix) || documents;
                assert_eq!(
                    asks_for_a_key,
                    !is_public && !path.ends_with("/logs/download"),
                    "{at}: security"
                );
                assert_eq!(operation.get(mark).is_some(), prefix == "/v1/" || !is_public, "{at}");
                assert_eq!(operation["responses"].get("401").is_some(), !is_public, "{at}");
                let takes_json = operation.get("requestBody").is_some();
                assert_eq!(operation["responses"].get("415").is_some(), takes_json, "{at}: 415");
            }
        }
    }

    #[test]
    fn what_the_admin_api_takes_is_closed() {
        let bodies = operations(&ADMIN.0).filter_map(|(_, _, operation)| {
            operation.pointer("/requestBody/content/application~1json/schema/$ref")
        });
        let mut n = 0;
        for reference in bodies {
            n += 1;
            let schema = ADMIN.0.pointer(reference.as_str().unwrap().trim_start_matches('#'));
            assert_eq!(schema.unwrap()["additionalProperties"], json!(false), "{reference}");
        }
        assert!(n > 1);
    }

    #[test]
    fn the_document_is_3_1_and_has_nothing_of_3_0() {
        let text = PUBLIC.yaml();
        assert!(
            text.starts_with("openapi: 3.1.0\ninfo:\n  title: CrowNest API\n  version: 1.0.0\n")
        );
        assert!(!text.contains("nullable"));
        assert!(!text.contains("param0"));
        let reset_at = &PUBLIC.0["components"]["schemas"]["UsageQuota"]["properties"]["resetAt"];
        assert_eq!(reset_at["type"], json!(["string", "null"]));
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn walk(value: &Value, check: &mut impl FnMut(&str)) {
            match value {
                Value::Object(members) => {
                    if let Some(Value::String(reference)) = members.get("$ref") {
                        check(reference);
                    }
                    members.values().for_each(|value| walk(value, check));
                }
                Value::Array(items) => items.iter().for_each(|value| walk(value, check)),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        for document in [&PUBLIC.0, &ADMIN.0] {
            let mut n = 0;
            walk(document, &mut |reference| {
                n += 1;
                let pointer = reference.trim_start_matches('#');
                assert!(document.pointer(pointer).is_some(), "{reference}");
            });
            assert!(n > 50);
        }
    }

    #[test]
    fn the_page_holds_the_finished_document() {
        let page = docs_page();
        assert!(page.contains(r#""openapi":"3.1.0""#));
        assert!(!page.contains(r#""openapi": "3.0.0""#));
        for outside in ["src=\"http", "href=\"http"] {
            assert!(!page.contains(outside), "the page loads nothing");
        }
    }
}
