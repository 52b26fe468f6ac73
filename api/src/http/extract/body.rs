//! JSON bodies: bounded, read after the caller is known, refused by field in our own words. Replaces
//! poem's `Json`, which has no limit and names no field.

use std::time::Duration;

use poem::{Request, RequestBody, http::header};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaMediaType, MetaRequest, MetaSchema, MetaSchemaRef, Registry},
    types::Type,
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use domain::{Code, Refused};

use super::drain;
use crate::http::{
    error::{ApiError, body_error},
    responses::JSON,
};

/// A body is there within this, or its sender is not worth waiting for.
const DEADLINE: Duration = Duration::from_secs(30);
/// Bytes of a body where nothing else is said: a command and its environment at their limits, each
/// byte escaped as `\u00xx`, fit.
const MAX_BYTES: usize = 2 << 20;

/// A JSON object that reads as a `T`. No body at all reads as `{}`.
#[derive(Debug)]
pub struct JsonBody<T> {
    /// The typed content.
    pub value: T,
    /// The same as sent, for the idempotency fingerprint.
    pub json: Value,
}

impl<'a, T: Type + DeserializeOwned> ApiExtractor<'a> for JsonBody<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        let content = MetaMediaType { content_type: JSON, schema: T::schema_ref() };
        let required = !Schemas::of::<T>().root().required.is_empty();
        Some(MetaRequest { description: None, content: vec![content], required })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let bytes = read(request, body).await?;
        check_content_type(request.content_type(), &bytes)?;
        let (value, json) = parse(&bytes).map_err(ApiError::from)?;
        Ok(Self { value, json })
    }
}

/// A [`JsonBody`] that holds nothing but what `T` has: what the server would not understand is not
/// meant the way it would be understood.
#[derive(Debug)]
pub struct StrictBody<T> {
    /// The typed content.
    pub value: T,
    /// The same as sent, for the idempotency fingerprint.
    pub json: Value,
}

impl<'a, T: Type + DeserializeOwned> ApiExtractor<'a> for StrictBody<T> {
    const TYPES: &'static [ApiExtractorType] = JsonBody::<T>::TYPES;
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        JsonBody::<T>::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        JsonBody::<T>::request_meta()
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let JsonBody { value, json } = JsonBody::<T>::from_request(request, body, options).await?;
        Schemas::of::<T>().refuse_unknown(&json).map_err(ApiError::from)?;
        Ok(Self { value, json })
    }
}

async fn read(request: &Request, body: &mut RequestBody) -> Result<Vec<u8>, ApiError> {
    let too_large =
        || ApiError::new(Code::PayloadTooLarge, "the body is larger than this route takes");
    let announced = request.headers().get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|n_bytes| n_bytes > MAX_BYTES) {
        drain(body).await;
        return Err(too_large());
    }
    let body = body.take().map_err(|_| ApiError::not_found())?;
    match tokio::time::timeout(DEADLINE, body.into_bytes_limit(MAX_BYTES)).await {
        Ok(Ok(bytes)) => Ok(bytes.into()),
        Ok(Err(error)) => Err(body_error(&error)),
        Err(_) => Err(Refused::new(Code::InvalidRequest, "the body did not arrive in time").into()),
    }
}

/// JSON is assumed where nothing is said, and nothing is asked of a body that is not there.
fn check_content_type(given: Option<&str>, body: &[u8]) -> Result<(), ApiError> {
    let essence = given.and_then(|text| text.split(';').next()).map(str::trim);
    let is_json = essence.is_none_or(|essence| {
        let essence = essence.to_ascii_lowercase();
        let subtype = essence.strip_prefix("application/");
        subtype.is_some_and(|subtype| subtype == "json" || subtype.ends_with("+json"))
    });
    if is_json || body.is_empty() {
        return Ok(());
    }
    Err(ApiError::new(Code::UnsupportedMediaType, "the content type must be application/json"))
}

fn parse<T: Type + DeserializeOwned>(bytes: &[u8]) -> Result<(T, Value), Refused> {
    let json = if bytes.is_empty() {
        Value::Object(serde_json::Map::new())
    } else {
        serde_json::from_slice(bytes).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            let text = format!("the body is not valid JSON (line {line}, column {column})");
            Refused::invalid("body", text)
        })?
    };
    if !json.is_object() {
        return Err(Refused::invalid("body", "the body must be a JSON object"));
    }
    match serde_path_to_error::deserialize(&json) {
        Ok(value) => Ok((value, json)),
        Err(error) => Err(Schemas::of::<T>().explain(&json, error.path())),
    }
}

