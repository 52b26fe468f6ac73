//! Projects of organizations: list, get, create, rename.

use std::sync::Arc;

use domain::{
    id::{OrganizationId, ProjectId},
    organization::{Project, check_name},
};
use serde_json::json;
use store::{Page, PageRequest, Reach};

use super::{AdminCaller, Begun, Change, Outcome};
use crate::app::{
    App,
    audit::Act,
    error::Result,
    idempotency::{Answer, Idempotent},
};

const fn within(org: OrganizationId) -> Reach {
    Reach::Tenant { org, projects: None }
}

/// Lists an organization's projects, newest first.
///
/// # Errors
/// `not_found` for the organization.
pub async fn list(app: &App, org: OrganizationId, page: PageRequest) -> Result<Page<Project>> {
    store::organizations::get(app.db.read(), org).await?;
    Ok(store::projects(within(org)).list(app.db.read(), page).await?)
}

/// Gets one.
///
/// # Errors
/// `not_found`.
pub async fn get(app: &App, org: OrganizationId, id: ProjectId) -> Result<Project> {
    Ok(store::projects(within(org)).get(app.db.read(), id).await?)
}

/// Makes a project.
///
/// # Errors
/// `invalid_request` for the name, `not_found`, `conflict` for an organization that is closed, and those
/// of idempotency.
pub async fn create(
    app: &Arc<App>,
    caller: &AdminCaller,
    idempotent: Option<Idempotent>,
    (org, name): (OrganizationId, &str),
    print: impl Fn(&Project) -> Answer + Send,
) -> Result<Answer> {
    let name = check_name(name, "name")?;
    let change = match Change::begin(app, caller, idempotent).await? {
        Begun::Fresh(change) => change,
        Begun::Answered(answer) => return Ok(answer),
    };
    store::organizations::lock(&change.tx, org).await?.organization.standing.check_open()?;
    let id = ProjectId::generate(change.now);
    let project = Project { id, org_id: org, name, is_default: false, created_at: change.now };
    store::projects(within(org)).insert(&change.tx, &project).await?;
    finish(*change, "project.create", &project, print).await
}

/// Gives a project another name.
///
/// # Errors
/// `invalid_request` for the name, `not_found`, and those of idempotency.
pub async fn rename(
    app: &Arc<App>,
    caller: &AdminCaller,
    idempotent: Option<Idempotent>,
    (org, id, name): (OrganizationId, ProjectId, &str),
    print: impl Fn(&Project) -> Answer + Send,
) -> Result<Answer> {
    let name = check_name(name, "name")?;
    let change = match Change::begin(app, caller, idempotent).await? {
        Begun::Fresh(change) => change,
        Begun::Answered(answer) => return Ok(answer),
    };
    let project = store::projects(within(org)).rename(&change.tx, id, &name).await?;
    finish(*change, "project.rename", &project, print).await
}

async fn finish(
    change: Change,
    action: &'static str,
    project: &Project,
    print: impl Fn(&Project) -> Answer + Send,
) -> Result<Answer> {
    let outcome = Outcome {
        answer: print(project),
        replay: None,
        chain: project.org_id.into(),
        events: Vec::new(),
        acts: vec![Act::done(action, project.id, json!({ "name": project.name }))],
    };
    change.commit(outcome).await
}
