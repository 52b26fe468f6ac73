//! Who asks: the authenticated key with its organization, made once per request and the first
//! argument of every use case. Decides scopes; finds nothing.

use std::sync::Arc;

use domain::{
    Code, Refused,
    id::{OrganizationId, ProjectId},
    key::ApiKey,
    limits::Limits,
    organization::Organization,
    scope::Scope,
};
use store::Reach;

/// An authenticated caller.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The key that was presented.
    pub key: Arc<ApiKey>,
    /// The organization it belongs to.
    pub organization: Arc<Organization>,
    /// The limits of its plan, the installation's overrides applied.
    pub limits: Limits,
    /// The id of this request, for logs and error bodies.
    pub request_id: String,
    /// The address that it came from, for the audit trail.
    pub origin: String,
}

impl Caller {
    /// Refuses unless the key holds a scope. Called exactly once per operation.
    ///
    /// # Errors
    /// `forbidden`, naming the scope.
    pub fn may(&self, scope: Scope) -> Result<(), Refused> {
        if self.key.scopes.contains(scope) {
            return Ok(());
        }
        Err(Refused::new(Code::Forbidden, format!("the key lacks the scope {scope}")))
    }

    /// What of the tenant tables this caller can see.
    #[must_use]
    pub fn reach(&self) -> Reach {
        Reach::Tenant { org: self.org_id(), projects: self.key.project_ids.clone() }
    }

    /// The caller's organization.
    #[must_use]
    pub fn org_id(&self) -> OrganizationId {
        self.organization.id
    }

    /// Whether the key may touch a project of its organization.
    #[must_use]
    pub fn sees_project(&self, id: ProjectId) -> bool {
        self.key.project_ids.as_ref().is_none_or(|ids| ids.contains(&id))
    }
}
