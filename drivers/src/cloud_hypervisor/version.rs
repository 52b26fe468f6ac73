//! The VMM's version: which ones are too old to keep strangers' code in. Reads text; asks nobody.

use std::{fmt, str::FromStr};

use crate::jail::failure::{Failure, Result};

/// A version of Cloud Hypervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    major: u32,
    minor: u32,
}

impl Version {
    /// Versions before it have a use after free in virtio-block that a guest can trigger.
    pub const OLDEST: Self = Self { major: 52, minor: 0 };
    /// An older series in which that was mended as well.
    const MENDED: Self = Self { major: 51, minor: 2 };

    /// Refuses one that is too old.
    pub fn check(text: &str) -> Result<Self> {
        let version: Self = text.parse().map_err(|()| {
            Failure::unsupported(format!("the VMM says it has version {text:?}, which is none"))
        })?;
        let is_mended = version.major == Self::MENDED.major && version >= Self::MENDED;
        if version >= Self::OLDEST || is_mended {
            return Ok(version);
        }
        Err(Failure::unsupported(format!(
            "Cloud Hypervisor {version} is too old: its guests can break out of a disk; install {} or \
             later",
            Self::OLDEST
        )))
    }
}

impl FromStr for Version {
    type Err = ();

    /// Reads `53.0`, `v53.0.0` and what builds between releases say, such as `v53.0-12-gabc`.
    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        let text = text.trim().trim_start_matches('v');
        let (major, rest) = text.split_once('.').ok_or(())?;
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let minor = rest.get(..end).ok_or(())?;
        Ok(Self { major: major.parse().map_err(drop)?, minor: minor.parse().map_err(drop)? })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_versions_are_refused() {
        for (text, wanted) in [
            ("53.0", Ok("53.0")),
            ("v53.0.0", Ok("53.0")),
            ("v53.0-12-gabc\n", Ok("53.0")),
            ("100.1", Ok("100.1")),
            ("52.0", Ok("52.0")),
            ("51.2", Ok("51.2")),
            ("51.1", Err("too old")),
            ("51.0", Err("too old")),
            ("v50.9", Err("too old")),
            ("0.9", Err("too old")),
            ("", Err("none")),
            ("53", Err("none")),
            ("53.x", Err("none")),
            ("-1.0", Err("none")),
        ] {
            match (Version::check(text), wanted) {
                (Ok(version), Ok(wanted)) => assert_eq!(version.to_string(), wanted),
                (Err(failure), Err(named)) => {
                    assert_eq!(failure.kind, crate::ErrorKind::Unsupported, "{text}");
                    assert!(failure.to_string().contains(named), "{text}: {failure}");
                }
                (got, wanted) => panic!("{text}: {got:?}, not {wanted:?}"),
            }
        }
    }
}
