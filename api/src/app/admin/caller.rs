//! Which operator asks: made once per request and the first argument of every use case of the admin
//! API. Decides roles; finds nothing.

use std::sync::Arc;

use domain::{
    Code, Refused,
    admin::{AdminKey, Role},
};
use serde_json::json;
use store::audit::Chain;

use crate::app::{
    App,
    audit::{self, Act, Actor},
    error::Result,
};

/// An authenticated operator.
#[derive(Debug, Clone)]
pub struct AdminCaller {
    /// The key that was presented.
    pub key: Arc<AdminKey>,
    /// The id of this request, for logs and error bodies.
    pub request_id: String,
    /// The address that it came from, for the audit trail.
    pub origin: String,
}

impl AdminCaller {
    /// Refuses unless the key has one of the roles. Called exactly once per operation.
    ///
    /// # Errors
    /// `forbidden`.
    pub fn may(&self, roles: &[Role]) -> std::result::Result<(), Refused> {
        if roles.contains(&self.key.role) {
            return Ok(());
        }
        let role = self.key.role.as_str();
        Err(Refused::new(Code::Forbidden, format!("the role {role} may not do this")))
    }

    /// Writes down that the caller asked for an operation that its role may not call. In the chain of
    /// the installation: nothing was done to any organization, and the path may name one that is none.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn note_refusal(&self, app: &App, operation: &'static str, path: &str) -> Result<()> {
        let details = json!({ "role": self.key.role.as_str() });
        let act = Act::refused(operation, path, Code::Forbidden, details);
        let tx = app.db.begin().await?;
        let actor = Actor::of_admin(self);
        audit::write(&tx, Chain::Installation, &actor, &[act], app.clock.now()).await?;
        Ok(tx.commit().await?)
    }
}
