//! Error codes: the closed list of contract section 2, with the HTTP status each is sent with and
//! whether the same request may succeed later. The golden test prints the list.

macro_rules! codes {
    ($($variant:ident $text:literal $status:literal $doc:literal;)*) => {
        /// A machine-readable reason for a refusal or failure.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $(#[doc = $doc] $variant),* }

        impl Code {
            /// Every code, in the order of the contract.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The wire form, such as `invalid_request`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }

            /// The HTTP status that goes with it.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status),* }
            }

            /// What it means, for the generated documentation.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $doc),* }
            }
        }
    };
}

codes! {
    InvalidRequest "invalid_request" 400 "Malformed JSON, a wrong type, a value out of range, a missing field, a bad cursor or id.";
    SandboxTtlExceeded "sandbox_ttl_exceeded" 400 "The requested lifetime is above the plan's limit.";
    ReservedEnvKey "reserved_env_key" 400 "An environment variable's name starts with CROWNEST.";
    InvalidMetadataKey "invalid_metadata_key" 400 "A metadata key is empty, too long or outside the alphabet.";
    InvalidMetadataValue "invalid_metadata_value" 400 "A metadata value is not a string or too long.";
    MetadataTooManyKeys "metadata_too_many_keys" 400 "More than 16 metadata keys.";
    MetadataTooLarge "metadata_too_large" 400 "More than 4096 bytes of metadata.";
    MissingIdempotencyKey "missing_idempotency_key" 400 "The route needs an Idempotency-Key.";
    InvalidFileEncoding "invalid_file_encoding" 400 "The encoding is unknown, or the content is not valid in it.";
    PathOutsideWorkspace "path_outside_workspace" 400 "The path leads outside /workspace.";
    PathIsDirectory "path_is_directory" 400 "A file was wanted, a directory is there.";
    PathNotDirectory "path_not_directory" 400 "A directory was wanted, something else is there.";
    UnsupportedPreviewAuthMode "unsupported_preview_auth_mode" 400 "The authMode is neither authenticated nor token.";
    UnsupportedRuntimeOption "unsupported_runtime_option" 400 "This installation cannot do what was asked.";
    Unauthorized "unauthorized" 401 "No usable credential.";
    InvalidApiKey "invalid_api_key" 401 "The key is malformed, unknown or revoked.";
    CreditExhausted "credit_exhausted" 402 "The organization's credit is used up.";
    BillingSpendCapReached "billing_spend_cap_reached" 402 "The organization's spend cap for this month is reached.";
    Forbidden "forbidden" 403 "The credential may not do this.";
    OrgSuspended "org_suspended" 403 "The organization is suspended.";
    FeatureNotEnabled "feature_not_enabled" 403 "A feature that is off in this installation.";
    NotFound "not_found" 404 "No such thing, or not yours, or no such route.";
    FileNotFound "file_not_found" 404 "Nothing at this path.";
    ParentDirectoryNotFound "parent_directory_not_found" 404 "The directory that the path lies in is missing.";
    MethodNotAllowed "method_not_allowed" 405 "The route exists, not with this method.";
    IdempotencyKeyReused "idempotency_key_reused" 409 "The key was used for a different request.";
    IdempotencyRequestInProgress "idempotency_request_in_progress" 409 "The first request with this key is still running.";
    Conflict "conflict" 409 "Not possible in the present state.";
    FileAlreadyExists "file_already_exists" 409 "Something is at the path already.";
    DirectoryNotEmpty "directory_not_empty" 409 "The directory is not empty.";
    StreamGap "stream_gap" 409 "The requested log position is no longer retained.";
    SandboxDestroyed "sandbox_destroyed" 410 "The sandbox is destroyed, expired or failed.";
    FileTooLarge "file_too_large" 413 "More bytes than this call takes.";
    PayloadTooLarge "payload_too_large" 413 "The request body is larger than any this route takes.";
    UnsupportedMediaType "unsupported_media_type" 415 "The body's content type is not one this route takes.";
    QuotaExceeded "quota_exceeded" 429 "A quota of the plan is used up.";
    RateLimited "rate_limited" 429 "Too many requests in this window.";
    InternalError "internal_error" 500 "A fault of the server.";
    RuntimeError "runtime_error" 500 "A fault of the sandbox's runtime.";
    PreviewUnavailable "preview_unavailable" 502 "Nothing answers at the preview's port, or its sandbox is gone.";
    ResourceAllocationFailed "resource_allocation_failed" 503 "No capacity at the moment.";
    Unavailable "unavailable" 503 "A part that the server needs does not answer at the moment.";
}

impl Code {
    /// Whether the same request may succeed later without being changed (contract, section 2).
    #[must_use]
    pub const fn retryable(self) -> bool {
        matches!(self.status(), 408 | 425 | 429 | 500..)
            || matches!(self, Self::IdempotencyRequestInProgress)
    }
}

/// A rule said no. The text is for the caller and holds nothing from inside.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// Why, for programs.
    pub code: Code,
    /// Why, for people.
    pub message: String,
    /// The request field that is wrong, if one is.
    pub field: Option<String>,
}

impl Refused {
    /// A refusal that is about no single field.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), field: None }
    }

    /// A refusal of one field's value; the message says what the field must be.
    pub fn field(code: Code, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), field: Some(field.into()) }
    }

    /// `invalid_request` for one field.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::field(Code::InvalidRequest, field, message)
    }

    /// The code.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.code
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    #[test]
    fn the_list_of_codes_is_the_golden_one() {
        let mut printed = String::new();
        for code in Code::ALL {
            let retry = if code.retryable() { "retry" } else { "-" };
            writeln!(
                printed,
                "{} {:<32} {:<5} {}",
                code.status(),
                code.as_str(),
                retry,
                code.meaning()
            )
            .unwrap();
        }
        crate::golden::check("codes.txt", &printed);
    }
}
