//! Plans and their limits (contract, section 7.1) and the fixed limits of the API. An operator's
//! overrides are applied by the caller; nothing here reads configuration.

use std::str::FromStr;

use crate::code::{Code, Refused};

/// A plan. Unknown names read from storage fall back to `free`, never to more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// The free plan.
    Free,
    /// The smallest paid plan, and the default of a self-hosted installation.
    Builder,
    /// The plan for teams.
    Scale,
    /// The plan by contract.
    Enterprise,
}

impl Plan {
    /// The wire and storage form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Builder => "builder",
            Self::Scale => "scale",
            Self::Enterprise => "enterprise",
        }
    }

    /// The plan's limits before overrides.
    #[must_use]
    pub const fn limits(self) -> Limits {
        let (max_concurrent_sandboxes, hours) = match self {
            Self::Free => (2, 1),
            Self::Builder => (25, 24),
            Self::Scale => (100, 72),
            Self::Enterprise => (250, 168),
        };
        Limits {
            max_concurrent_sandboxes,
            max_create_ttl_ms: HOUR_MS,
            max_extend_ttl_ms: hours * HOUR_MS,
            max_session_ttl_ms: hours * HOUR_MS,
            max_direct_write_bytes: 262_144,
            idle_timeout_ms: None,
        }
    }
}

impl FromStr for Plan {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        match text {
            "free" => Ok(Self::Free),
            "builder" => Ok(Self::Builder),
            "scale" => Ok(Self::Scale),
            "enterprise" => Ok(Self::Enterprise),
            _ => Err(Refused::invalid("plan", "plan must be free, builder, scale or enterprise")),
        }
    }
}

const HOUR_MS: u64 = 3_600_000;

/// The limits of one organization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Live sandboxes at a time.
    pub max_concurrent_sandboxes: u32,
    /// Longest lifetime at creation, in milliseconds.
    pub max_create_ttl_ms: u64,
    /// Longest lifetime that one set-TTL may ask for, in milliseconds.
    pub max_extend_ttl_ms: u64,
    /// Longest time from creation to expiry, in milliseconds.
    pub max_session_ttl_ms: u64,
    /// Content bytes of one direct file read or write.
    pub max_direct_write_bytes: u64,
    /// Time without activity after which a sandbox is reclaimed; `None` = never.
    pub idle_timeout_ms: Option<u64>,
}

/// The lifetime of a sandbox whose creator names none, in milliseconds.
pub const DEFAULT_TTL_MS: u64 = HOUR_MS;

impl Limits {
    /// Checks a lifetime at creation.
    ///
    /// # Errors
    /// `invalid_request` for zero, `sandbox_ttl_exceeded` above the plan's limit.
    pub fn check_create_ttl(&self, ttl_ms: u64) -> Result<(), Refused> {
        check_ttl(ttl_ms, self.max_create_ttl_ms.min(self.max_session_ttl_ms))
    }

    /// Checks a set-TTL of a sandbox that is `age_ms` old.
    ///
    /// # Errors
    /// As [`Self::check_create_ttl`].
    pub fn check_set_ttl(&self, ttl_ms: u64, age_ms: u64) -> Result<(), Refused> {
        let session = self.max_session_ttl_ms.saturating_sub(age_ms);
        check_ttl(ttl_ms, self.max_extend_ttl_ms.min(session))
    }
}

fn check_ttl(ttl_ms: u64, max_ms: u64) -> Result<(), Refused> {
    if ttl_ms == 0 {
        return Err(Refused::invalid("ttlMs", "ttlMs must be a positive integer"));
    }
    if ttl_ms > max_ms {
        return Err(Refused::field(
            Code::SandboxTtlExceeded,
            "ttlMs",
            format!("ttlMs must be at most {max_ms} on this plan"),
        ));
    }
    Ok(())
}

/// The longest timeout of one command, in milliseconds.
pub const MAX_COMMAND_TIMEOUT_MS: u64 = 600_000;
/// The timeout of a foreground command whose caller names none, in milliseconds.
pub const DEFAULT_COMMAND_TIMEOUT_MS: u64 = 60_000;
/// Bytes of output kept inline on the command record, per stream (contract, section 10.6).
pub const MAX_INLINE_OUTPUT_BYTES: usize = 1 << 20;
/// Bytes of log retained per command; older chunks are dropped (contract, section 10.6).
pub const MAX_LOG_BYTES: u64 = 16 << 20;
/// Longest command line, in bytes: what Linux takes as one argument, less its final NUL.
pub const MAX_COMMAND_BYTES: usize = (128 << 10) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes() {
        let limits = Plan::Builder.limits();
        let check = |result: Result<(), Refused>, wanted: Option<Code>, why: &str| {
            assert_eq!(result.err().map(|refused| refused.code), wanted, "{why}");
        };
        check(limits.check_create_ttl(0), Some(Code::InvalidRequest), "zero");
        check(limits.check_create_ttl(HOUR_MS), None, "the limit itself");
        check(limits.check_create_ttl(HOUR_MS + 1), Some(Code::SandboxTtlExceeded), "above");
        check(limits.check_set_ttl(24 * HOUR_MS, 0), None, "a new sandbox, the whole session");
        check(
            limits.check_set_ttl(24 * HOUR_MS, 1),
            Some(Code::SandboxTtlExceeded),
            "the session is counted from creation",
        );
        check(limits.check_set_ttl(23 * HOUR_MS, HOUR_MS), None, "what is left of the session");
    }
}
