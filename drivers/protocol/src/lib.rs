//! The guest protocol as Rust types, generated from the files in `proto`, which are its documentation.
//! Holds no behaviour beyond the spelling of refusal reasons.

#[expect(clippy::all, clippy::pedantic, reason = "generated code")]
mod generated {
    tonic::include_proto!("crownest.guest.v1");
}
pub use generated::*;

/// The metadata key of a refusal's reason.
pub const REASON_KEY: &str = "crownest-reason";

/// The version that both sides speak; a different one in `Hello` is an error.
pub const PROTOCOL_VERSION: u32 = 1;

/// The port of a machine's vsock at which its agent serves `Guest`.
pub const AGENT_PORT: u32 = 1024;

/// The port of the host at which a machine that has come up knocks.
pub const READY_PORT: u32 = 1025;

/// The port of a machine's vsock at which its first process serves `Machine`.
pub const MACHINE_PORT: u32 = 1026;

/// The workspace directory as every path inside a sandbox names it.
pub const WORKSPACE: &str = "/workspace";

impl Reason {
    /// The metadata value: `file_not_found` for `REASON_FILE_NOT_FOUND`.
    #[must_use]
    pub fn wire_name(self) -> String {
        self.as_str_name().trim_start_matches("REASON_").to_ascii_lowercase()
    }

    /// Reads a metadata value; `None` for one that this version does not know.
    #[must_use]
    pub fn from_wire_name(name: &str) -> Option<Self> {
        Self::from_str_name(&format!("REASON_{}", name.to_ascii_uppercase()))
    }

    /// The gRPC status that carries this reason.
    #[must_use]
    pub fn status_code(self) -> tonic::Code {
        match self {
            Self::Unspecified => tonic::Code::Unknown,
            Self::UnknownCommand | Self::FileNotFound | Self::ParentNotFound => {
                tonic::Code::NotFound
            }
            Self::AlreadyExists => tonic::Code::AlreadyExists,
            Self::OutsideWorkspace | Self::NotPermitted => tonic::Code::PermissionDenied,
            Self::IsDirectory
            | Self::NotDirectory
            | Self::DirectoryNotEmpty
            | Self::NotRegularFile => tonic::Code::FailedPrecondition,
            Self::FileTooLarge | Self::NoSpace | Self::TooManyCommands | Self::TooManyEntries => {
                tonic::Code::ResourceExhausted
            }
            Self::InvalidPath | Self::WorkspaceRoot => tonic::Code::InvalidArgument,
            Self::ConnectionRefused => tonic::Code::Unavailable,
        }
    }

    /// A gRPC status with this reason in its metadata.
    #[must_use]
    pub fn status(self, message: impl Into<String>) -> tonic::Status {
        let mut status = tonic::Status::new(self.status_code(), message);
        if let Ok(value) = self.wire_name().parse() {
            status.metadata_mut().insert(REASON_KEY, value);
        }
        status
    }

    /// The reason in a status, if it has one that this version knows.
    #[must_use]
    pub fn of(status: &tonic::Status) -> Option<Self> {
        Self::from_wire_name(status.metadata().get(REASON_KEY)?.to_str().ok()?)
    }
}
