//! Paths as they are written, before anything is looked up: guest calls may only name the workspace,
//! the shell may name anything. Touches no tree.

use protocol::{Reason, WORKSPACE};

const MAX_PATH_BYTES: usize = 4096;
const MAX_NAME_BYTES: usize = 255;

/// How far a path may lead while it is resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::simulated) enum Reach {
    /// Not out of the workspace, by whatever means: the rule of the guest protocol's file calls.
    Workspace,
    /// Anywhere in the sandbox: what commands may do.
    Sandbox,
}

/// A path split into names, ready to be looked up.
#[derive(Debug, Clone)]
pub(in crate::simulated) struct Address {
    pub reach: Reach,
    /// The names from the root of the sandbox.
    pub names: Vec<String>,
}

impl Address {
    /// Reads the path of a guest call: below the workspace, or relative to it.
    pub fn in_workspace(path: &str) -> Result<Self, Reason> {
        if path.is_empty() || path.contains('\0') || path.len() > MAX_PATH_BYTES {
            return Err(Reason::InvalidPath);
        }
        let mut names = Vec::new();
        if !path.starts_with('/') {
            names.push(workspace().to_owned());
        }
        for name in path.split('/') {
            match name {
                "" | "." => {}
                ".." => {
                    names.pop();
                }
                name if name.len() > MAX_NAME_BYTES => return Err(Reason::InvalidPath),
                name => names.push(name.to_owned()),
            }
        }
        if names.first().is_none_or(|first| first != workspace()) {
            return Err(Reason::OutsideWorkspace);
        }
        Ok(Self { reach: Reach::Workspace, names })
    }

    /// Reads a path that a command names, relative to its working directory.
    pub fn in_sandbox(cwd: &[String], path: &str) -> Self {
        let mut names = if path.starts_with('/') { Vec::new() } else { cwd.to_vec() };
        names.extend(path.split('/').filter(|name| !name.is_empty()).map(str::to_owned));
        Self { reach: Reach::Sandbox, names }
    }

    /// The path as answers carry it.
    pub fn text(&self) -> String {
        format!("/{}", self.names.join("/"))
    }

    /// The last name; the root's is empty.
    pub fn name(&self) -> &str {
        self.names.last().map_or("", String::as_str)
    }

    /// Whether it names the workspace itself.
    pub fn is_workspace(&self) -> bool {
        matches!(self.names.as_slice(), [only] if only == workspace())
    }
}

/// The workspace's name below the root.
pub(super) fn workspace() -> &'static str {
    WORKSPACE.trim_start_matches('/')
}
