//! Makes organizations and their first keys. For the operator's command line; not reachable by keys.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use domain::{
    id::{OrganizationId, ProjectId, UserId},
    key::{ApiKey, KeyKind, KeySecret},
    limits::Plan,
    organization::{MemberRole, Organization, Project, Standing, User, check_email, check_name},
    scope::ScopeSet,
};
use serde_json::json;
use store::{Db, Reach, Tx};

use super::{
    api_keys::{NewKey, Told, check_projects, check_scopes},
    audit::{self, Act, Actor},
    billing::Rules,
    error::Result,
    events,
};
use crate::auth;

/// What to make. What exists already by name is used.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    /// The organization's name.
    pub organization: String,
    /// The plan of a new organization.
    pub plan: Plan,
    /// Whose key it is.
    pub email: String,
    /// A further project, made if the organization has none of this name yet.
    pub project: Option<String>,
    /// What the key may do.
    pub scopes: ScopeSet,
    /// Projects that the key is restricted to; empty = none.
    pub project_ids: Vec<ProjectId>,
    /// Whether the key is restricted to `project`.
    pub restrict_to_project: bool,
    /// The key's name.
    pub key_name: String,
}

/// What was made or found.
#[derive(Debug)]
pub struct Bootstrapped {
    /// The organization.
    pub organization: Organization,
    /// The key's maker.
    pub user_id: UserId,
    /// The named project, or the default one.
    pub project_id: ProjectId,
    /// The key's record.
    pub key: ApiKey,
    /// The key itself; shown once.
    pub secret: KeySecret,
}

/// Makes an organization with its default project, a user and a key, in one transaction.
///
/// # Errors
/// `invalid_request` for a name, the scopes or a project that is not the organization's.
pub async fn bootstrap(
    db: &Db,
    rules: &Rules,
    now: DateTime<Utc>,
    wanted: Bootstrap,
) -> Result<Bootstrapped> {
    check_scopes(&wanted.scopes)?;
    let name = check_name(&wanted.organization, "organization")?;
    let secret = auth::generate_key(KeyKind::Api);
    let hash = auth::hash_key(&secret);
    let tx = db.begin().await?;
    let mut acts = Vec::new();
    let organization = match store::organizations::find_by_name(&tx, &name).await? {
        Some(found) => {
            found.standing.check_open()?;
            found
        }
        None => make_organization(&tx, rules, now, (name, wanted.plan), &mut acts).await?,
    };
    let user_id = user(&tx, now, organization.id, &wanted.email).await?;
    let project_id = project(&tx, now, &organization, wanted.project.as_deref()).await?;
    let mut project_ids = wanted.project_ids;
    if wanted.restrict_to_project {
        project_ids.push(project_id);
    }
    let project_ids = (!project_ids.is_empty()).then_some(project_ids);
    let project_ids = check_projects(&tx, organization.id, project_ids, "project-id").await?;
    let new = NewKey {
        org: organization.id,
        name: check_name(&wanted.key_name, "key-name")?,
        scopes: wanted.scopes,
        project_ids,
        created_by: user_id,
    };
    let Told { key, event, act } = new.insert(&tx, (&secret, &hash), now).await?;
    events::emit(&tx, &[event], now).await?;
    acts.push(act);
    audit::write(&tx, organization.id, &Actor::operator(), &acts, now).await?;
    tx.commit().await?;
    Ok(Bootstrapped { organization, user_id, project_id, key, secret })
}

/// Makes an organization with its default project and its account. What the caller is to write down of
/// it goes to `acts`.
///
/// # Errors
/// `Taken` for a name that exists.
pub(super) async fn make_organization(
    tx: &Tx,
    rules: &Rules,
    now: DateTime<Utc>,
    (name, plan): (String, Plan),
    acts: &mut Vec<Act>,
) -> Result<Organization> {
    let organization = Organization {
        id: OrganizationId::generate(now),
        name,
        plan,
        next_plan: None,
        limit_overrides: BTreeMap::new(),
        standing: Standing::Active,
        cleanup_at: None,
        created_at: now,
    };
    store::organizations::insert(tx, &organization).await?;
    insert_project(tx, now, organization.id, "default", true).await?;
    let details = json!({ "name": organization.name, "plan": organization.plan.as_str() });
    acts.push(Act::done("organization.create", organization.id, details));
    super::billing::open_account(tx, rules, organization.id, now, acts).await?;
    Ok(organization)
}

async fn user(tx: &Tx, now: DateTime<Utc>, org_id: OrganizationId, email: &str) -> Result<UserId> {
    let email = check_email(email)?;
    match store::users::find_by_email(tx, org_id, &email).await? {
        Some(found) if found.removed_at.is_none() => Ok(found.id),
        Some(removed) => {
            store::users::update(tx, &User { removed_at: None, ..removed.clone() }).await?;
            Ok(removed.id)
        }
        None => {
            let (id, role) = (UserId::generate(now), MemberRole::Owner);
            let user = User { id, org_id, email, role, created_at: now, removed_at: None };
            store::users::insert(tx, &user).await?;
            Ok(id)
        }
    }
}

async fn project(
    tx: &Tx,
    now: DateTime<Utc>,
    organization: &Organization,
    name: Option<&str>,
) -> Result<ProjectId> {
    let projects = || store::projects(Reach::Tenant { org: organization.id, projects: None });
    let Some(name) = name else { return Ok(projects().default(tx).await?.id) };
    let name = check_name(name, "project")?;
    if let Some(found) = projects().find_by_name(tx, &name).await? {
        return Ok(found.id);
    }
    insert_project(tx, now, organization.id, &name, false).await
}

async fn insert_project(
    tx: &Tx,
    now: DateTime<Utc>,
    org_id: OrganizationId,
    name: &str,
    is_default: bool,
) -> Result<ProjectId> {
    let project = Project {
        id: ProjectId::generate(now),
        org_id,
        name: name.to_owned(),
        is_default,
        created_at: now,
    };
    let reach = Reach::Tenant { org: org_id, projects: None };
    store::projects(reach).insert(tx, &project).await?;
    Ok(project.id)
}
