//! Queries of previews: reads, then writes. Their minutes are in `minutes`.

mod minutes;

use chrono::{DateTime, Utc};
use domain::{
    id::{OrganizationId, PreviewId, ProjectId, SandboxId},
    preview::{Preview, Slug},
    sandbox::Phase,
};
use migrations::rows::PreviewRow;
use sea_orm::ConnectionTrait;
use uuid::Uuid;

pub use minutes::Unfinished;

use crate::{
    Page, PageRequest, Reach,
    db::{Sql, Tx, unsigned, word},
    error::{Error, Result},
    reach::uuids,
    time,
};

const SELECT: &str = "select p.id, p.org_id, p.project_id, p.sandbox_id, p.slug, p.port, p.auth_mode,
       p.token_hash, p.created_at, p.revoked_at, p.ended_at, p.counted, s.expires_at, s.phase, s.host
     from previews p join sandboxes s on s.id = p.sandbox_id where ";

/// The previews within reach.
#[must_use]
pub const fn previews(reach: Reach) -> Previews {
    Previews { reach }
}

/// The previews within a reach.
#[derive(Debug, Clone)]
pub struct Previews {
    reach: Reach,
}

/// A new preview, with what its record does not show.
#[derive(Debug, Clone)]
pub struct NewPreview<'a> {
    /// The record.
    pub preview: &'a Preview,
    /// The hash of its token, of those with one.
    pub token_hash: Option<[u8; 32]>,
    /// How many of its minutes are usage already.
    pub counted: i64,
    /// When the next one begins, at the earliest.
    pub count_at: DateTime<Utc>,
}

/// A preview as it is found by its slug.
#[derive(Debug, Clone)]
pub struct Found {
    /// The record.
    pub preview: Preview,
    /// The hash of its token, of those with one.
    pub token_hash: Option<[u8; 32]>,
    /// What its sandbox is doing.
    pub phase: Phase,
    /// Where that is.
    pub host: String,
}

