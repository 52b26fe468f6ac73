//! Projects on the wire (contract, section 8.1).

use poem::http::StatusCode;
use poem_openapi::{Object, OpenApi};
use serde::Deserialize;

use chrono::{DateTime, Utc};
use domain::{
    id::{OrganizationId, ProjectId, entity},
    organization::Project,
};
use store::Page;

use super::{
    Tag,
    error::ApiError,
    extract::{Auth, Cursor, IdempotencyKey, JsonBody, Limit, Query, page},
    responses::{Json, Stored, answer, list_view},
    wire::Wire,
};
use crate::app::projects;

/// A folder of sandboxes, and what a key can be restricted to.
#[derive(Debug, Object)]
#[oai(rename = "Project", rename_all = "camelCase")]
pub struct ProjectView {
    id: Wire<ProjectId>,
    org_id: Wire<OrganizationId>,
    name: String,
    created_at: Wire<DateTime<Utc>>,
}

impl From<&Project> for ProjectView {
    fn from(project: &Project) -> Self {
        Self {
            id: Wire(project.id),
            org_id: Wire(project.org_id),
            name: project.name.clone(),
            created_at: Wire(project.created_at),
        }
    }
}

list_view! {
    /// A page of projects.
    ProjectList of ProjectView
}

impl From<Page<Project>> for ProjectList {
    fn from(found: Page<Project>) -> Self {
        Self::new(found.items.iter().map(ProjectView::from).collect(), found.has_more)
    }
}

/// One project.
#[derive(Debug, Object)]
pub struct ProjectResponse {
    pub(in crate::http) project: ProjectView,
}

/// What a new project is made from.
#[derive(Debug, Object, Deserialize)]
#[oai(rename = "CreateProjectBody", rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
pub struct CreateProject {
    /// What to call it; names need not be unique.
    #[oai(validator(min_length = 1, max_length = 128))]
    pub(in crate::http) name: String,
}

/// The routes of projects.
#[derive(Debug)]
pub struct Projects;

#[OpenApi(prefix_path = "/v1", tag = "Tag::Projects")]
impl Projects {
    /// List the projects that the key can touch, newest first.
    #[oai(path = "/projects", method = "get", operation_id = "listProjects")]
    async fn list(
        &self,
        caller: Auth,
        limit: Query<Limit<50>>,
        cursor: Query<Option<Cursor<entity::Project>>>,
    ) -> Result<Json<ProjectList>, ApiError> {
        Ok(Json(projects::list(caller.app(), &caller, page(&limit, cursor)).await?.into()))
    }

    /// Create a project.
    #[oai(path = "/projects", method = "post", operation_id = "createProject")]
    async fn create(
        &self,
        caller: Auth,
        #[oai(name = "Idempotency-Key")] key: IdempotencyKey,
        body: JsonBody<CreateProject>,
    ) -> Result<Stored<ProjectResponse, 201>, ApiError> {
        let idempotent = key.of(&body.json);
        let print = |project: &Project| {
            answer(StatusCode::CREATED, &ProjectResponse { project: project.into() })
        };
        let name = body.value.name;
        Ok(projects::create(caller.app(), &caller, idempotent, name, print).await?.into())
    }
}
