//! The content of a template version: named by its digest, so that it is the same on every host.

use std::{fmt, str::FromStr};

const DIGITS: usize = 64;

/// The SHA-256 of an image, as its 64 digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageDigest(String);

impl ImageDigest {
    /// The digest of these bytes, which are a SHA-256 already.
    #[must_use]
    pub fn from_bytes(bytes: [u8; DIGITS / 2]) -> Self {
        Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// All its digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As many digits as tell images apart for people.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl fmt::Display for ImageDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ImageDigest {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let is_one = text.len() == DIGITS && text.bytes().all(is_digit);
        is_one.then(|| Self(text.to_owned())).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_written_in_one_way() {
        let text = "00ff".repeat(16);
        let digest: ImageDigest = text.parse().unwrap();
        let bytes: Vec<u8> = [0, 0xFF].repeat(16);
        assert_eq!(digest, ImageDigest::from_bytes(bytes.try_into().unwrap()));
        assert_eq!((digest.to_string(), digest.short()), (text.clone(), "00ff00ff00ff"));
        for wrong in ["", &text[1..], &format!("{text}0"), &text.to_uppercase(), &"é0".repeat(21)]
        {
            assert_eq!(wrong.parse::<ImageDigest>(), Err(()), "{wrong}");
        }
    }
}
