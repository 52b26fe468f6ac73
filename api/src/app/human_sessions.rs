//! A person at work in an organization, as far as this server knows people: by their word, where the
//! operator has said that it counts (`dev_human_sessions`). Knows no headers.

use std::sync::Arc;

use domain::{
    Code, Refused,
    id::{OrganizationId, UserId},
    organization::{MemberRole, Organization},
};
use store::{ConnectionTrait, Reach, Tx};

use super::{App, audit::Actor, error::Result};

/// What somebody says about themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The organization that they work in.
    pub org_id: OrganizationId,
    /// Who they are.
    pub user_id: UserId,
    /// As what they come. It can be less than what they are, never more.
    pub role: MemberRole,
}

/// A person in an organization, during one request.
#[derive(Debug, Clone)]
pub struct HumanSession {
    /// Where they work.
    pub organization: Organization,
    /// Who they are.
    pub user_id: UserId,
    /// The id of this request.
    pub request_id: String,
    /// The address that it came from.
    pub origin: String,
}

impl HumanSession {
    /// Finds the person that somebody claims to be.
    ///
    /// # Errors
    /// `unauthorized` when there is nobody like that, or no longer; `forbidden` for a role that may not
    /// work with keys; `org_suspended`.
    pub async fn open(
        app: &Arc<App>,
        claims: Claims,
        request_id: &str,
        origin: String,
    ) -> Result<Self> {
        let c = app.db.read();
        let organization = found(store::organizations::get(c, claims.org_id).await)?;
        check_person(c, &organization, claims.user_id).await?;
        check_role(claims.role)?;
        let (user_id, request_id) = (claims.user_id, request_id.to_owned());
        Ok(Self { organization, user_id, request_id, origin })
    }

    /// Looks again before something is changed in their name. Until the transaction ends, the
    /// organization cannot be suspended and the person not be removed.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(super) async fn confirm(&self, tx: &Tx) -> Result<()> {
        let locked = found(store::organizations::lock(tx, self.organization.id).await)?;
        check_person(tx, &locked.organization, self.user_id).await
    }

    /// What of the tenant tables they can see.
    #[must_use]
    pub const fn reach(&self) -> Reach {
        Reach::Tenant { org: self.organization.id, projects: None }
    }

    /// Who acts, for the audit trail.
    #[must_use]
    pub fn actor(&self) -> Actor {
        Actor {
            name: self.user_id.to_string(),
            origin: self.origin.clone(),
            request_id: self.request_id.clone(),
        }
    }
}

/// Refuses whoever is not of the organization, or may not make keys there.
async fn check_person(
    c: &impl ConnectionTrait,
    organization: &Organization,
    id: UserId,
) -> Result<()> {
    let user = found(store::users::get(c, organization.id, id).await)?;
    if user.removed_at.is_some() {
        return Err(nobody().into());
    }
    organization.standing.check()?;
    check_role(user.role)
}

fn check_role(role: MemberRole) -> Result<()> {
    if MemberRole::KEY_MAKERS.contains(&role) {
        return Ok(());
    }
    let roles = MemberRole::KEY_MAKERS.map(MemberRole::as_str).join(", ");
    let text = format!("only these roles may work with keys: {roles}");
    Err(Refused::new(Code::Forbidden, text).into())
}

/// Whether it is the organization or the person that is unknown is not told.
fn found<T>(looked_up: store::Result<T>) -> Result<T> {
    match looked_up {
        Err(store::Error::Missing(_)) => Err(nobody().into()),
        other => Ok(other?),
    }
}

fn nobody() -> Refused {
    Refused::new(Code::Unauthorized, "no such person in such an organization")
}
