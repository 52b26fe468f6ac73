//! Queries of API keys. The hash of a secret is read by the look-up for sign-in only.

use chrono::{DateTime, Utc};
use domain::{
    id::{ApiKeyId, OrganizationId, ProjectId, UserId},
    key::ApiKey,
    organization::Organization,
    scope::{Scope, ScopeSet},
};
use migrations::rows::{ApiKeyRow, CredentialRow, OrganizationRow};
use sea_orm::{ConnectionTrait, FromQueryResult, QueryResult};

use super::organizations;
use crate::{
    Page, PageRequest, Reach,
    db::{Sql, Tx, word},
    error::{Error, Result},
    last_use, time,
};

/// What sign-in needs of a key.
#[derive(Clone)]
pub struct Credential {
    /// The key.
    pub key: ApiKey,
    /// The hash of its secret.
    pub secret_hash: String,
    /// Its organization.
    pub organization: Organization,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("key", &self.key.id).finish_non_exhaustive()
    }
}

/// The key with this look-up part, revoked or not. One query.
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all)]
pub async fn by_lookup(c: &impl ConnectionTrait, lookup: &str) -> Result<Option<Credential>> {
    let sql = Sql::new("select ", [])
        .text(COLUMNS)
        .text(
            ", k.secret_hash, o.name as org_name, o.plan as org_plan,
               o.next_plan as org_next_plan, o.next_plan_at as org_next_plan_at,
               o.limit_overrides as org_limit_overrides, o.standing as org_standing,
               o.standing_since as org_standing_since, o.standing_reason as org_standing_reason,
               o.cleanup_at as org_cleanup_at, o.created_at as org_created_at
             from api_keys k join organizations o on o.id = k.org_id where k.lookup = ",
        )
        .bind(lookup);
    let Some((key, rest)) = sql.one::<KeyAndCredential>(c).await?.map(|row| (row.0, row.1)) else {
        return Ok(None);
    };
    let organization = organizations::from_row(OrganizationRow {
        id: key.org_id,
        name: rest.org_name,
        plan: rest.org_plan,
        next_plan: rest.org_next_plan,
        next_plan_at: rest.org_next_plan_at,
        limit_overrides: rest.org_limit_overrides,
        standing: rest.org_standing,
        standing_since: rest.org_standing_since,
        standing_reason: rest.org_standing_reason,
        cleanup_at: rest.org_cleanup_at,
        created_at: rest.org_created_at,
    })?;
    Ok(Some(Credential { key: from_row(key)?, secret_hash: rest.secret_hash, organization }))
}

/// Writes when keys were last used; see [`last_use`].
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all, fields(keys = used.len()))]
pub async fn touch(c: &impl ConnectionTrait, used: &[(ApiKeyId, DateTime<Utc>)]) -> Result<()> {
    last_use::write(c, "api_keys", used).await
}

/// The API keys within reach.
#[must_use]
pub const fn api_keys(reach: Reach) -> ApiKeys {
    ApiKeys { reach }
}

/// The API keys within a reach.
#[derive(Debug, Clone)]
pub struct ApiKeys {
    reach: Reach,
}

