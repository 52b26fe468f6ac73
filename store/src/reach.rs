//! How far a caller sees: one tenant, or everyone for a named worker. Tables of tenants are reachable
//! only through a `Reach`, so that forgetting whose rows are meant does not compile.

use std::fmt;

use domain::id::{OrganizationId, ProjectId};
use uuid::Uuid;

use crate::{
    db::Sql,
    error::{Error, Result},
};

/// Whose rows a query sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// One organization's, and of nouns that lie in a project only those of some projects.
    Tenant {
        /// The organization.
        org: OrganizationId,
        /// The projects; `None` = all.
        projects: Option<Vec<ProjectId>>,
    },
    /// All organizations', for a background worker.
    Everyone {
        /// The worker, for the log.
        worker: &'static str,
    },
}

/// Makes the reach of a tenant.
#[derive(Debug)]
pub struct Scope;

impl Scope {
    /// The reach of an organization, restricted to `projects` if given.
    #[must_use]
    pub const fn org(org: OrganizationId, projects: Option<Vec<ProjectId>>) -> Reach {
        Reach::Tenant { org, projects }
    }
}

/// Makes the reach of a worker.
#[derive(Debug)]
pub struct Everyone;

impl Everyone {
    /// The reach of the background worker of this name.
    #[must_use]
    pub const fn for_worker(worker: &'static str) -> Reach {
        Reach::Everyone { worker }
    }
}

impl Reach {
    /// Appends the condition on a table's organization; the text before must end in a condition.
    pub(crate) fn by_org(&self, sql: Sql, org_column: &str) -> Sql {
        match self {
            Self::Tenant { org, projects: _ } => {
                sql.text(" and ").text(org_column).text(" = ").bind(org.uuid())
            }
            Self::Everyone { .. } => sql,
        }
    }

    /// As [`Self::by_org`], for a table whose rows lie in projects.
    pub(crate) fn by_project(&self, sql: Sql, org_column: &str, project_column: &str) -> Sql {
        let sql = self.by_org(sql, org_column);
        match self {
            Self::Tenant { org: _, projects: Some(projects) } => {
                sql.text(" and ").text(project_column).text(" in ").list(uuids(projects))
            }
            Self::Tenant { org: _, projects: None } | Self::Everyone { .. } => sql,
        }
    }

    /// Refuses to write a row that this reach could not read afterwards.
    pub(crate) fn must_cover(
        &self,
        org_id: OrganizationId,
        project_id: Option<ProjectId>,
    ) -> Result<()> {
        match self {
            Self::Tenant { org, projects } => {
                if *org != org_id {
                    return Err(Error::Missing("organization"));
                }
                match (projects, project_id) {
                    (Some(projects), Some(project)) if !projects.contains(&project) => {
                        Err(Error::Missing("project"))
                    }
                    _ => Ok(()),
                }
            }
            Self::Everyone { .. } => Ok(()),
        }
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tenant { org, projects: _ } => fmt::Display::fmt(org, f),
            Self::Everyone { worker } => f.write_str(worker),
        }
    }
}

pub(crate) fn uuids<T>(ids: &[domain::id::Id<T>]) -> impl Iterator<Item = Uuid> {
    ids.iter().map(|id| id.uuid())
}

/// Which page of a list, newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest {
    /// At most so many items.
    pub limit: u32,
    /// Only items older than the one with this id: the last one of the page before.
    pub after: Option<Uuid>,
}

impl PageRequest {
    /// Appends cursor, order and limit; one row more than asked for tells whether there are more.
    pub(crate) fn apply(self, sql: Sql, id_column: &str) -> Sql {
        // The order is spelled as that of the indexes that lists are read from (ddl.rs of
        // `migrations`).
        self.ordered(sql, id_column, " desc nulls last limit ")
    }

    /// As [`Self::apply`], for a list of everything, which is read from the primary key.
    pub(crate) fn apply_by_key(self, sql: Sql, id_column: &str) -> Sql {
        self.ordered(sql, id_column, " desc limit ")
    }

    fn ordered(self, mut sql: Sql, id_column: &str, order: &str) -> Sql {
        if let Some(after) = self.after {
            sql = sql.text(" and ").text(id_column).text(" < ").bind(after);
        }
        // Ids are UUIDv7, so their order is that of creation, and no two are equal.
        let limit = i64::from(self.limit).saturating_add(1);
        sql.text(" order by ").text(id_column).text(order).bind(limit)
    }

    pub(crate) fn page<R, T>(
        self,
        mut rows: Vec<R>,
        from_row: impl FnMut(R) -> Result<T>,
    ) -> Result<Page<T>> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        Ok(Page { items: rows.into_iter().map(from_row).collect::<Result<_>>()?, has_more })
    }
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The items, newest first.
    pub items: Vec<T>,
    /// Whether older ones follow.
    pub has_more: bool,
}
