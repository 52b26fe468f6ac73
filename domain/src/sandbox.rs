//! A sandbox: its phases as a state machine, the status that the wire shows, and its record. The
//! machine returns effects as data; whoever stores the step carries them out.

use std::str::FromStr;

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    code::{Code, Refused},
    id::{ApiKeyId, OrganizationId, ProjectId, SandboxId, TemplateId, TemplateVersionId},
    metadata::Metadata,
};

/// The stored phase of a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Accepted; no driver was asked yet.
    Creating,
    /// A driver is making it.
    Starting,
    /// It runs and takes work.
    Ready,
    /// It has ended for its tenant; the driver is removing it.
    Expiring,
    /// It is gone.
    Destroyed,
    /// It could not start, or stopped by itself.
    Failed,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Self; 6] = [
        Self::Creating,
        Self::Starting,
        Self::Ready,
        Self::Expiring,
        Self::Destroyed,
        Self::Failed,
    ];
    /// The phases that take work or will, and that count against the concurrency quota.
    pub const LIVE: [Self; 3] = [Self::Creating, Self::Starting, Self::Ready];
    /// The phases that nothing leaves.
    pub const FINAL: [Self; 2] = [Self::Destroyed, Self::Failed];

    /// The storage form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Expiring => "expiring",
            Self::Destroyed => "destroyed",
            Self::Failed => "failed",
        }
    }

    /// Whether the sandbox takes work or will.
    #[must_use]
    pub fn is_live(self) -> bool {
        Self::LIVE.contains(&self)
    }

    /// Applies what a tenant asked for. A refusal is the tenant's 410.
    ///
    /// # Errors
    /// `sandbox_destroyed` for everything but a repeated kill once the sandbox has ended.
    pub fn ask(self, wish: Wish) -> Result<Step, Refused> {
        match self {
            Self::Creating | Self::Starting => match wish {
                Wish::Use | Wish::SetTtl => Ok(stay(self)),
                Wish::Kill => Ok(to(Self::Expiring, &[Effect::EndCommands, Effect::Remove])),
            },
            Self::Ready => match wish {
                Wish::Use | Wish::SetTtl => Ok(stay(self)),
                Wish::Kill => Ok(to(
                    Self::Expiring,
                    &[Effect::CloseMeter, Effect::EndCommands, Effect::Remove],
                )),
            },
            Self::Expiring | Self::Destroyed | Self::Failed => match wish {
                Wish::Use | Wish::SetTtl => Err(gone()),
                Wish::Kill => Ok(stay(self)),
            },
        }
    }

    /// Takes in what was seen. A fact is never refused: a late one is absorbed.
    #[must_use]
    pub fn learn(self, fact: Fact) -> Step {
        match self {
            Self::Creating => match fact {
                Fact::BootBegun => to(Self::Starting, &[]),
                Fact::BootDone => to(Self::Ready, &[Effect::OpenMeter]),
                Fact::BootFailed => to(Self::Failed, &[Effect::EndCommands, Effect::Remove]),
                Fact::EndDue => to(Self::Expiring, &[Effect::EndCommands, Effect::Remove]),
                Fact::Lost | Fact::Removed => stay(self),
            },
            Self::Starting => match fact {
                Fact::BootDone => to(Self::Ready, &[Effect::OpenMeter]),
                Fact::BootFailed => to(Self::Failed, &[Effect::EndCommands, Effect::Remove]),
                Fact::EndDue => to(Self::Expiring, &[Effect::EndCommands, Effect::Remove]),
                Fact::BootBegun | Fact::Lost | Fact::Removed => stay(self),
            },
            Self::Ready => match fact {
                Fact::Lost => {
                    to(Self::Failed, &[Effect::CloseMeter, Effect::EndCommands, Effect::Remove])
                }
                Fact::EndDue => {
                    to(Self::Expiring, &[Effect::CloseMeter, Effect::EndCommands, Effect::Remove])
                }
                Fact::BootBegun | Fact::BootDone | Fact::BootFailed | Fact::Removed => stay(self),
            },
            Self::Expiring => match fact {
                Fact::BootDone => to(self, &[Effect::Remove]),
                Fact::Removed => to(Self::Destroyed, &[]),
                Fact::BootBegun | Fact::BootFailed | Fact::Lost | Fact::EndDue => stay(self),
            },
            Self::Destroyed | Self::Failed => match fact {
                Fact::BootDone => to(self, &[Effect::Remove]),
                Fact::BootBegun | Fact::BootFailed | Fact::Lost | Fact::EndDue | Fact::Removed => {
                    stay(self)
                }
            },
        }
    }
}

impl FromStr for Phase {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|phase| phase.as_str() == text).ok_or(())
    }
}

/// What a tenant can ask of a sandbox. It may be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Run a command or touch a file.
    Use,
    /// Set a new lifetime.
    SetTtl,
    /// End it.
    Kill,
}

