//! Operators: their keys, and the roles that say what a key may do. Which role may call what is in the
//! admin API's table of operations.

use std::str::FromStr;

use chrono::{DateTime, Utc};

use crate::{id::AdminKeyId, key::KeyKind};

/// What an operator is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Everything, the keys of other operators included.
    Owner,
    /// Money: plans, prices, credit, caps, statements; and to suspend who does not pay.
    Billing,
    /// Customers: organizations, their members, projects, keys and sandboxes.
    Support,
    /// To read everything and change nothing.
    Auditor,
}

impl Role {
    /// Every role, from the most powerful one on.
    pub const ALL: &'static [Self] = &[Self::Owner, Self::Billing, Self::Support, Self::Auditor];

    /// The wire form, such as `owner`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Billing => "billing",
            Self::Support => "support",
            Self::Auditor => "auditor",
        }
    }
}

/// A text that is none of the roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a role: there are owner, billing, support and auditor")]
pub struct UnknownRole;

impl FromStr for Role {
    type Err = UnknownRole;
    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL.iter().copied().find(|role| role.as_str() == text).ok_or(UnknownRole)
    }
}

/// An operator's key as everybody but its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminKey {
    /// Its id.
    pub id: AdminKeyId,
    /// What its maker called it.
    pub name: String,
    /// The public part, unique among all admin keys.
    pub lookup: String,
    /// The last four characters.
    pub last_four: String,
    /// What it may do.
    pub role: Role,
    /// The key that made it; `None` = whoever has access to the installation itself.
    pub created_by: Option<AdminKeyId>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was revoked; a revoked key opens nothing.
    pub revoked_at: Option<DateTime<Utc>>,
    /// When it was last seen, to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
}

impl AdminKey {
    /// The characters by which it is shown and searched.
    #[must_use]
    pub fn prefix(&self) -> String {
        KeyKind::Admin.display(&self.lookup)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_is_read_as_it_is_printed() {
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(*role));
        }
        assert_eq!("root".parse::<Role>(), Err(UnknownRole));
    }
}
