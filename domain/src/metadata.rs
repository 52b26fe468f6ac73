//! Metadata: the labels of a sandbox, with the rules of contract section 9.2. Never used to decide
//! what somebody may do.

use std::collections::BTreeMap;

use crate::code::{Code, Refused};

const MAX_KEYS: usize = 16;
const MAX_KEY_CHARS: usize = 64;
const MAX_VALUE_CHARS: usize = 512;
const MAX_TOTAL_BYTES: usize = 4096;

/// A checked flat map of labels.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata(BTreeMap<String, String>);

impl Metadata {
    /// Checks a map of labels.
    ///
    /// # Errors
    /// One of the four metadata codes, with the field.
    pub fn parse(map: BTreeMap<String, String>) -> Result<Self, Refused> {
        if map.len() > MAX_KEYS {
            return Err(Refused::field(
                Code::MetadataTooManyKeys,
                "metadata",
                format!("metadata must have at most {MAX_KEYS} keys"),
            ));
        }
        for (key, value) in &map {
            check_key(key)?;
            if value.chars().count() > MAX_VALUE_CHARS || value.contains('\0') {
                return Err(Refused::field(
                    Code::InvalidMetadataValue,
                    format!("metadata.{key}"),
                    format!(
                        "a metadata value must have at most {MAX_VALUE_CHARS} characters and no NUL"
                    ),
                ));
            }
        }
        let total: usize = map.iter().map(|(key, value)| key.len() + value.len()).sum();
        if total > MAX_TOTAL_BYTES {
            return Err(Refused::field(
                Code::MetadataTooLarge,
                "metadata",
                format!("metadata must have at most {MAX_TOTAL_BYTES} bytes in all"),
            ));
        }
        Ok(Self(map))
    }

    /// The labels.
    #[must_use]
    pub const fn as_map(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

/// Checks one key, also that of a list filter.
///
/// # Errors
/// `invalid_metadata_key`.
pub fn check_key(key: &str) -> Result<(), Refused> {
    let alphabet = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
    if key.is_empty() || key.len() > MAX_KEY_CHARS || !key.chars().all(alphabet) {
        return Err(Refused::field(
            Code::InvalidMetadataKey,
            "metadata",
            format!(
                "a metadata key must be 1 to {MAX_KEY_CHARS} characters of a-z A-Z 0-9 _ - . :"
            ),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        let one = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let many = |n: usize, len: usize| {
            (0..n).map(|i| (format!("k{i}"), "v".repeat(len))).collect::<BTreeMap<_, _>>()
        };
        for (map, wanted, why) in [
            (one("agent.id:x_y-z", "codex/1 ü"), None, "the alphabet is for keys only"),
            (one("", "v"), Some(Code::InvalidMetadataKey), "empty key"),
            (one("a b", "v"), Some(Code::InvalidMetadataKey), "space"),
            (one(&"k".repeat(64), "v"), None, "the longest key"),
            (one(&"k".repeat(65), "v"), Some(Code::InvalidMetadataKey), "longer"),
            (one("k", &"ü".repeat(512)), None, "the longest value, counted in characters"),
            (one("k", &"v".repeat(513)), Some(Code::InvalidMetadataValue), "longer"),
            (many(16, 1), None, "the most keys"),
            (many(17, 1), Some(Code::MetadataTooManyKeys), "more"),
            (many(9, 500), Some(Code::MetadataTooLarge), "in all"),
        ] {
            let got = Metadata::parse(map).err().map(|refused| refused.code);
            assert_eq!(got, wanted, "{why}");
        }
    }
}
