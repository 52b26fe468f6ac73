//! Which types of events are wanted: the first words of a type, such as `crownest.sandbox`, with `*` for
//! any one word, such as `crownest.*.created`.

use std::{fmt, str::FromStr};

use domain::id::OrganizationId;

/// A pattern of types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kinds {
    words: Vec<String>,
}

impl Kinds {
    /// Whether a type is one of these.
    #[must_use]
    pub fn has(&self, kind: &str) -> bool {
        let mut words = kind.split('.');
        self.words.iter().all(|wanted| words.next().is_some_and(|w| wanted == "*" || wanted == w))
    }

    /// How all of these types begin.
    #[must_use]
    pub fn start(&self) -> String {
        let known: Vec<_> = self.words.iter().take_while(|word| *word != "*").cloned().collect();
        known.join(".")
    }

    /// The key that binds a queue to events of these types, or of all, and of an organization, or of all.
    #[must_use]
    pub fn binding(kinds: Option<&Self>, org: Option<OrganizationId>) -> String {
        let kinds = kinds.map_or_else(|| "crownest".to_owned(), ToString::to_string);
        let org = org.map(|org| format!(".{org}")).unwrap_or_default();
        format!("{kinds}.#{org}")
    }
}

impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words.join("."))
    }
}

impl FromStr for Kinds {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let fine = |word: &str| word == "*" || (!word.is_empty() && word.chars().all(letter));
        // What a consumer at the broker would write means the same here.
        let words: Vec<_> = text.strip_suffix(".#").unwrap_or(text).split('.').collect();
        if text.len() > 200 || !words.iter().all(|word| fine(word)) {
            let text = "expected the first words of a type, such as crownest.sandbox, \
                        with * for any one word";
            return Err(text.to_owned());
        }
        Ok(Self { words: words.into_iter().map(str::to_owned).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_has_whole_words() {
        for (pattern, start, kind, has) in [
            ("crownest.sandbox", "crownest.sandbox", "crownest.sandbox.ready.v1", true),
            ("crownest.sandbox.#", "crownest.sandbox", "crownest.sandbox.ready.v1", true),
            ("crownest.sand", "crownest.sand", "crownest.sandbox.ready.v1", false),
            (
                "crownest.sandbox.ready.v1",
                "crownest.sandbox.ready.v1",
                "crownest.sandbox.ready.v1",
                true,
            ),
            (
                "crownest.sandbox.ready.v1",
                "crownest.sandbox.ready.v1",
                "crownest.sandbox.ready.v11",
                false,
            ),
            ("crownest.*.created", "crownest", "crownest.key.created.v1", true),
            ("crownest.*.created", "crownest", "crownest.key.revoked.v1", false),
            ("*.*.*.v1", "", "crownest.key.revoked.v1", true),
            ("*.*.*.*.*", "", "crownest.key.revoked.v1", false),
        ] {
            let kinds: Kinds = pattern.parse().unwrap();
            assert_eq!((kinds.has(kind), &*kinds.start()), (has, start), "{pattern} {kind}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["", ".", "crownest.", "crownest..key", "Crownest", "crownest.k*", "#", "a b"] {
            assert!(text.parse::<Kinds>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_binding_says_the_same() {
        let org: OrganizationId = "org_0190c0de0000700080000000000000aa".parse().unwrap();
        let kinds = "crownest.*.created".parse().ok();
        for (kinds, org, wanted) in [
            (None, None, "crownest.#".to_owned()),
            (None, Some(org), format!("crownest.#.{org}")),
            (kinds.as_ref(), None, "crownest.*.created.#".to_owned()),
            (kinds.as_ref(), Some(org), format!("crownest.*.created.#.{org}")),
        ] {
            assert_eq!(Kinds::binding(kinds, org), wanted);
        }
    }
}
