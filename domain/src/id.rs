//! Typed ids: the entity is the marker, so ids cannot be swapped, and one implementation serves all.
//! Knows nothing of storage (rows hold the bare `Uuid`) or of HTTP.

use std::{cmp, fmt, hash, marker::PhantomData, str::FromStr};

use chrono::{DateTime, Utc};
use uuid::{NoContext, Timestamp, Uuid};

/// Something that has ids of its own, with the prefix of their text form.
pub trait Named {
    /// The prefix without its underscore, such as `sbx` (contract, section 1.1).
    const PREFIX: &'static str;
}

/// An id: a UUIDv7, so that ids sort by the time they were made. Its text is `<prefix>_<32 hex>`.
pub struct Id<T>(Uuid, PhantomData<fn() -> T>);

impl<T> Id<T> {
    /// Makes a new id that sorts by `now` (to the millisecond; random within one).
    #[must_use]
    pub fn generate(now: DateTime<Utc>) -> Self {
        let seconds = u64::try_from(now.timestamp()).unwrap_or(0);
        let timestamp = Timestamp::from_unix(NoContext, seconds, now.timestamp_subsec_nanos());
        Self(Uuid::new_v7(timestamp), PhantomData)
    }

    /// Wraps a stored value.
    #[must_use]
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid, PhantomData)
    }

    /// The value to store.
    #[must_use]
    pub const fn uuid(self) -> Uuid {
        self.0
    }
}

impl<T> Clone for Id<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Id<T> {}
impl<T> PartialEq for Id<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<T> Eq for Id<T> {}
impl<T> PartialOrd for Id<T> {
    fn partial_cmp(&self, other: &Self) -> Option<cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Id<T> {
    fn cmp(&self, other: &Self) -> cmp::Ordering {
        self.0.cmp(&other.0)
    }
}
impl<T> hash::Hash for Id<T> {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl<T: Named> fmt::Display for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", T::PREFIX, self.0.simple())
    }
}
impl<T: Named> fmt::Debug for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an id of the form {prefix}_<32 hex digits>")]
pub struct InvalidId {
    /// The prefix that was wanted.
    pub prefix: &'static str,
}

impl<T: Named> FromStr for Id<T> {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = InvalidId { prefix: T::PREFIX };
        let (prefix, suffix) = text.split_once('_').ok_or(invalid.clone())?;
        // Only the form that Display prints: UUIDs have other spellings, ids do not.
        let hex = suffix.len() == 32
            && suffix.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if prefix != T::PREFIX || !hex {
            return Err(invalid);
        }
        Uuid::try_parse(suffix).map(Self::from_uuid).map_err(|_| invalid)
    }
}

impl<T: Named> serde::Serialize for Id<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
impl<'de, T: Named> serde::Deserialize<'de> for Id<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

macro_rules! named {
    ($($(#[$doc:meta])* $entity:ident $alias:ident $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $entity {}
        impl Named for $entity { const PREFIX: &'static str = $prefix; }
        #[doc = concat!("An id of the form `", $prefix, "_<32 hex>`.")]
        pub type $alias = Id<$entity>;
    )*};
}

/// The markers of ids. Uninhabited: the entities themselves live in their own modules.
pub mod entity {
    use super::{Id, Named};
    named! {
        /// A customer: what is billed and kept apart.
        Organization OrganizationId "org";
        /// A person in an organization.
        User UserId "usr";
        /// A folder of sandboxes, and what a key can be restricted to.
        Project ProjectId "prj";
        /// A credential of an organization.
        ApiKey ApiKeyId "key";
        /// A credential of an operator.
        AdminKey AdminKeyId "akey";
        /// An environment that sandboxes are made from.
        Template TemplateId "tpl";
        /// An immutable version of a template.
        TemplateVersion TemplateVersionId "tplv";
        /// An isolated live execution environment.
        Sandbox SandboxId "sbx";
        /// A process run in a sandbox.
        Command CommandId "cmd";
        /// A port of a sandbox that is reachable from outside.
        Preview PreviewId "prv";
        /// A signing key of capability URLs.
        SigningKey SigningKeyId "sig";
        /// Credit that was granted to an organization.
        Grant GrantId "grt";
        /// A balanced transaction of the ledger.
        Transaction TransactionId "txn";
        /// Something that happened, told to whoever wants to know.
        Event EventId "evt";
        /// What an organization was billed for a period.
        Statement StatementId "inv";
    }
}
pub use entity::{
    AdminKeyId, ApiKeyId, CommandId, EventId, GrantId, OrganizationId, PreviewId, ProjectId,
    SandboxId, SigningKeyId, StatementId, TemplateId, TemplateVersionId, TransactionId, UserId,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_only_in_the_form_it_is_printed() {
        let id = SandboxId::generate(DateTime::UNIX_EPOCH);
        let text = id.to_string();
        let hex = text.strip_prefix("sbx_").unwrap();
        assert_eq!(text.parse::<SandboxId>(), Ok(id));
        for (input, why) in [
            (format!("cmd_{hex}"), "another entity's prefix"),
            (hex.to_owned(), "no prefix"),
            (format!("sbx_{}", hex.to_uppercase()), "upper case"),
            (format!("sbx_{{{hex}}}"), "braces"),
            (format!("sbx_{}", &hex[..31]), "too short"),
            (format!("sbx_{hex}0"), "too long"),
            ("sbx_".to_owned(), "empty suffix"),
        ] {
            assert!(input.parse::<SandboxId>().is_err(), "{why}: {input}");
        }
    }

    #[test]
    fn ids_sort_by_time() {
        let early = SandboxId::generate(DateTime::from_timestamp_millis(1_000).unwrap());
        let late = SandboxId::generate(DateTime::from_timestamp_millis(1_001).unwrap());
        assert!(early < late);
    }
}
