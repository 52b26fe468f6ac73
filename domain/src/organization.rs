//! Organizations, users and projects: who the platform's customers are. No credentials here.

use std::{collections::BTreeMap, str::FromStr};

use chrono::{DateTime, Utc};

use crate::{
    code::{Code, Refused},
    id::{OrganizationId, ProjectId, UserId},
    limits::Plan,
};

/// A customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Organization {
    /// Its id.
    pub id: OrganizationId,
    /// Its name, unique in the installation.
    pub name: String,
    /// Its plan, until `next_plan` takes effect.
    pub plan: Plan,
    /// The plan that is to take effect, and when.
    pub next_plan: Option<(Plan, DateTime<Utc>)>,
    /// Limits that its operator set by name, whatever the plan says.
    pub limit_overrides: BTreeMap<String, u64>,
    /// Whether its keys open anything.
    pub standing: Standing,
    /// When what still runs of it is to end; `None` = nothing is to, or nothing runs any more.
    pub cleanup_at: Option<DateTime<Utc>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// Whether an organization may do anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    Active,
    /// Its keys open nothing, and what runs of it ends unless it is resumed in time.
    Suspended {
        /// When it was suspended.
        since: DateTime<Utc>,
        /// Why.
        reason: String,
    },
    /// Its keys open nothing, nothing of it runs, and that is final. Its data and ledger stay.
    Closed {
        /// When it was closed.
        since: DateTime<Utc>,
        /// Why.
        reason: String,
    },
}

impl Standing {
    /// The wire and storage form.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended { .. } => "suspended",
            Self::Closed { .. } => "closed",
        }
    }

    /// Since when, and why, if it may not.
    #[must_use]
    pub fn since(&self) -> Option<(DateTime<Utc>, &str)> {
        match self {
            Self::Active => None,
            Self::Suspended { since, reason } | Self::Closed { since, reason } => {
                Some((*since, reason))
            }
        }
    }

    /// Refuses what only an active organization may.
    ///
    /// # Errors
    /// `org_suspended`.
    pub fn check(&self) -> Result<(), Refused> {
        match self {
            Self::Active => Ok(()),
            Self::Suspended { .. } => {
                Err(Refused::new(Code::OrgSuspended, "the organization is suspended"))
            }
            Self::Closed { .. } => {
                Err(Refused::new(Code::OrgSuspended, "the organization is closed"))
            }
        }
    }

    /// Refuses what cannot be done to an organization that is closed for good.
    ///
    /// # Errors
    /// `conflict`.
    pub fn check_open(&self) -> Result<(), Refused> {
        match self {
            Self::Active | Self::Suspended { .. } => Ok(()),
            Self::Closed { .. } => Err(is_closed()),
        }
    }

    /// What becomes of it when it is suspended; `None` = it is already.
    ///
    /// # Errors
    /// `conflict` for one that is closed.
    pub fn suspend(&self, since: DateTime<Utc>, reason: String) -> Result<Option<Self>, Refused> {
        match self {
            Self::Active => Ok(Some(Self::Suspended { since, reason })),
            Self::Suspended { .. } => Ok(None),
            Self::Closed { .. } => Err(is_closed()),
        }
    }

    /// What becomes of it when it is resumed; `None` = it is active already.
    ///
    /// # Errors
    /// `conflict` for one that is closed.
    pub fn resume(&self) -> Result<Option<Self>, Refused> {
        match self {
            Self::Active => Ok(None),
            Self::Suspended { .. } => Ok(Some(Self::Active)),
            Self::Closed { .. } => Err(is_closed()),
        }
    }

    /// What becomes of it when it is closed; `None` = it is already.
    #[must_use]
    pub fn close(&self, since: DateTime<Utc>, reason: String) -> Option<Self> {
        match self {
            Self::Active | Self::Suspended { .. } => Some(Self::Closed { since, reason }),
            Self::Closed { .. } => None,
        }
    }
}

fn is_closed() -> Refused {
    Refused::new(Code::Conflict, "the organization is closed, which is final")
}

impl Organization {
    /// The plan at an instant that is not before the last change.
    #[must_use]
    pub fn plan_at(&self, now: DateTime<Utc>) -> Plan {
        self.next_plan.filter(|(_, at)| *at <= now).map_or(self.plan, |(plan, _)| plan)
    }
}

