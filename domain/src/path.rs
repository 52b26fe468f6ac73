//! Workspace paths as requests name them: normalized text below `/workspace`. Links and races are
//! the guest agent's to judge; this refuses only what no file system is needed for.

use crate::code::{Code, Refused};

/// The workspace directory inside every sandbox.
pub const WORKSPACE: &str = "/workspace";
const MAX_BYTES: usize = 4096;

/// Makes a path absolute and normal (`.`, `..`, doubled slashes removed).
///
/// # Errors
/// `invalid_request` for an empty, over-long or NUL-holding path, `path_outside_workspace` for one
/// that leaves the workspace by its text alone; both name `field`.
pub fn in_workspace(path: &str, field: &str) -> Result<String, Refused> {
    if path.is_empty() || path.len() > MAX_BYTES || path.contains('\0') {
        return Err(Refused::invalid(
            field,
            format!("{field} must be 1 to {MAX_BYTES} bytes without NUL"),
        ));
    }
    let outside = || {
        Refused::field(
            Code::PathOutsideWorkspace,
            field,
            format!("{field} must lie inside {WORKSPACE}"),
        )
    };
    let from_root = path.starts_with('/');
    let mut parts: Vec<&str> = if from_root { vec![] } else { vec!["workspace"] };
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                // Leaving the workspace on the way is leaving it: /workspace/../workspace/x.
                if parts.len() <= 1 {
                    return Err(outside());
                }
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    if parts.first() != Some(&"workspace") {
        return Err(outside());
    }
    Ok(format!("/{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (input, wanted) in [
            ("notes.txt", Ok("/workspace/notes.txt")),
            ("/workspace", Ok("/workspace")),
            ("/workspace//a/./b/", Ok("/workspace/a/b")),
            ("a/../b", Ok("/workspace/b")),
            (".", Ok("/workspace")),
            ("", Err(Code::InvalidRequest)),
            ("a\0", Err(Code::InvalidRequest)),
            ("../../etc/passwd", Err(Code::PathOutsideWorkspace)),
            ("/etc/passwd", Err(Code::PathOutsideWorkspace)),
            ("/workspace2/x", Err(Code::PathOutsideWorkspace)),
            ("/workspace/../workspace/x", Err(Code::PathOutsideWorkspace)),
            ("/", Err(Code::PathOutsideWorkspace)),
        ] {
            let got = in_workspace(input, "path").map_err(|refused| refused.code);
            assert_eq!(got.as_deref().map_err(|code| *code), wanted, "{input}");
        }
    }
}