/// What was seen of a sandbox. It cannot be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    /// A driver was asked to make it.
    BootBegun,
    /// Its agent answered.
    BootDone,
    /// It will not come up.
    BootFailed,
    /// The driver does not run it any more.
    Lost,
    /// Its lifetime, its idle time or its operator's patience has ended.
    EndDue,
    /// The driver has removed it.
    Removed,
}

/// What must follow a step, in the same transaction where it is a row, else right after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Metering starts at this instant.
    OpenMeter,
    /// Metering stops at the instant of the end.
    CloseMeter,
    /// Active commands become `killed`.
    EndCommands,
    /// The driver must remove it.
    Remove,
}

/// A step of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The phase afterwards; may be the same.
    pub to: Phase,
    /// What follows.
    pub effects: &'static [Effect],
}

const fn to(phase: Phase, effects: &'static [Effect]) -> Step {
    Step { to: phase, effects }
}

const fn stay(phase: Phase) -> Step {
    Step { to: phase, effects: &[] }
}

/// The refusal of work on a sandbox that has ended.
#[must_use]
pub fn gone() -> Refused {
    Refused::new(Code::SandboxDestroyed, "the sandbox has ended; create a new one")
}

/// The status that the wire shows; three of them are derived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the contract's words, section 9.1")]
pub enum Status {
    Creating,
    Starting,
    Ready,
    Running,
    Idle,
    Expiring,
    Destroyed,
    Failed,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 8] = [
        Self::Creating,
        Self::Starting,
        Self::Ready,
        Self::Running,
        Self::Idle,
        Self::Expiring,
        Self::Destroyed,
        Self::Failed,
    ];

    /// The wire form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Idle => "idle",
            Self::Expiring => "expiring",
            Self::Destroyed => "destroyed",
            Self::Failed => "failed",
        }
    }
}

impl FromStr for Status {
    type Err = Refused;
    fn from_str(text: &str) -> Result<Self, Refused> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| Refused::invalid("status", "status must be a sandbox status"))
    }
}

/// Why a sandbox ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// Its tenant killed it.
    UserKilled,
    /// It reached `expires_at`.
    TtlExpired,
    /// It was without activity for the plan's idle time.
    IdleExpired,
    /// The platform ended it.
    PlatformCleanup,
}

impl EndReason {
    /// Every reason.
    pub const ALL: [Self; 4] =
        [Self::UserKilled, Self::TtlExpired, Self::IdleExpired, Self::PlatformCleanup];

    /// The wire and storage form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UserKilled => "user_killed",
            Self::TtlExpired => "ttl_expired",
            Self::IdleExpired => "idle_expired",
            Self::PlatformCleanup => "platform_cleanup",
        }
    }
}

impl FromStr for EndReason {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text).ok_or(())
    }
}

/// What commands say about a ready sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// No command ran yet.
    Unused,
    /// At least one command is active.
    Running,
    /// Commands ran, none is active.
    Idle,
}

/// The template version that a sandbox was made from, frozen at creation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateVersion {
    /// The template.
    pub template_id: TemplateId,
    /// The template's name on the wire, such as `python`.
    pub slug: String,
    /// The immutable version's id.
    pub id: TemplateVersionId,
    /// The version's name, such as `1.0.0`.
    pub version: String,
}

/// A sandbox's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// Its id.
    pub id: SandboxId,
    /// Whose it is.
    pub org_id: OrganizationId,
    /// The project it lies in.
    pub project_id: ProjectId,
    /// The key it was created with.
    pub created_by: ApiKeyId,
    /// What it was made from.
    pub template: TemplateVersion,
    /// The pricing version in force when it was accepted; its own for life.
    pub pricing_version: String,
    /// The stored phase.
    pub phase: Phase,
    /// Counts the changes of the row; what a compare-and-set compares.
    pub generation: i64,
    /// The host that runs it.
    pub host: String,
    /// The lifetime last asked for, in milliseconds.
    pub ttl_ms: u64,
    /// Labels.
    pub metadata: Metadata,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// When its agent first answered; the meter opened then.
    pub ready_at: Option<DateTime<Utc>>,
    /// When it will end, or would have.
    pub expires_at: DateTime<Utc>,
    /// When it ended for its tenant; the meter closed then.
    pub ended_at: Option<DateTime<Utc>>,
    /// Why it ended; absent for a failed one.
    pub end_reason: Option<EndReason>,
    /// When the driver had removed it.
    pub removed_at: Option<DateTime<Utc>>,
    /// When it was last used.
    pub last_activity_at: DateTime<Utc>,
    /// When the driver was last seen running it.
    pub seen_alive_at: Option<DateTime<Utc>>,
    /// What its commands say; read together with the row.
    pub activity: Activity,
}