impl ApiKeys {
    /// The key.
    ///
    /// # Errors
    /// [`Error::Missing`].
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, key = %id))]
    pub async fn get(&self, c: &impl ConnectionTrait, id: ApiKeyId) -> Result<ApiKey> {
        let sql = select().text("k.id = ").bind(id.uuid());
        let row = self.reach.by_org(sql, "k.org_id").one(c).await?;
        from_row(row.ok_or(Error::Missing("api key"))?)
    }

    /// A page of keys, revoked ones too.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach))]
    pub async fn list(&self, c: &impl ConnectionTrait, page: PageRequest) -> Result<Page<ApiKey>> {
        let sql = self.reach.by_org(select().text("true"), "k.org_id");
        page.page(page.apply(sql, "k.id").all(c).await?, from_row)
    }

    /// Writes a new key.
    ///
    /// # Errors
    /// [`Error::Taken`] with `api_keys_lookup_key`; [`Error::Missing`] for another organization's.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, key = %key.id))]
    pub async fn insert(&self, tx: &Tx, key: &ApiKey, secret_hash: &str) -> Result<()> {
        self.reach.must_cover(key.org_id, None)?;
        let scopes: Vec<&str> = key.scopes.iter().map(Scope::as_str).collect();
        let project_ids = key.project_ids.as_ref().map(|ids| {
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            serde_json::json!(ids).to_string()
        });
        Sql::new(
            "insert into api_keys (id, org_id, name, lookup, secret_hash, last_four, scopes,
               project_ids, created_by, created_at, revoked_at, expires_at, replaced_by,
               last_used_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
            [
                key.id.uuid().into(),
                key.org_id.uuid().into(),
                key.name.as_str().into(),
                key.lookup.as_str().into(),
                secret_hash.into(),
                key.last_four.as_str().into(),
                serde_json::json!(scopes).to_string().into(),
                project_ids.into(),
                key.created_by.uuid().into(),
                time::micros(key.created_at).into(),
                key.revoked_at.map(time::micros).into(),
                key.expires_at.map(time::micros).into(),
                key.replaced_by.map(ApiKeyId::uuid).into(),
                key.last_used_at.map(time::micros).into(),
            ],
        )
        .execute(tx)
        .await?;
        Ok(())
    }

    /// The key, locked until the transaction ends.
    ///
    /// # Errors
    /// [`Error::Missing`].
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, key = %id))]
    pub async fn lock(&self, tx: &Tx, id: ApiKeyId) -> Result<ApiKey> {
        let sql = self.reach.by_org(select().text("k.id = ").bind(id.uuid()), "k.org_id");
        let row = sql.lock(tx, "for no key update of k").one(tx).await?;
        from_row(row.ok_or(Error::Missing("api key"))?)
    }

    /// Sets until when a key works, and which one works from now on.
    ///
    /// # Errors
    /// [`Error::Missing`].
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, key = %id))]
    pub async fn replace(
        &self,
        tx: &Tx,
        id: ApiKeyId,
        successor: ApiKeyId,
        expires_at: DateTime<Utc>,
    ) -> Result<()> {
        let sql = Sql::new(
            "update api_keys as k set expires_at = $2, replaced_by = $3 where k.id = $1",
            [id.uuid().into(), time::micros(expires_at).into(), successor.uuid().into()],
        );
        let n = self.reach.by_org(sql, "k.org_id").execute(tx).await?;
        if n == 1 { Ok(()) } else { Err(Error::Missing("api key")) }
    }

    /// The keys that a user made and that are not revoked, locked until the transaction ends.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, user = %user))]
    pub async fn lock_made_by(&self, tx: &Tx, user: UserId) -> Result<Vec<ApiKey>> {
        let sql = select().text("k.revoked_at is null and k.created_by = ").bind(user.uuid());
        let sql = self.reach.by_org(sql, "k.org_id").text(" order by k.id");
        let rows = sql.lock(tx, "for no key update of k").all(tx).await?;
        rows.into_iter().map(from_row).collect()
    }

    /// Revokes a key; one that is revoked keeps its first instant.
    ///
    /// # Errors
    /// [`Error::Missing`].
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, key = %id))]
    pub async fn revoke(&self, tx: &Tx, id: ApiKeyId, now: DateTime<Utc>) -> Result<ApiKey> {
        let sql = Sql::new(
            "update api_keys as k set revoked_at = coalesce(k.revoked_at, $2) where k.id = $1",
            [id.uuid().into(), time::micros(now).into()],
        );
        if self.reach.by_org(sql, "k.org_id").execute(tx).await? == 0 {
            return Err(Error::Missing("api key"));
        }
        self.get(tx, id).await
    }
}

const COLUMNS: &str = "k.id, k.org_id, k.name, k.lookup, k.last_four, k.scopes, k.project_ids, \
     k.created_by, k.created_at, k.revoked_at, k.expires_at, k.replaced_by, k.last_used_at";

fn select() -> Sql {
    Sql::new("select ", []).text(COLUMNS).text(" from api_keys k where ")
}

struct KeyAndCredential(ApiKeyRow, CredentialRow);

impl FromQueryResult for KeyAndCredential {
    fn from_query_result(
        row: &QueryResult,
        prefix: &str,
    ) -> std::result::Result<Self, sea_orm::DbErr> {
        Ok(Self(
            ApiKeyRow::from_query_result(row, prefix)?,
            CredentialRow::from_query_result(row, prefix)?,
        ))
    }
}

fn from_row(row: ApiKeyRow) -> Result<ApiKey> {
    let list = |what: &str, json: &str| {
        serde_json::from_str::<Vec<String>>(json)
            .map_err(|_| Error::Corrupt(format!("the {what} of api key {} are no list", row.id)))
    };
    let scopes = list("scopes", &row.scopes)?;
    let scopes = scopes.iter().map(|scope| word(scope, "a scope")).collect::<Result<ScopeSet>>()?;
    let project_ids =
        row.project_ids.as_deref().map(|json| list("project_ids", json)).transpose()?;
    let project_ids: Option<Vec<ProjectId>> = project_ids
        .map(|ids| ids.iter().map(|id| word(id, "a project id")).collect::<Result<_>>())
        .transpose()?;
    Ok(ApiKey {
        id: ApiKeyId::from_uuid(row.id),
        org_id: OrganizationId::from_uuid(row.org_id),
        name: row.name,
        lookup: row.lookup,
        last_four: row.last_four,
        scopes,
        project_ids,
        created_by: UserId::from_uuid(row.created_by),
        created_at: time::instant(row.created_at)?,
        revoked_at: time::optional(row.revoked_at)?,
        expires_at: time::optional(row.expires_at)?,
        replaced_by: row.replaced_by.map(ApiKeyId::from_uuid),
        last_used_at: time::optional(row.last_used_at)?,
    })
}