/// A person in an organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its id.
    pub id: UserId,
    /// Where they belong.
    pub org_id: OrganizationId,
    /// Their address, unique in the organization.
    pub email: String,
    /// What they are there for.
    pub role: MemberRole,
    /// When they were added.
    pub created_at: DateTime<Utc>,
    /// When they were removed; what they did stays theirs.
    pub removed_at: Option<DateTime<Utc>>,
}

/// What a person is in an organization for. Kept for those who ask; keys alone open anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberRole {
    /// Answers for it.
    Owner,
    /// Looks after it.
    Admin,
    /// Works in it.
    Member,
}

impl MemberRole {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Owner, Self::Admin, Self::Member];
    /// Those whose holders may make keys, and list all of the organization's.
    pub const KEY_MAKERS: [Self; 2] = [Self::Owner, Self::Admin];

    /// The wire and storage form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Member => "member",
        }
    }
}

impl FromStr for MemberRole {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(())
    }
}

/// A folder of sandboxes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// Its id.
    pub id: ProjectId,
    /// Whose it is.
    pub org_id: OrganizationId,
    /// Its name; several projects may share one.
    pub name: String,
    /// Whether sandboxes without a project go here; one per organization.
    pub is_default: bool,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

const MAX_NAME_CHARS: usize = 128;

/// Checks a name that people give to something and returns it without outer white space.
///
/// # Errors
/// `invalid_request` naming `field`.
pub fn check_name(name: &str, field: &str) -> Result<String, Refused> {
    let name = name.trim();
    if name.is_empty()
        || name.chars().count() > MAX_NAME_CHARS
        || name.chars().any(char::is_control)
    {
        return Err(Refused::invalid(
            field,
            format!("{field} must be 1 to {MAX_NAME_CHARS} characters without control characters"),
        ));
    }
    Ok(name.to_owned())
}

const MAX_EMAIL_BYTES: usize = 254;

/// Checks an address as far as it can be without writing to it.
///
/// # Errors
/// `invalid_request` naming `email`.
pub fn check_email(email: &str) -> Result<String, Refused> {
    let email = email.trim();
    let well_formed = email.len() <= MAX_EMAIL_BYTES
        && email.split_once('@').is_some_and(|(local, host)| !local.is_empty() && !host.is_empty())
        && !email.chars().any(|c| c.is_whitespace() || c.is_control());
    if !well_formed {
        return Err(Refused::invalid("email", "email must be an address"));
    }
    Ok(email.to_owned())
}

const MAX_REASON_CHARS: usize = 500;

/// Checks why an operator does something and returns it without outer white space.
///
/// # Errors
/// `invalid_request` naming `reason`.
pub fn check_reason(reason: &str) -> Result<String, Refused> {
    let reason = reason.trim();
    if reason.is_empty() || reason.chars().count() > MAX_REASON_CHARS || reason.contains('\0') {
        let text = format!("reason must be 1 to {MAX_REASON_CHARS} characters");
        return Err(Refused::invalid("reason", text));
    }
    Ok(reason.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_of_a_standing() {
        let (since, reason) = (DateTime::UNIX_EPOCH, || "r".to_owned());
        let suspended = Standing::Suspended { since, reason: reason() };
        let closed = Standing::Closed { since, reason: reason() };
        let becomes = |result: Result<Option<Standing>, Refused>| match result {
            Ok(Some(next)) => next.as_str(),
            Ok(None) => "as it is",
            Err(refused) => refused.code.as_str(),
        };
        for (from, on_suspend, on_resume, on_close) in [
            (Standing::Active, "suspended", "as it is", "closed"),
            (suspended, "as it is", "active", "closed"),
            (closed, "conflict", "conflict", "as it is"),
        ] {
            assert_eq!(becomes(from.suspend(since, reason())), on_suspend, "{from:?}");
            assert_eq!(becomes(from.resume()), on_resume, "{from:?}");
            assert_eq!(becomes(Ok(from.close(since, reason()))), on_close, "{from:?}");
            assert_eq!(from.check().is_ok(), from == Standing::Active);
        }
    }
}
