//! Query parameters: decoded form-style, each at most once, refused by name. Replaces poem's `Query`,
//! which takes the first of several values and prints its own words.

use std::collections::BTreeMap;

use poem::{FromRequest, Request, RequestBody};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaParamIn, MetaSchema, MetaSchemaRef},
};

use domain::{
    Refused,
    id::{Id, Named},
    metadata,
};
use store::PageRequest;

use crate::http::{
    error::ApiError,
    wire::{Text, Wire},
};

/// A query parameter's value.
pub trait Param: Sized + Send {
    /// Whether a request must have it.
    const REQUIRED: bool = true;

    /// What the document says of it.
    fn schema() -> MetaSchema;

    /// Reads the value of the parameter `name`.
    ///
    /// # Errors
    /// Says what the parameter must be.
    fn read(name: &str, text: &str) -> Result<Self, Refused>;

    /// The value when the parameter is absent.
    ///
    /// # Errors
    /// When it must not be.
    fn absent(name: &str) -> Result<Self, Refused> {
        Err(Refused::invalid(name, format!("{name} is required")))
    }
}

/// A query parameter.
#[derive(Debug)]
pub struct Query<P>(pub P);

impl<'a, P: Param> ApiExtractor<'a> for Query<P> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::Parameter];
    const PARAM_IS_REQUIRED: bool = P::REQUIRED;
    type ParamType = ();
    type ParamRawType = ();

    fn param_in() -> Option<MetaParamIn> {
        Some(MetaParamIn::Query)
    }

    fn param_schema_ref() -> Option<MetaSchemaRef> {
        Some(MetaSchemaRef::Inline(Box::new(P::schema())))
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        Ok(Self(read(&pairs(request), options.name).map_err(ApiError::from)?))
    }
}

fn read<P: Param>(pairs: &[(String, String)], name: &str) -> Result<P, Refused> {
    let mut values = pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value);
    match (values.next(), values.next()) {
        (None, _) => P::absent(name),
        (Some(value), None) => P::read(name, value),
        (Some(_), Some(_)) => Err(Refused::invalid(name, format!("{name} must be given once"))),
    }
}

/// The decoded query string: `+` and `%20` both mean a space.
#[must_use]
pub(super) fn pairs(request: &Request) -> Vec<(String, String)> {
    request.params().unwrap_or_default()
}

impl<P: Param> Param for Option<P> {
    const REQUIRED: bool = false;
    fn schema() -> MetaSchema {
        P::schema()
    }
    fn read(name: &str, text: &str) -> Result<Self, Refused> {
        P::read(name, text).map(Some)
    }
    fn absent(_: &str) -> Result<Self, Refused> {
        Ok(None)
    }
}

impl<T: Text> Param for Wire<T> {
    fn schema() -> MetaSchema {
        T::schema()
    }
    fn read(name: &str, text: &str) -> Result<Self, Refused> {
        let wanted = || Refused::invalid(name, format!("{name} must be {}", T::wanted()));
        T::read(text).map(Wire).ok_or_else(wanted)
    }
}

/// Free text, such as a path; what it must be is the use case's to say.
impl Param for String {
    fn schema() -> MetaSchema {
        MetaSchema { min_length: Some(1), ..MetaSchema::new("string") }
    }
    fn read(_: &str, text: &str) -> Result<Self, Refused> {
        Ok(text.to_owned())
    }
}

/// How many items a page may have.
#[derive(Debug, Clone, Copy)]
pub struct Limit<const DEFAULT: u32>(pub u32);

const MAX_LIMIT: u32 = 500;

