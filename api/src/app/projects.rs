//! Projects: list and create.

use std::sync::Arc;

use domain::{
    Code, Refused,
    id::ProjectId,
    organization::{Project, check_name},
};
use store::{Page, PageRequest};

use super::{
    App, Caller,
    error::{Error, Result},
    idempotency::{self, Answer, Idempotent, Known},
};

/// Lists the projects that the caller sees, newest first.
///
/// # Errors
/// When the database does not answer.
pub async fn list(app: &Arc<App>, caller: &Caller, page: PageRequest) -> Result<Page<Project>> {
    Ok(store::projects(caller.reach()).list(app.db.read(), page).await?)
}

/// Creates a project.
///
/// # Errors
/// `invalid_request` for the name; `forbidden` for a key that is restricted to projects, which could
/// not see the new one.
pub async fn create(
    app: &Arc<App>,
    caller: &Caller,
    idempotent: Option<Idempotent>,
    name: String,
    print: impl Fn(&Project) -> Answer + Send,
) -> Result<Answer> {
    match idempotency::look_up(app, caller, idempotent.as_ref()).await? {
        Known::Fresh => {}
        Known::Answered(answer) => return Ok(answer),
        Known::Running(..) => return Err(Error::InProgress),
    }
    if caller.key.project_ids.is_some() {
        return Err(Refused::new(
            Code::Forbidden,
            "a key that is restricted to projects cannot create one",
        )
        .into());
    }
    let now = app.clock.now();
    let project = Project {
        id: ProjectId::generate(now),
        org_id: caller.org_id(),
        name: check_name(&name, "name")?,
        is_default: false,
        created_at: now,
    };
    let answer = print(&project);
    let tx = app.db.begin().await?;
    if !idempotency::record(app, &tx, caller, idempotent.as_ref(), None, Some(&answer)).await? {
        return Err(Error::InProgress);
    }
    store::projects(caller.reach()).insert(&tx, &project).await?;
    tx.commit().await?;
    Ok(answer)
}
