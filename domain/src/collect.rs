//! What a command is asked to leave as artifacts, and what became of it (contract, section 10.3). Copies
//! nothing.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{
    artifact::Name,
    code::{Code, Refused},
    command::Status,
    id::ApiKeyId,
    path,
};

/// Files that one command can be asked for.
pub const MAX_ITEMS: usize = 100;

/// Whether files are collected after every end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CollectOn {
    /// Only after exit code 0.
    Success,
    /// After every end.
    Always,
}

impl CollectOn {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Success, Self::Always];

    /// The wire and storage form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Always => "always",
        }
    }

    /// Whether a command that ended like this is collected from.
    #[must_use]
    pub fn covers(self, status: Status, exit_code: Option<i32>) -> bool {
        match self {
            Self::Success => status == Status::Exited && exit_code == Some(0),
            Self::Always => !status.is_active(),
        }
    }
}

impl FromStr for CollectOn {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|on| on.as_str() == text).ok_or(())
    }
}

/// What became of the files that a command was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CollectStatus {
    /// It was asked for none.
    NotRequested,
    /// It is not over, or its files are being copied.
    Pending,
    /// All are there.
    Succeeded,
    /// Some are there.
    Partial,
    /// None is there.
    Failed,
    /// It ended in a way after which none was wanted.
    Skipped,
}

impl CollectStatus {
    /// Every status.
    pub const ALL: [Self; 6] = [
        Self::NotRequested,
        Self::Pending,
        Self::Succeeded,
        Self::Partial,
        Self::Failed,
        Self::Skipped,
    ];

    /// The wire and storage form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotRequested => "not_requested",
            Self::Pending => "pending",
            Self::Succeeded => "succeeded",
            Self::Partial => "partial",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }

    /// What `n_errors` of `n_items` that could not be copied make of the whole.
    #[must_use]
    pub const fn of(n_items: usize, n_errors: usize) -> Self {
        if n_errors == 0 {
            Self::Succeeded
        } else if n_errors < n_items {
            Self::Partial
        } else {
            Self::Failed
        }
    }
}

impl FromStr for CollectStatus {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(())
    }
}

/// A file to collect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The path as it was asked for, absolute or relative.
    pub path: String,
    /// What the artifact is to be called; by default the base name.
    pub name: Option<String>,
}

impl Item {
    /// Where to look for it, in this order: relative to the command's directory, then to the workspace.
    ///
    /// # Errors
    /// `path_outside_workspace` when neither lies inside.
    pub fn places(&self, cwd: &str) -> Result<Vec<String>, Refused> {
        if self.path.starts_with('/') {
            return Ok(vec![path::in_workspace(&self.path, "path")?]);
        }
        let near = path::in_workspace(&format!("{cwd}/{}", self.path), "path");
        let far = path::in_workspace(&self.path, "path");
        match (near, far) {
            (Ok(near), Ok(far)) if near == far => Ok(vec![near]),
            (Ok(near), Ok(far)) => Ok(vec![near, far]),
            (Ok(place), Err(_)) | (Err(_), Ok(place)) => Ok(vec![place]),
            (Err(refused), Err(_)) => Err(refused),
        }
    }

    /// What the artifact is called.
    #[must_use]
    pub fn artifact_name(&self) -> Name {
        self.name.clone().map_or_else(|| Name::of_path(&self.path), Name::stored)
    }
}

/// A checked request to collect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The files, at least one.
    pub items: Vec<Item>,
    /// When.
    pub on: CollectOn,
    /// The key that asked.
    pub key_id: ApiKeyId,
}

impl Request {
    /// Checks a request; none for an empty list. Where its paths lead is found out when they are
    /// looked for, and is no error of the request.
    ///
    /// # Errors
    /// `invalid_request` with the field.
    pub fn parse(
        items: Vec<Item>,
        on: Option<CollectOn>,
        key_id: ApiKeyId,
    ) -> Result<Option<Self>, Refused> {
        if items.len() > MAX_ITEMS {
            let text = format!("collect must have at most {MAX_ITEMS} items");
            return Err(Refused::invalid("collect", text));
        }
        for (at, item) in items.iter().enumerate() {
            let field = format!("collect[{at}].path");
            if let Err(refused) = path::in_workspace(&item.path, &field)
                && refused.code == Code::InvalidRequest
            {
                return Err(refused);
            }
            if let Some(name) = &item.name {
                Name::parse(name.clone(), &format!("collect[{at}].name"))?;
            }
        }
        let request = Self { items, on: on.unwrap_or(CollectOn::Success), key_id };
        Ok((!request.items.is_empty()).then_some(request))
    }
}

