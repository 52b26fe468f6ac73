//! Plans and their limits (contract, section 7.1) and the fixed limits of the API. An operator's
//! overrides are applied by the caller; nothing here reads configuration.

use std::str::FromStr;

use crate::code::{Code, Refused};

/// A plan. Unknown names read from storage fall back to `free`, never to more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Plan {
    /// The free plan.
    Free,
    /// The smallest paid plan, and the default of a self-hosted installation.
    Builder,
    /// The plan for teams of the standard catalogue.
    Scale,
    /// The plan by contract.
    Enterprise,
    /// The smallest paid plan of the documentation's catalogue.
    Developer,
    /// The plan for teams of the documentation's catalogue.
    Team,
}

/// Which table of plans an installation offers (contract, section 7.1). Both call their free plan
/// `free`; a plan that is only in the other table keeps its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Catalogue {
    /// free, builder, scale, enterprise.
    Standard,
    /// free, developer, team: the table of the older documentation.
    Documented,
}

impl Catalogue {
    /// The plans that can be chosen.
    #[must_use]
    pub const fn plans(self) -> &'static [Plan] {
        match self {
            Self::Standard => &[Plan::Free, Plan::Builder, Plan::Scale, Plan::Enterprise],
            Self::Documented => &[Plan::Free, Plan::Developer, Plan::Team],
        }
    }
}

impl Plan {
    /// Every plan of both catalogues.
    pub const ALL: [Self; 6] =
        [Self::Free, Self::Builder, Self::Scale, Self::Enterprise, Self::Developer, Self::Team];

    /// The wire and storage form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Builder => "builder",
            Self::Scale => "scale",
            Self::Enterprise => "enterprise",
            Self::Developer => "developer",
            Self::Team => "team",
        }
    }

    /// The plan's limits before overrides.
    #[must_use]
    pub const fn limits(self, catalogue: Catalogue) -> Limits {
        match self {
            Self::Free => match catalogue {
                Catalogue::Standard => Limits::of(2, 60, 7),
                Catalogue::Documented => Limits {
                    max_create_ttl_ms: 30 * MINUTE_MS,
                    max_command_ms: Some(5 * MINUTE_MS),
                    ..Limits::of(1, 30, 7)
                },
            },
            Self::Builder => Limits::of(25, 24 * 60, 30),
            Self::Scale => Limits::of(100, 72 * 60, 90),
            Self::Enterprise => Limits::of(250, 168 * 60, 365),
            Self::Developer => {
                Limits { max_command_ms: Some(20 * MINUTE_MS), ..Limits::of(3, 60, 30) }
            }
            Self::Team => Limits { max_create_ttl_ms: 2 * HOUR_MS, ..Limits::of(10, 120, 30) },
        }
    }
}

impl FromStr for Plan {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        Self::ALL.into_iter().find(|plan| plan.as_str() == text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|plan| plan.as_str()).collect();
            Refused::invalid("plan", format!("plan must be one of {}", names.join(", ")))
        })
    }
}

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;

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
    /// Active previews of the organization at a time.
    pub max_active_previews: u32,
    /// Active previews of one sandbox at a time.
    pub max_active_previews_per_sandbox: u32,
    /// Days for which artifacts and logs are kept.
    pub retention_days: u32,
    /// Longest run of one command, in milliseconds; `None` = as long as its sandbox lives.
    pub max_command_ms: Option<u64>,
    /// Time without activity after which a sandbox is reclaimed; `None` = never.
    pub idle_timeout_ms: Option<u64>,
}

/// Names of limits that an operator can set for an organization.
pub const LIMIT_NAMES: [&str; 9] = [
    "max_concurrent_sandboxes",
    "max_create_ttl_ms",
    "max_extend_ttl_ms",
    "max_session_ttl_ms",
    "max_direct_write_bytes",
    "max_active_previews",
    "max_active_previews_per_sandbox",
    "retention_days",
    "max_command_ms",
];

impl Limits {
    const fn of(concurrent: u32, session_minutes: u64, retention_days: u32) -> Self {
        Self {
            max_concurrent_sandboxes: concurrent,
            max_create_ttl_ms: HOUR_MS,
            max_extend_ttl_ms: session_minutes * MINUTE_MS,
            max_session_ttl_ms: session_minutes * MINUTE_MS,
            max_direct_write_bytes: 262_144,
            max_active_previews: 10,
            max_active_previews_per_sandbox: 3,
            retention_days,
            max_command_ms: None,
            idle_timeout_ms: None,
        }
    }