impl Sandbox {
    /// The status to show at `now`: past `expires_at` a live sandbox is `expiring`, however late its
    /// cleanup is (contract, section 9.3).
    #[must_use]
    pub fn status(&self, now: DateTime<Utc>) -> Status {
        match self.phase {
            Phase::Creating | Phase::Starting | Phase::Ready if now >= self.expires_at => {
                Status::Expiring
            }
            Phase::Creating => Status::Creating,
            Phase::Starting => Status::Starting,
            Phase::Ready => match self.activity {
                Activity::Unused => Status::Ready,
                Activity::Running => Status::Running,
                Activity::Idle => Status::Idle,
            },
            Phase::Expiring => Status::Expiring,
            Phase::Destroyed => Status::Destroyed,
            Phase::Failed => Status::Failed,
        }
    }

    /// Checks a wish against the phase and the lifetime.
    ///
    /// # Errors
    /// `sandbox_destroyed` when the sandbox has ended or its lifetime has.
    pub fn ask(&self, wish: Wish, now: DateTime<Utc>) -> Result<Step, Refused> {
        if self.phase.is_live() && now >= self.expires_at && wish != Wish::Kill {
            return Err(gone());
        }
        self.phase.ask(wish)
    }

    /// The instant at which the sandbox ends for its tenant if it ends now: never after `expires_at`.
    #[must_use]
    pub fn end_at(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        now.min(self.expires_at).max(self.ready_at.unwrap_or(self.created_at))
    }

    /// The age at `now`, in milliseconds.
    #[must_use]
    pub fn age_ms(&self, now: DateTime<Utc>) -> u64 {
        u64::try_from((now - self.created_at).num_milliseconds()).unwrap_or(0)
    }
}

/// `from + ttl_ms`, saturating at the end of time.
#[must_use]
pub fn expiry(from: DateTime<Utc>, ttl_ms: u64) -> DateTime<Utc> {
    let ttl = i64::try_from(ttl_ms).ok().and_then(TimeDelta::try_milliseconds);
    ttl.and_then(|ttl| from.checked_add_signed(ttl)).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    #[test]
    fn the_machine_is_the_golden_table() {
        let wishes = [Wish::Use, Wish::SetTtl, Wish::Kill];
        let facts = [
            Fact::BootBegun,
            Fact::BootDone,
            Fact::BootFailed,
            Fact::Lost,
            Fact::EndDue,
            Fact::Removed,
        ];
        let mut table = String::new();
        let mut row = |phase: Phase, input: String, step: Option<Step>| {
            let outcome = step.map_or_else(
                || "refused".to_owned(),
                |step| {
                    let effects: Vec<_> = step.effects.iter().map(|e| format!("{e:?}")).collect();
                    format!("-> {:<10} {}", step.to.as_str(), effects.join(" "))
                },
            );
            writeln!(table, "{:<10} + {input:<16} {}", phase.as_str(), outcome.trim_end()).unwrap();
        };
        for phase in Phase::ALL {
            for wish in wishes {
                row(phase, format!("asked {wish:?}"), phase.ask(wish).ok());
            }
            for fact in facts {
                row(phase, format!("saw {fact:?}"), Some(phase.learn(fact)));
            }
        }
        crate::golden::check("sandbox_machine.txt", &table);
    }

    #[test]
    fn nothing_leaves_a_final_phase_and_every_live_one_can_end() {
        let facts = [
            Fact::BootBegun,
            Fact::BootDone,
            Fact::BootFailed,
            Fact::Lost,
            Fact::EndDue,
            Fact::Removed,
        ];
        for phase in Phase::FINAL {
            for fact in facts {
                assert_eq!(phase.learn(fact).to, phase, "{phase:?} {fact:?}");
            }
        }
        for phase in Phase::LIVE {
            assert!(!phase.learn(Fact::EndDue).to.is_live(), "{phase:?}");
            assert!(!phase.ask(Wish::Kill).unwrap().to.is_live(), "{phase:?}");
        }
    }

    #[test]
    fn the_meter_closes_whenever_ready_is_left_and_opens_whenever_it_is_entered() {
        let facts = [
            Fact::BootBegun,
            Fact::BootDone,
            Fact::BootFailed,
            Fact::Lost,
            Fact::EndDue,
            Fact::Removed,
        ];
        for phase in Phase::ALL {
            for fact in facts {
                let step = phase.learn(fact);
                let (was, is) = (phase == Phase::Ready, step.to == Phase::Ready);
                assert_eq!(
                    step.effects.contains(&Effect::OpenMeter),
                    !was && is,
                    "{phase:?} {fact:?}"
                );
                assert_eq!(
                    step.effects.contains(&Effect::CloseMeter),
                    was && !is,
                    "{phase:?} {fact:?}"
                );
            }
        }
    }
}
