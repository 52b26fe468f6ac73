//! Previews: ports of sandboxes that are reachable from outside over HTTP (contract, section 14). Knows
//! names, states and minutes; carrying requests is the proxy's.

use std::{fmt, str::FromStr};

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    code::{Code, Refused},
    id::{OrganizationId, PreviewId, ProjectId, SandboxId},
};

/// Random characters of a slug: 100 bits, so that nobody finds one by trying.
pub const SLUG_RANDOM: usize = 20;
const SLUG_PREFIX: &str = "p-";
/// Of five bits each, and the same in a host name whatever its case.
const SLUG_ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// The first label of a preview's host name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Slug(String);

impl Slug {
    /// The slug of random bytes, of each of which five bits count.
    #[must_use]
    pub fn from_random(random: [u8; SLUG_RANDOM]) -> Self {
        let letters = random.map(|byte| char::from(SLUG_ALPHABET[usize::from(byte % 32)]));
        Self(SLUG_PREFIX.chars().chain(letters).collect())
    }

    /// Reads the one form that a slug has, which is in lower case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let random = text.strip_prefix(SLUG_PREFIX)?;
        let fine =
            random.len() == SLUG_RANDOM && random.bytes().all(|b| SLUG_ALPHABET.contains(&b));
        fine.then(|| Self(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who may open a preview.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMode {
    /// Whoever has a key of the organization that sees the project.
    Authenticated,
    /// They, and whoever has the preview's own token.
    Token,
}

impl AuthMode {
    /// Every mode.
    pub const ALL: [Self; 2] = [Self::Authenticated, Self::Token];

    /// The wire and storage form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Authenticated => "authenticated",
            Self::Token => "token",
        }
    }
}

impl FromStr for AuthMode {
    type Err = Refused;
    fn from_str(text: &str) -> Result<Self, Refused> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == text).ok_or_else(|| {
            let wanted = "authMode must be authenticated or token";
            Refused::field(Code::UnsupportedPreviewAuthMode, "authMode", wanted)
        })
    }
}

/// A preview's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// Its id.
    pub id: PreviewId,
    /// Its name in the world.
    pub slug: Slug,
    /// Whose it is.
    pub org_id: OrganizationId,
    /// The project of its sandbox.
    pub project_id: ProjectId,
    /// Where the port is.
    pub sandbox_id: SandboxId,
    /// The port.
    pub port: u16,
    /// Who may open it.
    pub auth_mode: AuthMode,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When its sandbox expires.
    pub expires_at: DateTime<Utc>,
    /// When a tenant revoked it.
    pub revoked_at: Option<DateTime<Utc>>,
    /// Since when nothing is carried any more: it was revoked, its sandbox ended, or a minute of it
    /// could not be paid. Until then it is active.
    pub ended_at: Option<DateTime<Utc>>,
}

impl Preview {
    /// Whether it carries requests and counts against the limits.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        self.ended_at.is_none()
    }
}

/// When the minute of this number begins, of those counted from `from` on.
#[must_use]
pub fn minute(from: DateTime<Utc>, number: i64) -> DateTime<Utc> {
    TimeDelta::try_minutes(number)
        .and_then(|passed| from.checked_add_signed(passed))
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// How many minutes begin in `[from, until)`; the first one does even if that is empty, and none does
/// if it ends before it begins.
#[must_use]
pub fn minutes(from: DateTime<Utc>, until: DateTime<Utc>) -> i64 {
    if until < from {
        return 0;
    }
    let passed = until - from;
    let whole = passed.num_minutes();
    (whole + i64::from(TimeDelta::minutes(whole) < passed)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_has_one_form() {
        let slug = Slug::from_random(std::array::from_fn(|n| u8::try_from(n * 13).unwrap()));
        assert_eq!(Slug::parse(slug.as_str()), Some(slug.clone()));
        assert_eq!(slug.as_str(), "p-an2hubo3ivcp4jwdq5kx");
        for (text, why) in [
            (slug.as_str().to_uppercase(), "upper case"),
            (format!("{slug}a"), "too long"),
            (slug.as_str()[..21].to_owned(), "too short"),
            (slug.as_str().replace("p-", "q-"), "another prefix"),
            (slug.as_str().replace('n', "1"), "a digit that is no letter of it"),
            (slug.as_str().replace('n', "."), "a dot"),
            (slug.as_str().replace('n', "%"), "an escape"),
            (slug.as_str().replace('n', "/"), "a path"),
            (String::new(), "nothing"),
        ] {
            assert_eq!(Slug::parse(&text), None, "{why}: {text}");
        }
    }

    #[test]
    fn minutes_are_counted_when_they_begin() {
        let from = DateTime::UNIX_EPOCH;
        for (micros, wanted, why) in [
            (-1, 0, "it ended before it began"),
            (0, 1, "the first one begins at once"),
            (1, 1, "within the first"),
            (60_000_000, 1, "the second would begin at the end"),
            (60_000_001, 2, "the second has begun"),
            (3_600_000_000, 60, "an hour"),
        ] {
            assert_eq!(minutes(from, from + TimeDelta::microseconds(micros)), wanted, "{why}");
        }
        assert_eq!(minute(from, 2), from + TimeDelta::seconds(120));
        assert_eq!(minute(from, i64::MAX), DateTime::<Utc>::MAX_UTC);
    }
}
