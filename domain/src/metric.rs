//! What usage is measured in (contract, section 7.2). Prices nothing.

use std::str::FromStr;

/// A usage metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the contract's words, section 7.2")]
pub enum Metric {
    ComputeUnitSeconds,
    SandboxCreates,
    CommandInvocations,
    CodeRunInvocations,
    PreviewMinutes,
    ArtifactBytesStored,
    FileBytesWritten,
}

impl Metric {
    /// Every metric.
    pub const ALL: [Self; 7] = [
        Self::ComputeUnitSeconds,
        Self::SandboxCreates,
        Self::CommandInvocations,
        Self::CodeRunInvocations,
        Self::PreviewMinutes,
        Self::ArtifactBytesStored,
        Self::FileBytesWritten,
    ];
    /// Those that are counted when something is done; the other one is measured by time.
    pub const COUNTED: [Self; 6] = [
        Self::SandboxCreates,
        Self::CommandInvocations,
        Self::CodeRunInvocations,
        Self::PreviewMinutes,
        Self::ArtifactBytesStored,
        Self::FileBytesWritten,
    ];

    /// The wire and storage form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ComputeUnitSeconds => "compute_unit_seconds",
            Self::SandboxCreates => "sandbox_creates",
            Self::CommandInvocations => "command_invocations",
            Self::CodeRunInvocations => "code_run_invocations",
            Self::PreviewMinutes => "preview_minutes",
            Self::ArtifactBytesStored => "artifact_bytes_stored",
            Self::FileBytesWritten => "file_bytes_written",
        }
    }

    /// What one unit of it is called on a statement.
    #[must_use]
    pub const fn unit(self) -> &'static str {
        match self {
            Self::ComputeUnitSeconds => "compute unit second",
            Self::SandboxCreates => "sandbox",
            Self::CommandInvocations => "command",
            Self::CodeRunInvocations => "code run",
            Self::PreviewMinutes => "minute",
            Self::ArtifactBytesStored | Self::FileBytesWritten => "byte",
        }
    }
}

impl FromStr for Metric {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|metric| metric.as_str() == text).ok_or(())
    }
}
