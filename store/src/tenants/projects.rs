//! Queries of projects.

use domain::{
    id::{OrganizationId, ProjectId},
    organization::Project,
};
use migrations::rows::ProjectRow;
use sea_orm::ConnectionTrait;

use crate::{
    Page, PageRequest, Reach,
    db::{Sql, Tx},
    error::{Error, Result},
    time,
};

/// The projects within reach.
#[must_use]
pub const fn projects(reach: Reach) -> Projects {
    Projects { reach }
}

/// The projects within a reach.
#[derive(Debug, Clone)]
pub struct Projects {
    reach: Reach,
}

impl Projects {
    /// The project.
    ///
    /// # Errors
    /// [`Error::Missing`].
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, project = %id))]
    pub async fn get(&self, c: &impl ConnectionTrait, id: ProjectId) -> Result<Project> {
        let sql = Sql::new(SELECT, []).text("p.id = ").bind(id.uuid());
        let row = self.reach.by_project(sql, "p.org_id", "p.id").one(c).await?;
        from_row(row.ok_or(Error::Missing("project"))?)
    }

    /// A page of projects.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach))]
    pub async fn list(&self, c: &impl ConnectionTrait, page: PageRequest) -> Result<Page<Project>> {
        let sql = self.reach.by_project(Sql::new(SELECT, []).text("true"), "p.org_id", "p.id");
        page.page(page.apply(sql, "p.id").all(c).await?, from_row)
    }

    /// The project that work without a project goes to: the organization's default one, or the first
    /// of those that the reach is restricted to (contract, section 8.1).
    ///
    /// # Errors
    /// [`Error::Missing`].
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach))]
    pub async fn default(&self, c: &impl ConnectionTrait) -> Result<Project> {
        if let Reach::Tenant { org: _, projects: Some(projects) } = &self.reach {
            let first = projects.first().ok_or(Error::Missing("project"))?;
            return self.get(c, *first).await;
        }
        let sql = Sql::new(SELECT, []).text("p.is_default");
        let row = self.reach.by_project(sql, "p.org_id", "p.id").one(c).await?;
        from_row(row.ok_or(Error::Missing("project"))?)
    }

    /// The oldest project of this name.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach))]
    pub async fn find_by_name(
        &self,
        c: &impl ConnectionTrait,
        name: &str,
    ) -> Result<Option<Project>> {
        let sql = Sql::new(SELECT, []).text("p.name = ").bind(name);
        let sql = self.reach.by_project(sql, "p.org_id", "p.id").text(" order by p.id limit 1");
        sql.one(c).await?.map(from_row).transpose()
    }

    /// Gives a project another name.
    ///
    /// # Errors
    /// [`Error::Missing`].
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, project = %id))]
    pub async fn rename(&self, tx: &Tx, id: ProjectId, name: &str) -> Result<Project> {
        let values = [id.uuid().into(), name.into()];
        let sql = Sql::new("update projects as p set name = $2 where p.id = $1", values);
        if self.reach.by_project(sql, "p.org_id", "p.id").execute(tx).await? == 0 {
            return Err(Error::Missing("project"));
        }
        self.get(tx, id).await
    }

    /// Writes a new project.
    ///
    /// # Errors
    /// [`Error::Taken`] with `projects_one_default_per_org`; [`Error::Missing`] for another
    /// organization's.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, project = %project.id))]
    pub async fn insert(&self, tx: &Tx, project: &Project) -> Result<()> {
        self.reach.must_cover(project.org_id, None)?;
        Sql::new(
            "insert into projects (id, org_id, name, is_default, created_at)
             values ($1, $2, $3, $4, $5)",
            [
                project.id.uuid().into(),
                project.org_id.uuid().into(),
                project.name.as_str().into(),
                project.is_default.into(),
                time::micros(project.created_at).into(),
            ],
        )
        .execute(tx)
        .await?;
        Ok(())
    }
}

const SELECT: &str =
    "select p.id, p.org_id, p.name, p.is_default, p.created_at from projects p where ";

fn from_row(row: ProjectRow) -> Result<Project> {
    Ok(Project {
        id: ProjectId::from_uuid(row.id),
        org_id: OrganizationId::from_uuid(row.org_id),
        name: row.name,
        is_default: row.is_default,
        created_at: time::instant(row.created_at)?,
    })
}