/// Why a file could not be collected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectError {
    /// Why, for programs.
    pub code: CollectCode,
    /// Why, for people.
    pub message: String,
    /// The path as it was asked for.
    pub path: String,
}

/// Why, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CollectCode {
    /// It is there and could not be copied.
    ArtifactCollectFailed,
    /// It is not there.
    FileNotFound,
    /// It is somewhere else.
    PathOutsideWorkspace,
}

impl CollectCode {
    /// Every code.
    pub const ALL: [Self; 3] =
        [Self::ArtifactCollectFailed, Self::FileNotFound, Self::PathOutsideWorkspace];

    /// The wire form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ArtifactCollectFailed => "artifact_collect_failed",
            Self::FileNotFound => "file_not_found",
            Self::PathOutsideWorkspace => "path_outside_workspace",
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn item(path: &str) -> Item {
        Item { path: path.to_owned(), name: None }
    }

    #[test]
    fn where_a_file_is_looked_for() {
        for (path, wanted) in [
            ("report.xml", Ok(vec!["/workspace/app/report.xml", "/workspace/report.xml"])),
            ("/workspace/x", Ok(vec!["/workspace/x"])),
            ("../x", Ok(vec!["/workspace/x"])),
            ("/etc/passwd", Err(Code::PathOutsideWorkspace)),
            ("../../x", Err(Code::PathOutsideWorkspace)),
        ] {
            let found = item(path).places("/workspace/app").map_err(|refused| refused.code);
            let wanted = wanted.map(|paths| paths.into_iter().map(str::to_owned).collect());
            assert_eq!(found, wanted, "{path}");
        }
        assert_eq!(item("x").places("/workspace").unwrap(), ["/workspace/x"]);
    }

    #[test]
    fn when_files_are_wanted() {
        for (on, status, exit_code, wanted) in [
            (CollectOn::Success, Status::Exited, Some(0), true),
            (CollectOn::Success, Status::Exited, Some(3), false),
            (CollectOn::Success, Status::TimedOut, None, false),
            (CollectOn::Success, Status::Running, None, false),
            (CollectOn::Always, Status::Exited, Some(3), true),
            (CollectOn::Always, Status::Killed, None, true),
            (CollectOn::Always, Status::Running, None, false),
        ] {
            assert_eq!(on.covers(status, exit_code), wanted, "{on:?} {status:?} {exit_code:?}");
        }
    }

    #[test]
    fn what_is_asked_for_has_a_form() {
        let key = ApiKeyId::from_uuid(Uuid::from_u128(1));
        let field = |items: Vec<Item>| {
            Request::parse(items, None, key).map_err(|refused| refused.field.unwrap_or_default())
        };
        assert_eq!(field(Vec::new()), Ok(None), "nothing is asked for");
        assert_eq!(field(vec![item("a"), item("")]), Err("collect[1].path".to_owned()));
        let named = Item { path: "a".to_owned(), name: Some("../a".to_owned()) };
        assert_eq!(field(vec![named]), Err("collect[0].name".to_owned()));
        assert_eq!(field(vec![item("a"); MAX_ITEMS + 1]), Err("collect".to_owned()));
        let outside = field(vec![item("/etc/passwd")]).unwrap().unwrap();
        assert_eq!(outside.on, CollectOn::Success, "it is told when it is looked for");
    }

    #[test]
    fn what_is_there_in_the_end() {
        for (n_items, n_errors, wanted) in [
            (2, 0, CollectStatus::Succeeded),
            (2, 1, CollectStatus::Partial),
            (2, 2, CollectStatus::Failed),
        ] {
            assert_eq!(CollectStatus::of(n_items, n_errors), wanted);
        }
    }
}
