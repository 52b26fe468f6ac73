//! Organizations as operators see them: create, list, get.

use std::sync::Arc;

use domain::{
    Code, Refused,
    id::OrganizationId,
    limits::Plan,
    organization::{Organization, check_name},
};
use store::{Page, PageRequest};

use super::{AdminCaller, Begun, Change, Outcome};
use crate::app::{
    App,
    billing::Rules,
    error::{Error, Result},
    idempotency::{Answer, Idempotent},
    tenants,
};

/// An organization to be made.
#[derive(Debug, Clone)]
pub struct NewOrganization {
    /// Its name, unique in the installation.
    pub name: String,
    /// Its plan; the installation's default one if none is named.
    pub plan: Option<Plan>,
}

/// Lists all organizations, newest first.
///
/// # Errors
/// When the database does not answer.
pub async fn list(app: &App, page: PageRequest) -> Result<Page<Organization>> {
    Ok(store::organizations::list(app.db.read(), page).await?)
}

/// Gets one.
///
/// # Errors
/// `not_found`.
pub async fn get(app: &App, id: OrganizationId) -> Result<Organization> {
    Ok(store::organizations::get(app.db.read(), id).await?)
}

/// Makes an organization with its default project and its account, and no key.
///
/// # Errors
/// `invalid_request` for the name or a plan that the installation does not offer, `conflict` for a
/// name that is taken, and those of idempotency.
pub async fn create(
    app: &Arc<App>,
    caller: &AdminCaller,
    idempotent: Option<Idempotent>,
    new: NewOrganization,
    print: impl Fn(&Organization) -> Answer + Send,
) -> Result<Answer> {
    let name = check_name(&new.name, "name")?;
    let plan = plan(app, new.plan)?;
    let change = match Change::begin(app, caller, idempotent).await? {
        Begun::Fresh(change) => change,
        Begun::Answered(answer) => return Ok(answer),
    };
    let rules = Rules::of(&app.config);
    let mut acts = Vec::new();
    let new = (name, plan);
    let made = tenants::make_organization(&change.tx, &rules, change.now, new, &mut acts).await;
    let organization = match made {
        Ok(organization) => organization,
        Err(Error::Store(store::Error::Taken(_))) => {
            let text = "an organization of this name exists already";
            return Err(Refused::field(Code::Conflict, "name", text).into());
        }
        Err(error) => return Err(error),
    };
    let outcome = Outcome {
        answer: print(&organization),
        replay: None,
        chain: organization.id.into(),
        events: Vec::new(),
        acts,
    };
    change.commit(outcome).await
}

fn plan(app: &App, wanted: Option<Plan>) -> Result<Plan> {
    let offered = app.config.catalogue().plans();
    match wanted {
        Some(plan) if offered.contains(&plan) => Ok(plan),
        Some(plan) => {
            let text = format!("this installation does not offer the plan {}", plan.as_str());
            Err(Refused::invalid("plan", text).into())
        }
        // Checked when the configuration was read.
        None => Ok(app
            .config
            .default_plan()
            .map_err(|error| Refused::invalid("plan", error.to_string()))?),
    }
}