/// The schemas that a body is described by, to say of a wrong value what it must be.
struct Schemas {
    registry: Registry,
    root: MetaSchemaRef,
}

impl Schemas {
    fn of<T: Type>() -> Self {
        let mut registry = Registry::new();
        T::register(&mut registry);
        Self { registry, root: T::schema_ref() }
    }

    fn get<'s>(&'s self, schema: &'s MetaSchemaRef) -> &'s MetaSchema {
        match schema {
            MetaSchemaRef::Inline(schema) => schema,
            MetaSchemaRef::Reference(name) => &self.registry.schemas[name],
        }
    }

    fn root(&self) -> &MetaSchema {
        self.get(&self.root)
    }

    fn explain(&self, body: &Value, path: &Path) -> Refused {
        let missing = |name: &&&str| body.get(name).is_none_or(Value::is_null);
        if let Some(name) = self.root().required.iter().find(missing) {
            return Refused::invalid(*name, format!("{name} is required"));
        }
        let field = path.to_string();
        let text = match self.at(path) {
            Some(schema) => format!("{field} must be {}", wanted(schema)),
            None => format!("{field} has a wrong value"),
        };
        Refused::invalid(field, text)
    }

    /// Refuses the first member that no schema knows.
    fn refuse_unknown(&self, body: &Value) -> Result<(), Refused> {
        let mut open = vec![(String::new(), self.root(), body)];
        while let Some((path, schema, value)) = open.pop() {
            match value {
                Value::Object(members) => {
                    for (name, value) in members {
                        let field =
                            if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                        let property = schema.properties.iter().find(|(known, _)| known == name);
                        let known = property.map(|(_, known)| known);
                        let known = known.or(schema.additional_properties.as_deref());
                        let Some(known) = known else {
                            let text = format!("{field} is no field of this request");
                            return Err(Refused::invalid(field, text));
                        };
                        open.push((field, self.get(known), value));
                    }
                }
                Value::Array(items) => {
                    let Some(known) = schema.items.as_deref() else { continue };
                    let numbered = items.iter().enumerate();
                    open.extend(
                        numbered.map(|(n, item)| (format!("{path}[{n}]"), self.get(known), item)),
                    );
                }
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        Ok(())
    }

    fn at(&self, path: &Path) -> Option<&MetaSchema> {
        path.iter().try_fold(self.root(), |schema, segment| {
            let next = match segment {
                Segment::Map { key } => {
                    let property = schema.properties.iter().find(|(name, _)| name == key);
                    property.map(|(_, schema)| schema).or(schema.additional_properties.as_deref())
                }
                Segment::Seq { .. } => schema.items.as_deref(),
                Segment::Enum { .. } | Segment::Unknown => None,
            };
            next.map(|next| self.get(next))
        })
    }
}

/// What a value must be, from its schema, to go on after "... must be".
fn wanted(schema: &MetaSchema) -> String {
    if !schema.enum_items.is_empty() {
        let words: Vec<_> = schema.enum_items.iter().filter_map(Value::as_str).collect();
        return format!("one of {}", words.join(", "));
    }
    match (schema.ty, schema.minimum, schema.maximum) {
        ("integer", Some(min), Some(max)) => format!("an integer from {min} to {max}"),
        ("integer", Some(min), None) => format!("an integer of at least {min}"),
        ("integer", _, _) => "an integer".to_owned(),
        ("boolean", _, _) => "true or false".to_owned(),
        ("array", _, _) => "a list".to_owned(),
        ("object", _, _) => "an object".to_owned(),
        ("string", _, _) => match &schema.pattern {
            Some(pattern) => format!("a string of the form {pattern}"),
            None => "a string".to_owned(),
        },
        _ => "of another type".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use domain::{command::CancelMode, id::ProjectId};
    use poem_openapi::Object;
    use serde::Deserialize;

    use super::*;
    use crate::http::wire::Wire;

    #[derive(Debug, Object, Deserialize)]
    #[oai(rename_all = "camelCase")]
    #[serde(rename_all = "camelCase")]
    struct Item {
        path: String,
    }

    #[derive(Debug, Object, Deserialize)]
    #[oai(rename_all = "camelCase")]
    #[serde(rename_all = "camelCase")]
    struct Body {
        name: String,
        #[oai(validator(minimum(value = "1")))]
        ttl_ms: Option<u64>,
        force: Option<bool>,
        env: Option<BTreeMap<String, String>>,
        items: Option<Vec<Item>>,
        project_id: Option<Wire<ProjectId>>,
        mode: Option<Wire<CancelMode>>,
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, field, text) in [
            ("", "name", "name is required"),
            ("{}", "name", "name is required"),
            (r#"{"name":null}"#, "name", "name is required"),
            (r#"{"name":1}"#, "name", "name must be a string"),
            ("{\"name\":", "body", "the body is not valid JSON (line 1, column 8)"),
            ("\u{feff}{}", "body", "the body is not valid JSON (line 1, column 1)"),
            (r#"{"name":"\ud800"}"#, "body", "the body is not valid JSON (line 1, column 16)"),
            ("[]", "body", "the body must be a JSON object"),
            ("null", "body", "the body must be a JSON object"),
            (r#"{"name":"","ttlMs":-1}"#, "ttlMs", "ttlMs must be an integer of at least 1"),
            (r#"{"name":"","ttlMs":"1"}"#, "ttlMs", "ttlMs must be an integer of at least 1"),
            (r#"{"name":"","ttlMs":1e3}"#, "ttlMs", "ttlMs must be an integer of at least 1"),
            (r#"{"name":"","ttlMs":1.0}"#, "ttlMs", "ttlMs must be an integer of at least 1"),
            (r#"{"name":"","ttlMs":1e99}"#, "ttlMs", "ttlMs must be an integer of at least 1"),
            (r#"{"name":"","force":"yes"}"#, "force", "force must be true or false"),
            (r#"{"name":"","env":[]}"#, "env", "env must be an object"),
            (r#"{"name":"","env":{"A":1}}"#, "env.A", "env.A must be a string"),
            (r#"{"name":"","items":{}}"#, "items", "items must be a list"),
            (
                r#"{"name":"","items":[{"path":1}]}"#,
                "items[0].path",
                "items[0].path must be a string",
            ),
            (
                r#"{"name":"","projectId":"prj_1"}"#,
                "projectId",
                "projectId must be a string of the form ^prj_[0-9a-f]{32}$",
            ),
            (r#"{"name":"","mode":"soft"}"#, "mode", "mode must be one of graceful, force"),
        ] {
            let refused = parse::<Body>(body.as_bytes()).unwrap_err();
            assert_eq!(refused.code, Code::InvalidRequest, "{body}");
            assert_eq!(
                (refused.field.as_deref(), &*refused.message),
                (Some(field), text),
                "{body}"
            );
        }
        let deep = "[".repeat(1000);
        assert!(parse::<Body>(deep.as_bytes()).is_err(), "nested too deeply");
    }

    #[test]
    fn null_is_absent_and_unknown_members_are_ignored() {
        let body = br#"{"name":"a","ttlMs":null,"env":null,"_private":[1],"name2":null}"#;
        let (body, json) = parse::<Body>(body).unwrap();
        assert_eq!((body.ttl_ms, body.env), (None, None));
        assert_eq!(json["_private"][0], 1);
    }

    #[test]
    fn a_strict_body_refuses_what_it_does_not_know_by_name() {
        for (body, field) in [
            (r#"{"name":"a","ttlMs":null,"env":{"ANY":"x"},"items":[{"path":"p"}]}"#, None),
            (r#"{"name":"a","Name":"b"}"#, Some("Name")),
            (r#"{"name":"a","_private":null}"#, Some("_private")),
            (r#"{"name":"a","items":[{"path":"p"},{"path":"q","x":1}]}"#, Some("items[1].x")),
        ] {
            let (_, json) = parse::<Body>(body.as_bytes()).unwrap();
            let refused = Schemas::of::<Body>().refuse_unknown(&json).err();
            assert_eq!(refused.and_then(|refused| refused.field).as_deref(), field, "{body}");
        }
    }

    #[test]
    fn content_types() {
        for (given, body, accepted) in [
            (None, "", true),
            (None, "{}", true),
            (Some("application/json"), "{}", true),
            (Some("Application/JSON; charset=utf-8"), "{}", true),
            (Some("application/merge-patch+json"), "{}", true),
            (Some("text/plain"), "", true),
            (Some("text/plain"), "{}", false),
            (Some("application/x-www-form-urlencoded"), "a=b", false),
            (Some("application/jsonp"), "{}", false),
            (Some("text/json+json"), "{}", false),
        ] {
            let result = check_content_type(given, body.as_bytes());
            assert_eq!(result.is_ok(), accepted, "{given:?} {body:?}");
        }
    }
}
