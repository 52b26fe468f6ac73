//! Paths as clients write them, made normal. Pure text: whether links lead outside is seen only when
//! the path is resolved.

use std::{fmt, str::FromStr};

use protocol::{Reason, WORKSPACE};

use super::Refusal;

const MAX_PATH: usize = 4096;
const MAX_NAME: usize = 255;

/// A path in the workspace without `.`, `..` and empty parts, relative to `/workspace`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserPath(Vec<String>);

impl UserPath {
    /// The names on the way down; none for the workspace itself.
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// The last name, `workspace` for the workspace itself.
    pub fn name(&self) -> &str {
        self.0.last().map_or(workspace_name(), String::as_str)
    }

    /// Whether this is the workspace itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for UserPath {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let invalid = |why| Err(Refusal::new(Reason::InvalidPath, why));
        if text.is_empty() {
            return invalid("the path is empty");
        }
        if text.contains('\0') {
            return invalid("the path has a NUL byte");
        }
        if text.len() > MAX_PATH {
            return invalid("the path is too long");
        }
        let mut names = Vec::new();
        if !text.starts_with('/') {
            names.push(workspace_name());
        }
        for name in text.split('/') {
            match name {
                "" | "." => {}
                ".." => drop(names.pop()),
                _ if name.len() > MAX_NAME => return invalid("a name is too long"),
                _ => names.push(name),
            }
        }
        match names.split_first() {
            Some((first, rest)) if *first == workspace_name() => {
                Ok(Self(rest.iter().map(|&name| name.to_owned()).collect()))
            }
            _ => Err(Refusal::new(Reason::OutsideWorkspace, "the path leads outside")),
        }
    }
}

impl fmt::Display for UserPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(WORKSPACE)?;
        self.0.iter().try_for_each(|name| write!(f, "/{name}"))
    }
}

fn workspace_name() -> &'static str {
    WORKSPACE.trim_start_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_normal() {
        for (input, wanted) in [
            ("/workspace", "/workspace"),
            (".", "/workspace"),
            ("notes.txt", "/workspace/notes.txt"),
            ("/workspace//a/./b/", "/workspace/a/b"),
            ("a/../b", "/workspace/b"),
            ("/workspace/../workspace/a", "/workspace/a"),
            ("a/b/../../..//workspace/c", "/workspace/c"),
            ("...", "/workspace/..."),
        ] {
            assert_eq!(input.parse::<UserPath>().unwrap().to_string(), wanted, "{input}");
        }
    }

    #[test]
    fn senseless_paths_are_refused() {
        let long = "a/".repeat(2049);
        let long_name = "a".repeat(256);
        for (input, reason) in [
            ("", Reason::InvalidPath),
            ("a\0b", Reason::InvalidPath),
            (long.as_str(), Reason::InvalidPath),
            (long_name.as_str(), Reason::InvalidPath),
            ("/", Reason::OutsideWorkspace),
            ("..", Reason::OutsideWorkspace),
            ("/etc/passwd", Reason::OutsideWorkspace),
            ("../../etc/passwd", Reason::OutsideWorkspace),
            ("/workspace/../etc", Reason::OutsideWorkspace),
            ("/workspacefoo", Reason::OutsideWorkspace),
            ("/Workspace/a", Reason::OutsideWorkspace),
        ] {
            let refusal = input.parse::<UserPath>().unwrap_err();
            assert_eq!(refusal.reason, Some(reason), "{input}");
        }
    }
}