impl<const DEFAULT: u32> Param for Limit<DEFAULT> {
    const REQUIRED: bool = false;
    fn schema() -> MetaSchema {
        MetaSchema { default: Some(DEFAULT.into()), ..integer(1, u64::from(MAX_LIMIT)) }
    }
    fn read(name: &str, text: &str) -> Result<Self, Refused> {
        let n = digits(text).and_then(|n| u32::try_from(n).ok());
        n.filter(|n| (1..=MAX_LIMIT).contains(n)).map(Self).ok_or_else(|| {
            Refused::invalid(name, format!("{name} must be an integer from 1 to {MAX_LIMIT}"))
        })
    }
    fn absent(_: &str) -> Result<Self, Refused> {
        Ok(Self(DEFAULT))
    }
}

/// Where a page starts: the last id of the page before it. Opaque to clients, so the document does
/// not tell its form.
pub struct Cursor<T>(pub Id<T>);

impl<T: Named> Param for Cursor<T> {
    fn schema() -> MetaSchema {
        MetaSchema { min_length: Some(1), ..MetaSchema::new("string") }
    }
    fn read(name: &str, text: &str) -> Result<Self, Refused> {
        let wanted = || Refused::invalid(name, format!("{name} must be a page's nextCursor"));
        text.parse().map(Self).map_err(|_| wanted())
    }
}

/// The page that a request asks for.
#[must_use]
pub fn page<T: Named, const DEFAULT: u32>(
    limit: &Query<Limit<DEFAULT>>,
    cursor: Query<Option<Cursor<T>>>,
) -> PageRequest {
    PageRequest { limit: limit.0.0, after: cursor.0.map(|cursor| cursor.0.uuid()) }
}

/// Where a page starts in a list that is ordered by a number. As opaque to clients as a [`Cursor`].
#[derive(Debug, Clone, Copy)]
pub struct Position(pub i64);

impl Param for Position {
    fn schema() -> MetaSchema {
        MetaSchema { min_length: Some(1), ..MetaSchema::new("string") }
    }
    fn read(name: &str, text: &str) -> Result<Self, Refused> {
        let wanted = || Refused::invalid(name, format!("{name} must be a page's nextCursor"));
        let number = digits(text).and_then(|number| i64::try_from(number).ok());
        number.map(Self).ok_or_else(wanted)
    }
}

/// A position in a sequence; what follows it is wanted.
#[derive(Debug, Clone, Copy)]
pub struct AfterSeq(pub u64);

const MAX_SEQ: u64 = i64::MAX.unsigned_abs();

impl Param for AfterSeq {
    const REQUIRED: bool = false;
    fn schema() -> MetaSchema {
        MetaSchema {
            format: Some("int64"),
            default: Some(0.into()),
            minimum: Some(0.0),
            ..MetaSchema::new("integer")
        }
    }
    fn read(name: &str, text: &str) -> Result<Self, Refused> {
        let seq = digits(text).filter(|seq| *seq <= MAX_SEQ);
        let wanted = || Refused::invalid(name, format!("{name} must be an integer of at least 0"));
        seq.map(Self).ok_or_else(wanted)
    }
    fn absent(_: &str) -> Result<Self, Refused> {
        Ok(Self(0))
    }
}