    /// The limits that an operator can set, by name; one that is not there has no end.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let value = |name: &'static str| match name {
            "max_concurrent_sandboxes" => Some(self.max_concurrent_sandboxes.into()),
            "max_create_ttl_ms" => Some(self.max_create_ttl_ms),
            "max_extend_ttl_ms" => Some(self.max_extend_ttl_ms),
            "max_session_ttl_ms" => Some(self.max_session_ttl_ms),
            "max_direct_write_bytes" => Some(self.max_direct_write_bytes),
            "max_active_previews" => Some(self.max_active_previews.into()),
            "max_active_previews_per_sandbox" => Some(self.max_active_previews_per_sandbox.into()),
            "retention_days" => Some(self.retention_days.into()),
            _ => self.max_command_ms,
        };
        LIMIT_NAMES.into_iter().filter_map(move |name| Some((name, value(name)?)))
    }

    /// Sets a limit by its name.
    ///
    /// # Errors
    /// `invalid_request` naming `limit` for an unknown name or a value that does not fit.
    pub fn set(&mut self, name: &str, value: u64) -> Result<(), Refused> {
        let small = || {
            u32::try_from(value)
                .map_err(|_| Refused::invalid("limit", format!("{name} is at most {}", u32::MAX)))
        };
        match name {
            "max_concurrent_sandboxes" => self.max_concurrent_sandboxes = small()?,
            "max_create_ttl_ms" => self.max_create_ttl_ms = value,
            "max_extend_ttl_ms" => self.max_extend_ttl_ms = value,
            "max_session_ttl_ms" => self.max_session_ttl_ms = value,
            "max_direct_write_bytes" => self.max_direct_write_bytes = value,
            "max_active_previews" => self.max_active_previews = small()?,
            "max_active_previews_per_sandbox" => self.max_active_previews_per_sandbox = small()?,
            "retention_days" => self.retention_days = small()?,
            "max_command_ms" => self.max_command_ms = Some(value),
            _ => {
                let names = LIMIT_NAMES.join(", ");
                return Err(Refused::invalid("limit", format!("limit must be one of {names}")));
            }
        }
        Ok(())
    }
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
    fn what_is_set_by_name_is_read_by_name() {
        let mut limits = Plan::Free.limits(Catalogue::Standard);
        assert_eq!(limits.named().count(), LIMIT_NAMES.len() - 1, "a command's time has no end");
        for (name, value) in LIMIT_NAMES.into_iter().zip(1_000..) {
            limits.set(name, value).unwrap();
        }
        assert!(limits.named().eq(LIMIT_NAMES.into_iter().zip(1_000..)));
    }

    #[test]
    fn lifetimes() {
        let limits = Plan::Builder.limits(Catalogue::Standard);
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

    /// The tables of contract section 7.1.
    #[test]
    fn plans() {
        let minutes = |ms: u64| ms / MINUTE_MS;
        let hour = 60;
        for (catalogue, plan, wanted) in [
            (Catalogue::Standard, Plan::Free, (2, hour, hour, 7, None)),
            (Catalogue::Standard, Plan::Builder, (25, hour, 24 * hour, 30, None)),
            (Catalogue::Standard, Plan::Scale, (100, hour, 72 * hour, 90, None)),
            (Catalogue::Standard, Plan::Enterprise, (250, hour, 168 * hour, 365, None)),
            (Catalogue::Documented, Plan::Free, (1, 30, 30, 7, Some(5))),
            (Catalogue::Documented, Plan::Developer, (3, hour, hour, 30, Some(20))),
            (Catalogue::Documented, Plan::Team, (10, 2 * hour, 2 * hour, 30, None)),
        ] {
            let limits = plan.limits(catalogue);
            let found = (
                limits.max_concurrent_sandboxes,
                minutes(limits.max_create_ttl_ms),
                minutes(limits.max_session_ttl_ms),
                limits.retention_days,
                limits.max_command_ms.map(minutes),
            );
            assert_eq!(found, wanted, "{plan:?} of {catalogue:?}");
            assert!(catalogue.plans().contains(&plan));
        }
    }

    #[test]
    fn every_limit_can_be_set_by_its_name() {
        for name in LIMIT_NAMES {
            let mut limits = Plan::Free.limits(Catalogue::Standard);
            limits.set(name, 7).unwrap();
            let unchanged = name == "retention_days"; // Seven is what the free plan has.
            assert_eq!(limits == Plan::Free.limits(Catalogue::Standard), unchanged, "{name}");
        }
        let mut limits = Plan::Free.limits(Catalogue::Standard);
        assert!(limits.set("max_fun", 7).is_err());
        assert!(limits.set("retention_days", u64::MAX).is_err());
    }
}