impl Previews {
    /// The preview, active or not.
    ///
    /// # Errors
    /// [`Error::Missing`].
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, preview = %id))]
    pub async fn get(&self, c: &impl ConnectionTrait, id: PreviewId) -> Result<Preview> {
        let sql = self.within(Sql::new(SELECT, []).text("p.id = ").bind(id.uuid()));
        preview(&sql.one(c).await?.ok_or(Error::Missing("preview"))?)
    }

    /// The preview of a slug, active or not, if there is one.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach))]
    pub async fn find_by_slug(
        &self,
        c: &impl ConnectionTrait,
        slug: &Slug,
    ) -> Result<Option<Found>> {
        let sql = self.within(Sql::new(SELECT, []).text("p.slug = ").bind(slug.as_str()));
        let Some(row) = sql.one::<PreviewRow>(c).await? else { return Ok(None) };
        let preview = preview(&row)?;
        let wrong =
            |_| Error::Corrupt(format!("the token hash of {} is not of 32 bytes", preview.id));
        let token_hash = row.token_hash.map(|hash| hash.try_into().map_err(wrong)).transpose()?;
        let phase = word(&row.phase, "a sandbox's phase")?;
        Ok(Some(Found { preview, token_hash, phase, host: row.host }))
    }

    /// The active preview of a sandbox's port, if there is one.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, sandbox = %sandbox))]
    pub async fn find_active(
        &self,
        c: &impl ConnectionTrait,
        sandbox: SandboxId,
        port: u16,
    ) -> Result<Option<Preview>> {
        let sql = Sql::new(SELECT, []).text("p.ended_at is null and p.sandbox_id = ");
        let sql = sql.bind(sandbox.uuid()).text(" and p.port = ").bind(i64::from(port));
        self.within(sql).one(c).await?.as_ref().map(preview).transpose()
    }

    /// A page of a sandbox's previews, those that are over included.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, sandbox = %sandbox))]
    pub async fn list(
        &self,
        c: &impl ConnectionTrait,
        sandbox: SandboxId,
        page: PageRequest,
    ) -> Result<Page<Preview>> {
        let sql = Sql::new(SELECT, []).text("p.sandbox_id = ").bind(sandbox.uuid());
        page.page(page.apply(self.within(sql), "p.id").all(c).await?, |row| preview(&row))
    }

    /// How many active previews an organization has, and how many of them are of this sandbox: those
    /// that count against its limits, whatever projects the reach is restricted to.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, org = %org))]
    pub async fn count_active(
        &self,
        c: &impl ConnectionTrait,
        org: OrganizationId,
        sandbox: Option<SandboxId>,
    ) -> Result<(u64, u64)> {
        let sql = Sql::new("select p.sandbox_id from previews p where p.org_id = ", []);
        let sql = sql.bind(org.uuid()).text(" and p.ended_at is null");
        let active: Vec<Uuid> = self.reach.by_org(sql, "p.org_id").column(c).await?;
        let here = active.iter().filter(|id| sandbox.is_some_and(|one| **id == one.uuid())).count();
        Ok((crate::db::count(active.len()), crate::db::count(here)))
    }

    /// Which of these are not active any more.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, n = ids.len()))]
    pub async fn ended_of(
        &self,
        c: &impl ConnectionTrait,
        ids: &[PreviewId],
    ) -> Result<Vec<PreviewId>> {
        let mut ended = Vec::new();
        for part in ids.chunks(10_000) {
            let sql = Sql::new("select p.id from previews p where p.ended_at is not null", []);
            let sql = self.within(sql.text(" and p.id in ").list(uuids(part)));
            let found: Vec<Uuid> = sql.column(c).await?;
            ended.extend(found.into_iter().map(PreviewId::from_uuid));
        }
        Ok(ended)
    }

    /// Writes a new preview.
    ///
    /// # Errors
    /// [`Error::Taken`] with `previews_one_per_port`; [`Error::Missing`] for what is not within reach.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, preview = %new.preview.id))]
    pub async fn insert(&self, tx: &Tx, new: &NewPreview<'_>) -> Result<()> {
        let preview = new.preview;
        self.reach.must_cover(preview.org_id, Some(preview.project_id))?;
        Sql::new(
            "insert into previews (id, org_id, project_id, sandbox_id, slug, port, auth_mode,
               token_hash, created_at, counted, count_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            [
                preview.id.uuid().into(),
                preview.org_id.uuid().into(),
                preview.project_id.uuid().into(),
                preview.sandbox_id.uuid().into(),
                preview.slug.as_str().into(),
                i64::from(preview.port).into(),
                preview.auth_mode.as_str().into(),
                new.token_hash.map(|hash| hash.to_vec()).into(),
                time::micros(preview.created_at).into(),
                new.counted.into(),
                time::micros(new.count_at).into(),
            ],
        )
        .execute(tx)
        .await?;
        Ok(())
    }

    /// Revokes a preview, and says whether it was not before; a revoked one stays as it is. What is left
    /// to be counted of it is so from now on.
    ///
    /// # Errors
    /// [`Error::Missing`].
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, preview = %id))]
    pub async fn revoke(
        &self,
        tx: &Tx,
        id: PreviewId,
        now: DateTime<Utc>,
    ) -> Result<(Preview, bool)> {
        let sql = Sql::new(
            "update previews as p set revoked_at = $2,
               ended_at = case when ended_at is null then $2 else ended_at end,
               count_at = case when count_at > $2 then $2 else count_at end
             where p.id = $1 and p.revoked_at is null",
            [id.uuid().into(), time::micros(now).into()],
        );
        let revoked = self.within(sql).execute(tx).await? > 0;
        Ok((self.get(tx, id).await?, revoked))
    }

    /// Ends the active previews of a sandbox that ends at an instant, and says how many there were.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, sandbox = %sandbox))]
    pub async fn end_of_sandbox(
        &self,
        tx: &Tx,
        sandbox: SandboxId,
        at: DateTime<Utc>,
    ) -> Result<u64> {
        let sql = Sql::new(
            "update previews as p set ended_at = $2,
               count_at = case when count_at > $2 then $2 else count_at end
             where p.sandbox_id = $1 and p.ended_at is null",
            [sandbox.uuid().into(), time::micros(at).into()],
        );
        self.within(sql).execute(tx).await
    }

    /// Ends an active preview at an instant, and says whether it still was. Nothing more is counted of
    /// it.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, preview = %id))]
    pub async fn end(&self, tx: &Tx, id: PreviewId, at: DateTime<Utc>) -> Result<bool> {
        let sql = Sql::new(
            "update previews as p set ended_at = $2, count_at = null
             where p.id = $1 and p.ended_at is null",
            [id.uuid().into(), time::micros(at).into()],
        );
        Ok(self.within(sql).execute(tx).await? > 0)
    }

    fn within(&self, sql: Sql) -> Sql {
        self.reach.by_project(sql, "p.org_id", "p.project_id")
    }
}

fn preview(row: &PreviewRow) -> Result<Preview> {
    let id = PreviewId::from_uuid(row.id);
    let port = unsigned(row.port, "a preview's port")?;
    Ok(Preview {
        id,
        slug: Slug::parse(&row.slug)
            .ok_or_else(|| Error::Corrupt(format!("the slug of {id} breaks the rules")))?,
        org_id: OrganizationId::from_uuid(row.org_id),
        project_id: ProjectId::from_uuid(row.project_id),
        sandbox_id: SandboxId::from_uuid(row.sandbox_id),
        port: u16::try_from(port)
            .map_err(|_| Error::Corrupt(format!("the port of {id} is {port}")))?,
        auth_mode: word(&row.auth_mode, "a preview's auth_mode")?,
        created_at: time::instant(row.created_at)?,
        expires_at: time::instant(row.expires_at)?,
        revoked_at: time::optional(row.revoked_at)?,
        ended_at: time::optional(row.ended_at)?,
    })
}