/// Only digits: `parse` alone would also take a plus sign.
fn digits(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// The schema of an integer in a range.
#[must_use]
pub(super) fn integer(min: u32, max: u64) -> MetaSchema {
    #[expect(clippy::cast_precision_loss, reason = "the ranges of the API are far below 2^53")]
    let max = max as f64;
    MetaSchema { minimum: Some(min.into()), maximum: Some(max), ..MetaSchema::new("integer") }
}

/// The `metadata.<key>=<value>` parameters of a list, all of which must match.
#[derive(Debug)]
pub struct MetadataFilter(pub BTreeMap<String, String>);

const MAX_FILTERS: usize = 16;

impl<'a> FromRequest<'a> for MetadataFilter {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> poem::Result<Self> {
        Ok(metadata_filter(&pairs(request)).map(Self).map_err(ApiError::from)?)
    }
}

fn metadata_filter(pairs: &[(String, String)]) -> Result<BTreeMap<String, String>, Refused> {
    let mut filter = BTreeMap::new();
    for (name, value) in pairs {
        let Some(key) = name.strip_prefix("metadata.") else { continue };
        metadata::check_key(key)?;
        if value.contains('\0') {
            return Err(Refused::invalid(name, format!("{name} must not hold NUL")));
        }
        if filter.insert(key.to_owned(), value.clone()).is_some() {
            return Err(Refused::invalid(name, format!("{name} must be given once")));
        }
    }
    if filter.len() > MAX_FILTERS {
        let text = format!("there must be at most {MAX_FILTERS} metadata filters");
        return Err(Refused::invalid("metadata", text));
    }
    Ok(filter)
}

#[cfg(test)]
mod tests {
    use domain::id::{SandboxId, entity};

    use super::*;

    fn query(text: &str) -> Vec<(String, String)> {
        pairs(&Request::builder().uri_str(format!("/x?{text}")).finish())
    }

    fn check<P: Param>(text: &str, wanted: Option<&str>, why: &str) {
        let refused = read::<P>(&query(text), "p").err();
        assert_eq!(refused.as_ref().map(|refused| &*refused.message), wanted, "{why}: {text}");
        assert!(refused.is_none_or(|refused| refused.field.as_deref() == Some("p")), "{why}");
    }

    #[test]
    fn numbers() {
        let limit = Some("p must be an integer from 1 to 500");
        for (text, wanted, why) in [
            ("", None, "absent"),
            ("p=1", None, "the least"),
            ("p=500", None, "the most"),
            ("p=0", limit, "below"),
            ("p=501", limit, "above"),
            ("p=-1", limit, "a sign"),
            ("p=%2B1", limit, "a sign"),
            ("p=1.0", limit, "a fraction"),
            ("p=1e2", limit, "an exponent"),
            ("p=", limit, "empty"),
            ("p=99999999999999999999", limit, "larger than any integer"),
            ("p=1&p=2", Some("p must be given once"), "twice"),
        ] {
            check::<Limit<50>>(text, wanted, why);
        }
        let seq = Some("p must be an integer of at least 0");
        check::<AfterSeq>("p=0", None, "the start");
        check::<AfterSeq>("p=9223372036854775807", None, "the largest that is stored");
        check::<AfterSeq>("p=9223372036854775808", seq, "larger");
        check::<AfterSeq>("p=x", seq, "a word");
    }

    #[test]
    fn cursors_are_ids_of_the_right_kind() {
        let cursor = Some("p must be a page's nextCursor");
        let id = SandboxId::from_uuid(uuid::Uuid::nil());
        check::<Option<Cursor<entity::Sandbox>>>(&format!("p={id}"), None, "a cursor");
        check::<Option<Cursor<entity::Project>>>(&format!("p={id}"), cursor, "of another list");
        check::<Option<Cursor<entity::Sandbox>>>("p=garbage", cursor, "garbage");
        check::<Option<Cursor<entity::Sandbox>>>("q=garbage", None, "absent");
    }

    #[test]
    fn spaces_are_written_in_two_ways() {
        assert_eq!(read::<String>(&query("p=a+b"), "p").unwrap(), "a b");
        assert_eq!(read::<String>(&query("p=a%20b%2Fc"), "p").unwrap(), "a b/c");
        assert_eq!(read::<String>(&query(""), "p").unwrap_err().message, "p is required");
    }

    #[test]
    fn metadata_filters() {
        let filter = metadata_filter(&query("metadata.agent.id=codex%2F1&status=ready")).unwrap();
        assert_eq!(filter, BTreeMap::from([("agent.id".to_owned(), "codex/1".to_owned())]));
        for (text, why) in [
            ("metadata.=x", "no key"),
            ("metadata.a%20b=x", "a key with a space"),
            ("metadata.a=1&metadata.a=2", "twice"),
            ("metadata.a=%00", "NUL"),
        ] {
            assert!(metadata_filter(&query(text)).is_err(), "{why}");
        }
    }
}
