//! How the bytes of a file travel in JSON: as UTF-8 or as base64. Wrong content and wrong names of
//! encodings have one code of their own.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use poem_openapi::{
    registry::MetaSchema,
    types::{ParseFromJSON, ParseResult, ToJSON},
};
use serde_json::Value;

use domain::{Code, Refused};

use crate::http::{extract::Param, wire::inline_type};

/// How the bytes of a file are written as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Utf8,
    Base64,
}

const ENCODINGS: [(&str, Encoding); 2] = [("utf8", Encoding::Utf8), ("base64", Encoding::Base64)];

impl Encoding {
    fn schema() -> MetaSchema {
        let words = ENCODINGS.map(|(word, _)| Value::from(word)).into();
        MetaSchema { enum_items: words, ..MetaSchema::new("string") }
    }

    /// The bytes that a text stands for.
    pub fn decode(self, content: String) -> Result<Bytes, Refused> {
        match self {
            Self::Utf8 => Ok(content.into()),
            Self::Base64 => BASE64_STANDARD.decode(content).map(Bytes::from).map_err(|_| {
                let text = "content must be base64 of the standard alphabet with padding";
                Refused::field(Code::InvalidFileEncoding, "content", text)
            }),
        }
    }

    /// The text that stands for bytes.
    pub fn encode(self, content: Bytes) -> Result<String, Refused> {
        match self {
            Self::Utf8 => String::from_utf8(content.into()).map_err(|_| {
                let text = "the file is not UTF-8; read it with encoding=base64";
                Refused::field(Code::InvalidFileEncoding, "encoding", text)
            }),
            Self::Base64 => Ok(BASE64_STANDARD.encode(content)),
        }
    }
}

impl Param for Encoding {
    const REQUIRED: bool = false;
    fn schema() -> MetaSchema {
        MetaSchema { default: Some("utf8".into()), ..Self::schema() }
    }
    fn read(name: &str, text: &str) -> Result<Self, Refused> {
        let found = ENCODINGS.into_iter().find(|(word, _)| *word == text);
        found.map(|(_, encoding)| encoding).ok_or_else(|| {
            let text = format!("{name} must be utf8 or base64");
            Refused::field(Code::InvalidFileEncoding, name, text)
        })
    }
    fn absent(_: &str) -> Result<Self, Refused> {
        Ok(Self::Utf8)
    }
}

inline_type!([] Encoding, "encoding", Self::schema());

impl ToJSON for Encoding {
    fn to_json(&self) -> Option<Value> {
        ENCODINGS.iter().find(|(_, encoding)| encoding == self).map(|(word, _)| (*word).into())
    }
}
impl ParseFromJSON for Encoding {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        let text = value.as_ref().and_then(Value::as_str).unwrap_or_default();
        Ok(Self::read("encoding", text)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents() {
        let code = |result: Result<Bytes, Refused>| result.map_err(|refused| refused.code);
        let base64 = |text: &str| code(Encoding::Base64.decode(text.to_owned()));
        assert_eq!(base64("AP8="), Ok(Bytes::from_static(&[0, 255])));
        assert_eq!(base64(""), Ok(Bytes::new()));
        for (text, why) in [
            ("AP8", "no padding"),
            ("A_8=", "the other alphabet"),
            ("AP8=\n", "white space"),
            ("AP9=", "bits after the end"),
        ] {
            assert_eq!(base64(text), Err(Code::InvalidFileEncoding), "{why}");
        }
        let bytes = Bytes::from_static(&[0, 255]);
        assert_eq!(Encoding::Base64.encode(bytes.clone()).unwrap(), "AP8=");
        assert_eq!(Encoding::Utf8.encode(bytes).unwrap_err().code, Code::InvalidFileEncoding);
        assert_eq!(
            Encoding::read("encoding", "latin1").unwrap_err().code,
            Code::InvalidFileEncoding
        );
    }
}
