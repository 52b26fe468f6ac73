//! Keys: their format, their parts and who they are for, tenants' and operators' alike. Hashing and
//! random bytes are elsewhere.

use std::fmt;

use chrono::{DateTime, Utc};

use crate::{
    id::{ApiKeyId, OrganizationId, ProjectId, UserId},
    scope::ScopeSet,
};

/// Whose credential a key is. Nothing that one kind opens is opened by the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// A tenant's, for the public API.
    Api,
    /// An operator's, for the admin API.
    Admin,
}

impl KeyKind {
    /// What every key of the kind begins with.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Api => "cn_live_",
            Self::Admin => "cn_admin_",
        }
    }

    /// What a key is shown and searched by: the prefix and the look-up part.
    #[must_use]
    pub fn display(self, lookup: &str) -> String {
        format!("{}{lookup}", self.prefix())
    }
}

/// Characters of the public look-up part.
pub const LOOKUP_LEN: usize = 10;
/// Characters of the secret part, its checksum not counted.
pub const SECRET_LEN: usize = 32;
const CHECKSUM_LEN: usize = 6;
/// The alphabet of the random parts; their entropy is `log2(62)` bits a character.
pub const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The whole key as its owner holds it: its kind's prefix + look-up part + `_` + secret + checksum
/// (design, section 4). Shown once, never stored, never printed by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct KeySecret {
    kind: KeyKind,
    text: String,
}

/// A text that no key of ours has: wrong form or wrong checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a key")]
pub struct InvalidKey;

impl KeySecret {
    /// Builds a key from its random parts, which must be `LOOKUP_LEN` and `SECRET_LEN` characters
    /// of [`ALPHABET`].
    ///
    /// # Errors
    /// [`InvalidKey`] when a part has another length or alphabet.
    pub fn from_parts(kind: KeyKind, lookup: &str, secret: &str) -> Result<Self, InvalidKey> {
        let body = format!("{}{lookup}_{secret}", kind.prefix());
        let checksum = checksum(&body);
        Self::parse(kind, &(body + &checksum))
    }

    /// Reads a key of a kind and checks its checksum, so that junk and typos cost no look-up.
    ///
    /// # Errors
    /// [`InvalidKey`] for anything else, keys of the other kind included.
    pub fn parse(kind: KeyKind, text: &str) -> Result<Self, InvalidKey> {
        let rest = text.strip_prefix(kind.prefix()).ok_or(InvalidKey)?;
        let (lookup, tail) = rest.split_once('_').ok_or(InvalidKey)?;
        let alphabet = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if lookup.len() != LOOKUP_LEN
            || tail.len() != SECRET_LEN + CHECKSUM_LEN
            || !alphabet(lookup)
            || !alphabet(tail)
        {
            return Err(InvalidKey);
        }
        let (body, given) = text.split_at(text.len() - CHECKSUM_LEN);
        if checksum(body) != given {
            return Err(InvalidKey);
        }
        Ok(Self { kind, text: text.to_owned() })
    }

    /// The public part that the row is found by.
    #[must_use]
    pub fn lookup(&self) -> &str {
        let start = self.kind.prefix().len();
        &self.text[start..start + LOOKUP_LEN]
    }

    /// The last four characters, stored to help people tell keys apart.
    #[must_use]
    pub fn last_four(&self) -> &str {
        &self.text[self.text.len() - 4..]
    }

    /// The whole text. For hashing, comparing and showing it once.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for KeySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// CRC-32 in base 62, six characters, most significant first.
fn checksum(body: &str) -> String {
    let mut rest = crc32fast::hash(body.as_bytes());
    let mut digits = [b'0'; CHECKSUM_LEN];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[(rest % 62) as usize];
        rest /= 62;
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}

/// An API key as everybody but its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// The organization it belongs to.
    pub org_id: OrganizationId,
    /// What its maker called it.
    pub name: String,
    /// The public part, unique among all keys.
    pub lookup: String,
    /// The last four characters.
    pub last_four: String,
    /// What it may do.
    pub scopes: ScopeSet,
    /// The projects it is restricted to; `None` = all of the organization's.
    pub project_ids: Option<Vec<ProjectId>>,
    /// Who made it.
    pub created_by: UserId,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was revoked; a revoked key opens nothing.
    pub revoked_at: Option<DateTime<Utc>>,
    /// From this instant on it opens nothing; `None` = it has no end.
    pub expires_at: Option<DateTime<Utc>>,
    /// The key that took its place when it was rotated.
    pub replaced_by: Option<ApiKeyId>,
    /// When it was last seen, to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
}

/// The longest time for which a rotated key and its successor both work.
pub const MAX_OVERLAP_MS: u64 = 7 * 24 * 3_600_000;

impl ApiKey {
    /// Whether it opens anything at an instant.
    #[must_use]
    pub fn is_good(&self, now: DateTime<Utc>) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }

    /// The 18 characters by which it is shown and searched (contract, section 3).
    #[must_use]
    pub fn prefix(&self) -> String {
        KeyKind::Api.display(&self.lookup)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(kind: KeyKind) -> KeySecret {
        KeySecret::from_parts(kind, "abcdefghij", &"x".repeat(32)).unwrap()
    }

    #[test]
    fn a_key_is_read_as_it_is_built_and_one_wrong_character_is_noticed() {
        for (kind, prefix) in
            [(KeyKind::Api, "cn_live_abcdefghij"), (KeyKind::Admin, "cn_admin_abcdefghij")]
        {
            let key = key(kind);
            assert_eq!(key.lookup(), "abcdefghij");
            assert_eq!(kind.display(key.lookup()), prefix);
            assert!(key.expose().starts_with(prefix));
            assert_eq!(KeySecret::parse(kind, key.expose()), Ok(key.clone()));
            for at in 0..key.expose().len() {
                let mut bytes = key.expose().as_bytes().to_vec();
                bytes[at] = if bytes[at] == b'q' { b'r' } else { b'q' };
                let typo = String::from_utf8(bytes).unwrap();
                assert_eq!(KeySecret::parse(kind, &typo), Err(InvalidKey), "typo at {at}");
            }
        }
    }

    #[test]
    fn a_key_of_one_kind_is_none_of_the_other() {
        for (kind, other) in [(KeyKind::Api, KeyKind::Admin), (KeyKind::Admin, KeyKind::Api)] {
            assert_eq!(KeySecret::parse(other, key(kind).expose()), Err(InvalidKey), "{kind:?}");
        }
    }

    #[test]
    fn junk_is_refused() {
        for (junk, why) in [
            ("", "empty"),
            ("cn_live_wrong", "too short"),
            ("cn_live_abcdefghij_", "no secret"),
            ("cn_agent_abcdefghij_x", "another kind"),
            ("cn_live_abcdefghé_ééééééééééééééééééé", "not ASCII"),
        ] {
            assert_eq!(KeySecret::parse(KeyKind::Api, junk), Err(InvalidKey), "{why}");
        }
    }

    #[test]
    fn debug_does_not_print_the_secret() {
        assert_eq!(format!("{:?}", key(KeyKind::Api)), "***");
    }
}
