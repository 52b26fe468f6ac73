//! The texts and numbers that more than one noun puts on the wire: ids, instants, closed sets of words,
//! exact decimals. One generic [`Wire`] carries them, so no type of ours implements poem's traits twice.

use std::borrow::Cow;

use chrono::{DateTime, SecondsFormat, Utc};
use poem_openapi::{
    registry::MetaSchema,
    types::{ParseError, ParseFromJSON, ParseFromParameter, ParseResult, ToJSON},
};
use rust_decimal::{Decimal, prelude::ToPrimitive};
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

use billing::{
    credit::GrantKind,
    ledger::{Account, Kind},
    period::Period,
    pricing::Rounding,
};
use domain::{
    admin::Role,
    command::{self, CancelMode, OutputStream, TerminationSignal},
    id::{Id, Named},
    limits::Plan,
    organization::MemberRole,
    preview::AuthMode,
    sandbox::{self, EndReason},
    scope::{Preset, Scope},
};
use store::usage::Metric;

use crate::app::admin::usage::Bucket;

/// A value with exactly one text form.
pub trait Text: Sized + Send + Sync {
    /// What the document says of the text.
    fn schema() -> MetaSchema;
    /// Reads the one form; `None` for any other text.
    fn read(text: &str) -> Option<Self>;
    /// Prints the one form.
    fn print(&self) -> String;
    /// What the text must be, to go on after "... must be".
    fn wanted() -> String;
}

/// A [`Text`] on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wire<T>(pub T);

/// Implements poem's `Type` for something that is no object: it has an inline schema and no parts.
macro_rules! inline_type {
    ([$($bounds:tt)*] $type:ty, $name:literal, $schema:expr) => {
        impl<$($bounds)*> poem_openapi::types::Type for $type {
            const IS_REQUIRED: bool = true;
            type RawValueType = Self;
            type RawElementValueType = Self;
            fn name() -> std::borrow::Cow<'static, str> {
                std::borrow::Cow::Borrowed($name)
            }
            fn schema_ref() -> poem_openapi::registry::MetaSchemaRef {
                poem_openapi::registry::MetaSchemaRef::Inline(Box::new($schema))
            }
            fn as_raw_value(&self) -> Option<&Self> {
                Some(self)
            }
            fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
                Box::new(std::iter::once(self))
            }
        }
    };
}
pub(super) use inline_type;

inline_type!([T: Text] Wire<T>, "text", T::schema());

impl<T: Text> ToJSON for Wire<T> {
    fn to_json(&self) -> Option<Value> {
        Some(Value::String(self.0.print()))
    }
}
impl<T: Text> ParseFromJSON for Wire<T> {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        let text = value.as_ref().and_then(Value::as_str).unwrap_or_default();
        Self::parse_from_parameter(text)
    }
}
impl<T: Text> ParseFromParameter for Wire<T> {
    fn parse_from_parameter(text: &str) -> ParseResult<Self> {
        T::read(text).map(Self).ok_or_else(|| ParseError::custom(T::wanted()))
    }
}
impl<'de, T: Text> Deserialize<'de> for Wire<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        T::read(&text).map(Self).ok_or_else(|| de::Error::custom(T::wanted()))
    }
}

impl<T: Named> Text for Id<T> {
    fn schema() -> MetaSchema {
        let pattern = format!("^{}_[0-9a-f]{{32}}$", T::PREFIX);
        MetaSchema { pattern: Some(pattern), ..MetaSchema::new("string") }
    }
    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
    fn print(&self) -> String {
        self.to_string()
    }
    fn wanted() -> String {
        format!("an id of the form {}_<32 hex digits>", T::PREFIX)
    }
}

/// ISO 8601, UTC, milliseconds, `Z`: the clients parse nothing else reliably (contract, section 1).
impl Text for DateTime<Utc> {
    fn schema() -> MetaSchema {
        MetaSchema::new_with_format("string", "date-time")
    }
    fn read(text: &str) -> Option<Self> {
        DateTime::parse_from_rfc3339(text).ok().map(|instant| instant.to_utc())
    }
    fn print(&self) -> String {
        self.to_rfc3339_opts(SecondsFormat::Millis, true)
    }
    fn wanted() -> String {
        "an instant such as 2026-06-11T13:00:00.000Z".to_owned()
    }
}

/// As [`DateTime`], but with all the digits that it has: for what is told apart by its instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Precise(pub DateTime<Utc>);

impl Text for Precise {
    fn schema() -> MetaSchema {
        DateTime::<Utc>::schema()
    }
    fn read(text: &str) -> Option<Self> {
        DateTime::<Utc>::read(text).map(Self)
    }
    fn print(&self) -> String {
        self.0.to_rfc3339_opts(SecondsFormat::AutoSi, true)
    }
    fn wanted() -> String {
        DateTime::<Utc>::wanted()
    }
}

/// An exact amount or quantity: every digit, and no zeros at the end.
impl Text for Decimal {
    fn schema() -> MetaSchema {
        let pattern = Some(r"^-?[0-9]+(\.[0-9]+)?$".to_owned());
        MetaSchema { pattern, max_length: Some(MAX_DECIMAL), ..MetaSchema::new("string") }
    }
    fn read(text: &str) -> Option<Self> {
        // The parser would also take a plus sign, underscores, and a point without digits beside it.
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let fine = digits(whole.strip_prefix('-').unwrap_or(whole)) && digits(fraction);
        (fine && text.len() <= MAX_DECIMAL).then(|| Self::from_str_exact(text).ok()).flatten()
    }
    fn print(&self) -> String {
        self.normalize().to_string()
    }
    fn wanted() -> String {
        "a decimal number in a string, such as 12.5".to_owned()
    }
}

