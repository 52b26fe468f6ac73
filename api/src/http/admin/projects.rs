//! Projects of organizations on the admin API's wire.

use poem::http::StatusCode;
use poem_openapi::{OpenApi, param::Path};

use domain::{
    id::{OrganizationId, ProjectId, entity},
    organization::Project,
};

use super::Tag;
use crate::{
    app::{admin::projects, idempotency::Answer},
    http::{
        error::ApiError,
        extract::{Admin, Cursor, IdempotencyKey, Limit, Query, StrictBody, page},
        projects::{CreateProject, ProjectList, ProjectResponse},
        responses::{Json, Stored, answer},
        wire::Wire,
    },
};

/// The routes of projects.
#[derive(Debug)]
pub struct Projects;

#[OpenApi(prefix_path = "/admin/v1", tag = "Tag::Projects")]
impl Projects {
    /// List an organization's projects, newest first.
    #[oai(
        path = "/organizations/:organizationId/projects",
        method = "get",
        operation_id = "listOrganizationProjects"
    )]
    async fn list(
        &self,
        caller: Admin,
        #[oai(name = "organizationId")] org: Path<Wire<OrganizationId>>,
        limit: Query<Limit<50>>,
        cursor: Query<Option<Cursor<entity::Project>>>,
    ) -> Result<Json<ProjectList>, ApiError> {
        Ok(Json(projects::list(caller.app(), org.0.0, page(&limit, cursor)).await?.into()))
    }

    /// Create a project.
    #[oai(
        path = "/organizations/:organizationId/projects",
        method = "post",
        operation_id = "createOrganizationProject"
    )]
    async fn create(
        &self,
        caller: Admin,
        #[oai(name = "Idempotency-Key")] key: IdempotencyKey,
        #[oai(name = "organizationId")] org: Path<Wire<OrganizationId>>,
        body: StrictBody<CreateProject>,
    ) -> Result<Stored<ProjectResponse, 201>, ApiError> {
        let (idempotent, new) = (key.of(&body.json), (org.0.0, &*body.value.name));
        let print = printed(StatusCode::CREATED);
        Ok(projects::create(caller.app(), &caller, idempotent, new, print).await?.into())
    }

    /// Get one project.
    #[oai(
        path = "/organizations/:organizationId/projects/:projectId",
        method = "get",
        operation_id = "getOrganizationProject"
    )]
    async fn get(
        &self,
        caller: Admin,
        #[oai(name = "organizationId")] org: Path<Wire<OrganizationId>>,
        #[oai(name = "projectId")] id: Path<Wire<ProjectId>>,
    ) -> Result<Json<ProjectResponse>, ApiError> {
        let project = projects::get(caller.app(), org.0.0, id.0.0).await?;
        Ok(Json(ProjectResponse { project: (&project).into() }))
    }

    /// Rename a project.
    #[oai(
        path = "/organizations/:organizationId/projects/:projectId",
        method = "patch",
        operation_id = "renameOrganizationProject"
    )]
    async fn rename(
        &self,
        caller: Admin,
        #[oai(name = "Idempotency-Key")] key: IdempotencyKey,
        #[oai(name = "organizationId")] org: Path<Wire<OrganizationId>>,
        #[oai(name = "projectId")] id: Path<Wire<ProjectId>>,
        body: StrictBody<CreateProject>,
    ) -> Result<Stored<ProjectResponse, 200>, ApiError> {
        let (idempotent, new) = (key.of(&body.json), (org.0.0, id.0.0, &*body.value.name));
        let print = printed(StatusCode::OK);
        Ok(projects::rename(caller.app(), &caller, idempotent, new, print).await?.into())
    }
}

fn printed(status: StatusCode) -> impl Fn(&Project) -> Answer {
    move |project| answer(status, &ProjectResponse { project: project.into() })
}
