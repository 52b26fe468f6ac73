//! An artifact: a copy of a file that outlives its sandbox, and the rules of its name. Where the bytes
//! are is not told here.

use chrono::{DateTime, Utc};

use crate::{
    code::Refused,
    id::{ArtifactId, OrganizationId, ProjectId, SandboxId},
};

/// Bytes of a name: what file systems take.
const MAX_NAME_BYTES: usize = 255;
/// The name of what has none that would do.
const UNNAMED: &str = "artifact";

/// An artifact's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// Its id.
    pub id: ArtifactId,
    /// Whose it is.
    pub org_id: OrganizationId,
    /// The project its sandbox lies in.
    pub project_id: ProjectId,
    /// The sandbox it was copied from.
    pub sandbox_id: SandboxId,
    /// What it is called.
    pub name: Name,
    /// Its media type, as its name says.
    pub content_type: Option<String>,
    /// The absolute path it was copied from.
    pub source_path: String,
    /// Its size.
    pub size_bytes: u64,
    /// The SHA-256 of its bytes.
    pub sha256: [u8; 32],
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it goes by itself.
    pub retention_expires_at: DateTime<Utc>,
    /// When it was deleted.
    pub deleted_at: Option<DateTime<Utc>>,
}

impl Artifact {
    /// What its bytes are found by, for ever.
    #[must_use]
    pub fn object_key(&self) -> String {
        object_key(self.org_id, self.id)
    }

    /// Whether it can still be read.
    #[must_use]
    pub fn is_there(&self, now: DateTime<Utc>) -> bool {
        self.deleted_at.is_none() && now < self.retention_expires_at
    }
}

/// What the bytes of an artifact are found by. Nothing of what a caller says is in it.
#[must_use]
pub fn object_key(org: OrganizationId, id: ArtifactId) -> String {
    format!("{org}/{id}")
}

/// The name of an artifact: a file name that is safe to save it under on any system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    /// Checks a name that a caller chose.
    ///
    /// # Errors
    /// `invalid_request` naming `field`.
    pub fn parse(text: String, field: &str) -> Result<Self, Refused> {
        if text.len() > MAX_NAME_BYTES || text.contains(is_wild) || is_no_name(&text) {
            let text = format!(
                "{field} must be 1 to {MAX_NAME_BYTES} bytes, without slashes, backslashes and \
                 control characters, and not only dots"
            );
            return Err(Refused::invalid(field, text));
        }
        Ok(Self(text))
    }

    /// The last part of a path, with what no name may have replaced.
    #[must_use]
    pub fn of_path(path: &str) -> Self {
        let last = path.rsplit('/').find(|part| !part.is_empty()).unwrap_or_default();
        let plain: String = last.chars().map(|c| if is_wild(c) { '_' } else { c }).collect();
        let cut = plain.floor_char_boundary(MAX_NAME_BYTES);
        let name = &plain[..cut];
        Self(if is_no_name(name) { UNNAMED } else { name }.to_owned())
    }

    /// A name as it was stored.
    #[must_use]
    pub const fn stored(text: String) -> Self {
        Self(text)
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Characters that lead somewhere else, end a header, or turn a line around in a terminal.
fn is_wild(c: char) -> bool {
    matches!(c, '/' | '\\' | '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
        || matches!(c, '\u{2028}'..='\u{2029}' | '\u{2066}'..='\u{2069}')
        || c.is_control()
}

fn is_no_name(text: &str) -> bool {
    text.trim().trim_matches('.').is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_somewhere_else_are_refused() {
        for name in ["report.xml", "a b", ".env", "..a", "naïve-\u{263a}.txt", "-rf", "C:x"] {
            assert!(Name::parse(name.to_owned(), "name").is_ok(), "{name:?}");
        }
        for name in [
            "",
            " ",
            ".",
            "..",
            "...",
            " .. ",
            "a/b",
            "/etc/passwd",
            "../x",
            "..\\x",
            "a\0b",
            "a\nb",
            "a\r\nset-cookie: x",
            "\u{7f}",
            "invoice\u{202e}fdp.exe",
        ] {
            let refused = Name::parse(name.to_owned(), "name").unwrap_err();
            assert_eq!(refused.field.as_deref(), Some("name"), "{name:?}");
        }
        assert!(Name::parse("x".repeat(255), "name").is_ok());
        assert!(Name::parse("x".repeat(256), "name").is_err());
    }

    #[test]
    fn every_path_has_a_name_that_is_one() {
        for (path, wanted) in [
            ("/workspace/out/report.xml", "report.xml"),
            ("/workspace/a\\..\\b", "a_.._b"),
            ("/workspace/line\nbreak", "line_break"),
            ("/workspace/...", "artifact"),
            ("/workspace", "workspace"),
            ("", "artifact"),
        ] {
            let name = Name::of_path(path);
            assert_eq!(name.as_str(), wanted);
            assert!(Name::parse(name.0, "name").is_ok(), "{path:?}");
        }
        let long = format!("/workspace/{}", "ü".repeat(200));
        assert_eq!(Name::of_path(&long).as_str().len(), 254, "no character is cut");
    }
}