/// Characters of an exact decimal.
const MAX_DECIMAL: usize = 40;

/// A calendar month.
impl Text for Period {
    fn schema() -> MetaSchema {
        let pattern = Some("^[0-9]{4}-[0-9]{2}$".to_owned());
        MetaSchema { pattern, ..MetaSchema::new("string") }
    }
    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
    fn print(&self) -> String {
        self.to_string()
    }
    fn wanted() -> String {
        "a month such as 2031-02".to_owned()
    }
}

/// A closed set of words: the domain's enums as they are spelled there.
macro_rules! words {
    ($($type:ty: $all:expr;)*) => {$(
        impl Text for $type {
            fn schema() -> MetaSchema {
                let words = $all.iter().map(|word| Value::from(word.as_str()));
                MetaSchema { enum_items: words.collect(), ..MetaSchema::new("string") }
            }
            fn read(text: &str) -> Option<Self> {
                $all.iter().copied().find(|word| word.as_str() == text)
            }
            fn print(&self) -> String {
                self.as_str().to_owned()
            }
            fn wanted() -> String {
                let words: Vec<_> = $all.iter().map(|word| word.as_str()).collect();
                format!("one of {}", words.join(", "))
            }
        }
    )*};
}

words! {
    sandbox::Status: sandbox::Status::ALL;
    EndReason: EndReason::ALL;
    command::Status: command::Status::ALL;
    CancelMode: [CancelMode::Graceful, CancelMode::Force];
    OutputStream: [OutputStream::Stdout, OutputStream::Stderr];
    TerminationSignal: [TerminationSignal::Sigterm, TerminationSignal::Sigkill];
    AuthMode: AuthMode::ALL;
    Scope: Scope::ALL;
    Role: Role::ALL;
    MemberRole: MemberRole::ALL;
    Preset: Preset::ALL;
    Plan: Plan::ALL;
    Metric: Metric::ALL;
    GrantKind: GrantKind::ALL;
    Account: Account::ALL;
    Kind: Kind::ALL;
    Rounding: Rounding::ALL;
    Bucket: Bucket::ALL;
}

/// An exact decimal as a JSON number.
///
/// JSON numbers are doubles to every client, so the text printed is the shortest that names the double
/// nearest to the exact value: all digits as they are up to 15 significant ones, and never a number
/// that reads differently from the exact text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WireNumber(pub Decimal);

inline_type!([] WireNumber, "number", MetaSchema::new("number"));

impl ToJSON for WireNumber {
    fn to_json(&self) -> Option<Value> {
        if let Some(whole) = self.0.is_integer().then(|| self.0.to_i64()).flatten() {
            return Some(Value::from(whole));
        }
        self.0.normalize().to_string().parse::<f64>().ok().map(Value::from)
    }
}
impl ParseFromJSON for WireNumber {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        let text = value.filter(Value::is_number).unwrap_or_default().to_string();
        text.parse().map(Self).map_err(|_| ParseError::custom("not a number"))
    }
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use domain::id::SandboxId;

    use super::*;

    #[test]
    fn exact_decimals_are_read_in_one_form() {
        for (text, wanted) in [
            ("0", Some("0")),
            ("12.500", Some("12.5")),
            ("-0.000000001", Some("-0.000000001")),
            ("1e3", None),
            ("+1", None),
            ("1_000", None),
            (".5", None),
            ("5.", None),
            ("", None),
            ("-", None),
            ("1.2.3", None),
            ("0.00000000000000000000000000001", None), // more places than it could keep
        ] {
            let read = Decimal::read(text).map(|number| number.print());
            assert_eq!(read.as_deref(), wanted, "{text:?}");
        }
    }

    #[test]
    fn instants_have_milliseconds_and_a_z() {
        for (micros, wanted) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_781_182_800_000_000, "2026-06-11T13:00:00.000Z"),
            (1_781_182_800_123_999, "2026-06-11T13:00:00.123Z"), // cut, not rounded
        ] {
            let instant = DateTime::from_timestamp_micros(micros).unwrap();
            assert_eq!(instant.print(), wanted);
            assert_eq!(DateTime::<Utc>::read(wanted).unwrap().print(), wanted);
        }
    }

    #[test]
    fn decimals_keep_their_digits() {
        for (exact, wanted) in [
            ("0", "0"),
            ("42.000", "42"),
            ("0.0333333", "0.0333333"),
            ("0.1", "0.1"),
            ("123456789012.345", "123456789012.345"),
            ("9007199254740993", "9007199254740993"), // no double, but an integer
            ("-0.042", "-0.042"),
        ] {
            let number = WireNumber(Decimal::from_str(exact).unwrap());
            assert_eq!(number.to_json().unwrap().to_string(), wanted, "{exact}");
        }
    }

    #[test]
    fn the_document_has_the_form_of_an_id() {
        let schema = SandboxId::schema();
        assert_eq!(schema.pattern.as_deref(), Some("^sbx_[0-9a-f]{32}$"));
        assert!(Wire::<SandboxId>::parse_from_parameter("sbx_1").is_err());
    }
}
