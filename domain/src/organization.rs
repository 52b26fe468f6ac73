//! Organizations, users and projects: who the platform's customers are. No credentials here.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::{
    code::Refused,
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
    /// When it was suspended; a suspended organization's keys open nothing.
    pub suspended_at: Option<DateTime<Utc>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
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
    /// When they were added.
    pub created_at: DateTime<Utc>,
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
