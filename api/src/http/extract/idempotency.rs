//! The `Idempotency-Key` header, and the fingerprint by which a retry is told from another request.

use poem::{Request, RequestBody};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaParamIn, MetaSchema, MetaSchemaRef},
};
use serde_json::Value;
use sha2::{Digest, Sha256};

use domain::Refused;

use crate::{app::idempotency::Idempotent, http::error::ApiError};

/// The name of the header.
pub const HEADER: &str = "Idempotency-Key";
const MAX_CHARS: usize = 255;

/// The key of a request, if it has one, with what else makes the request what it is.
#[derive(Debug)]
pub struct IdempotencyKey {
    key: Option<String>,
    method: &'static str,
    path: String,
    query: String,
}

impl<'a> ApiExtractor<'a> for IdempotencyKey {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::Parameter];
    type ParamType = ();
    type ParamRawType = ();

    fn param_in() -> Option<MetaParamIn> {
        Some(MetaParamIn::Header)
    }

    fn param_schema_ref() -> Option<MetaSchemaRef> {
        Some(MetaSchemaRef::Inline(Box::new(MetaSchema {
            min_length: Some(1),
            max_length: Some(MAX_CHARS),
            pattern: Some("^[!-~]([ -~]*[!-~])?$".to_owned()),
            ..MetaSchema::new("string")
        })))
    }

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let uri = request.original_uri();
        Ok(Self {
            key: key(request).map_err(ApiError::from)?,
            method: method(request),
            path: uri.path().to_owned(),
            query: uri.query().unwrap_or_default().to_owned(),
        })
    }
}

fn key(request: &Request) -> Result<Option<String>, Refused> {
    let text = "Idempotency-Key must be given once, with 1 to 255 printable ASCII characters";
    let refused = || Refused::invalid(HEADER, text);
    let mut values = request.headers().get_all(HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let key = value.to_str().map_err(|_| refused())?;
    if values.next().is_some() || key.is_empty() || key.len() > MAX_CHARS {
        return Err(refused());
    }
    Ok(Some(key.to_owned()))
}

fn method(request: &Request) -> &'static str {
    let methods = ["POST", "PUT", "DELETE", "PATCH"];
    let known = methods.into_iter().find(|method| *method == request.method().as_str());
    known.unwrap_or("GET")
}

impl IdempotencyKey {
    /// The request with this body, if it has a key.
    #[must_use]
    pub fn of(self, body: &Value) -> Option<Idempotent> {
        let fingerprint = fingerprint([self.method, &self.path, &self.query], body);
        let Self { key, method, path, query: _ } = self;
        key.map(|key| Idempotent { key, method, path, fingerprint })
    }

    /// The request without a body, if it has a key.
    #[must_use]
    pub fn of_no_body(self) -> Option<Idempotent> {
        self.of(&Value::Null)
    }
}

fn fingerprint(parts: [&str; 3], body: &Value) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    update(&mut hash, body);
    hex::encode(hash.finalize())
}

/// Hashes a value so that neither white space nor the order of members matters. Each text is preceded
/// by its length, so that no two values hash the same bytes.
fn update(hash: &mut Sha256, value: &Value) {
    let mut text = |kind: &[u8], text: &str| {
        hash.update(kind);
        hash.update(text.len().to_be_bytes());
        hash.update(text);
    };
    match value {
        Value::Null => text(b"n", ""),
        Value::Bool(is) => text(b"b", if *is { "1" } else { "0" }),
        Value::Number(number) => text(b"#", &number.to_string()),
        Value::String(string) => text(b"s", string),
        Value::Array(items) => {
            text(b"[", &items.len().to_string());
            items.iter().for_each(|item| update(hash, item));
        }
        Value::Object(members) => {
            text(b"{", &members.len().to_string());
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| *name);
            for (name, value) in members {
                update(hash, &Value::String(name.clone()));
                update(hash, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(parts: [&str; 3], body: &str) -> String {
        fingerprint(parts, &serde_json::from_str(body).unwrap())
    }

    #[test]
    fn the_same_request_has_the_same_fingerprint() {
        let route = ["POST", "/v1/sandboxes", ""];
        let wanted = of(route, r#"{"a":{"x":1,"y":[true,null]},"b":"é"}"#);
        for body in [
            r#"{"b":"é","a":{"y":[true,null],"x":1}}"#,
            "{ \"a\": {\"x\":1, \"y\":[ true, null ]},\n \"b\": \"\\u00e9\" }",
        ] {
            assert_eq!(of(route, body), wanted, "{body}");
        }
    }

    #[test]
    fn another_request_has_another() {
        let route = ["POST", "/v1/sandboxes", ""];
        let wanted = of(route, r#"{"a":["1","2"]}"#);
        for (route, body, why) in [
            (["PUT", "/v1/sandboxes", ""], r#"{"a":["1","2"]}"#, "method"),
            (["POST", "/v1/sandbox", "es"], r#"{"a":["1","2"]}"#, "path and query are apart"),
            (route, r#"{"a":["1",2]}"#, "type"),
            (route, r#"{"a":["2","1"]}"#, "order of a list"),
            (route, r#"{"a":["1,2"]}"#, "one item"),
            (route, r#"{"a":["1","2"],"b":null}"#, "another member"),
            (route, "{}", "nothing"),
        ] {
            assert_ne!(of(route, body), wanted, "{why}");
        }
    }

    #[test]
    fn keys() {
        let header = |values: &[&str]| {
            let builder = Request::builder();
            key(&values.iter().fold(builder, |b, v| b.header(HEADER, *v)).finish())
        };
        assert_eq!(header(&[]).unwrap(), None);
        assert_eq!(header(&["a b"]).unwrap().as_deref(), Some("a b"));
        assert!(header(&[&"k".repeat(255)]).is_ok());
        for (values, why) in [
            (vec![""], "empty"),
            (vec!["a", "b"], "twice"),
            (vec!["é"], "not ASCII"),
            (vec![&*"k".repeat(256)], "too long"),
        ] {
            assert!(header(&values).is_err(), "{why}");
        }
    }
}
