//! What the agent's refusals are called on the wire.

use domain::{Code, Refused};
use drivers::guest::{GuestError, GuestErrorKind, Reason};

use super::ApiError;

/// Turns a refusal of the path in `field` into a file code; whatever else failed is the runtime's fault.
pub fn refusal(field: &'static str, error: &GuestError) -> ApiError {
    let GuestErrorKind::Refused(reason) = &error.kind else { return ApiError::runtime(error) };
    let (code, text) = match reason {
        Reason::FileNotFound => (Code::FileNotFound, "leads to nothing"),
        Reason::ParentNotFound => {
            (Code::ParentDirectoryNotFound, "lies in a directory that does not exist")
        }
        Reason::AlreadyExists => (Code::FileAlreadyExists, "exists already"),
        Reason::OutsideWorkspace => (Code::PathOutsideWorkspace, "must lie inside /workspace"),
        Reason::IsDirectory => (Code::PathIsDirectory, "is a directory"),
        Reason::NotDirectory => {
            (Code::PathNotDirectory, "is not a directory, or leads through a file")
        }
        Reason::DirectoryNotEmpty => (Code::DirectoryNotEmpty, "is a directory that is not empty"),
        Reason::FileTooLarge => (Code::FileTooLarge, "is a larger file than this call takes"),
        Reason::InvalidPath => (Code::InvalidRequest, "must be 1 to 4096 bytes without NUL"),
        Reason::WorkspaceRoot => (Code::InvalidRequest, "must not be the workspace itself"),
        Reason::NotRegularFile => (Code::InvalidRequest, "is neither a file nor a directory"),
        // Not 403, which tells a client that its key is too weak.
        Reason::NotPermitted => (Code::InvalidRequest, "is not permitted by the file's mode"),
        // Not 429 or 5xx, which clients repeat: it will not fit a second time either.
        Reason::NoSpace => (Code::FileTooLarge, "does not fit into what is left of the workspace"),
        Reason::TooManyEntries => (Code::FileTooLarge, "has more entries than one answer takes"),
        Reason::TooManyCommands => {
            let text = "the sandbox runs as many commands as it can";
            return ApiError::new(Code::QuotaExceeded, text);
        }
        Reason::Unspecified | Reason::UnknownCommand | Reason::ConnectionRefused => {
            return ApiError::runtime(error);
        }
    };
    Refused::field(code, field, format!("{field} {text}")).into()
}
