//! Queries of templates and their versions, which belong to no tenant. A version is never changed; all
//! that can come to it is that it is deprecated.

use chrono::{DateTime, Utc};
use domain::{
    id::{TemplateId, TemplateVersionId},
    image::ImageDigest,
    sandbox::TemplateVersion,
};
use migrations::rows::{PublishedVersionRow, TemplateRow, TemplateVersionRow};
use sea_orm::ConnectionTrait;

use crate::{
    Page, PageRequest,
    db::{Sql, Tx},
    error::{Error, Result},
    time,
};

const SELECT: &str = "select t.id as template_id, t.slug as template_slug,
       v.id as template_version_id, v.version as template_version
     from template_versions v join templates t on t.id = v.template_id where ";
const PUBLISHED: &str = "select t.id as template_id, t.slug as template_slug,
       v.id as template_version_id, v.version as template_version, v.image_digest, v.created_at,
       v.deprecated_at, v.deprecated_reason
     from template_versions v join templates t on t.id = v.template_id where ";

/// An environment that sandboxes are made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Its id.
    pub id: TemplateId,
    /// What callers name it by.
    pub slug: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// A version as it was published, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The version.
    pub version: TemplateVersion,
    /// What machines of it are made from, if it was imported and not just named.
    pub image: Option<ImageDigest>,
    /// When it was published.
    pub created_at: DateTime<Utc>,
    /// From when on no new sandbox is made from it, and why.
    pub deprecated: Option<(DateTime<Utc>, String)>,
}

/// The newest version of the template of this name that is not deprecated.
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all)]
pub async fn latest(c: &impl ConnectionTrait, slug: &str) -> Result<Option<TemplateVersion>> {
    // The name comes from outside; PostgreSQL takes no NUL in a text, and no template has one.
    if slug.contains('\0') {
        return Ok(None);
    }
    let sql = Sql::new(SELECT, []).text("v.deprecated_at is null and t.slug = ").bind(slug);
    let row = sql.text(" order by v.created_at desc, v.id desc limit 1").one(c).await?;
    Ok(row.map(from_row))
}

/// The version with this id, deprecated or not.
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all, fields(version = %id))]
pub async fn version(c: &impl ConnectionTrait, id: TemplateVersionId) -> Result<Option<Published>> {
    let sql = Sql::new(PUBLISHED, []).text("v.id = ").bind(id.uuid());
    sql.one(c).await?.map(published).transpose()
}

/// The template of this name.
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all)]
pub async fn find(c: &impl ConnectionTrait, slug: &str) -> Result<Option<Template>> {
    if slug.contains('\0') {
        return Ok(None);
    }
    let sql = Sql::new("select t.id, t.slug, t.created_at from templates t where t.slug = ", []);
    sql.bind(slug).one(c).await?.map(template).transpose()
}

/// Holds a template until the transaction ends: who publishes versions meanwhile waits.
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all, fields(template = %id))]
pub async fn hold(tx: &Tx, id: TemplateId) -> Result<Template> {
    let sql = Sql::new("select t.id, t.slug, t.created_at from templates t where t.id = ", []);
    let row = sql.bind(id.uuid()).lock(tx, "for no key update").one(tx).await?;
    template(row.ok_or(Error::Missing("template"))?)
}

/// The version of a template that is made of this image.
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all, fields(template = %id))]
pub async fn find_by_image(
    c: &impl ConnectionTrait,
    id: TemplateId,
    image: &ImageDigest,
) -> Result<Option<Published>> {
    let sql = Sql::new(PUBLISHED, []).text("v.template_id = ").bind(id.uuid());
    let sql = sql.text(" and v.image_digest = ").bind(image.as_str());
    sql.one(c).await?.map(published).transpose()
}

/// A page of the templates, newest first.
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all)]
pub async fn list(c: &impl ConnectionTrait, page: PageRequest) -> Result<Page<Template>> {
    let sql = Sql::new("select t.id, t.slug, t.created_at from templates t where true", []);
    page.page(page.apply(sql, "t.id").all(c).await?, template)
}

/// The template.
///
/// # Errors
/// [`Error::Missing`].
#[tracing::instrument(level = "debug", skip_all, fields(template = %id))]
pub async fn get(c: &impl ConnectionTrait, id: TemplateId) -> Result<Template> {
    let sql = Sql::new("select t.id, t.slug, t.created_at from templates t where t.id = ", []);
    template(sql.bind(id.uuid()).one(c).await?.ok_or(Error::Missing("template"))?)
}

/// A page of a template's versions, newest first.
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all, fields(template = %id))]
pub async fn versions(
    c: &impl ConnectionTrait,
    id: TemplateId,
    page: PageRequest,
) -> Result<Page<Published>> {
    let sql = Sql::new(PUBLISHED, []).text("v.template_id = ").bind(id.uuid());
    page.page(page.apply(sql, "v.id").all(c).await?, published)
}

/// Publishes a version, with the image that it is made of if that is known.
///
/// # Errors
/// [`Error::Taken`] with `template_versions_version_key` or `template_versions_image_key`.
#[tracing::instrument(level = "debug", skip_all, fields(version = %version.id))]
pub async fn insert_version(
    tx: &Tx,
    version: &TemplateVersion,
    image: Option<&ImageDigest>,
    created_at: DateTime<Utc>,
) -> Result<()> {
    Sql::new(
        "insert into template_versions (id, template_id, version, image_digest, created_at)
         values ($1, $2, $3, $4, $5)",
        [
            version.id.uuid().into(),
            version.template_id.uuid().into(),
            version.version.as_str().into(),
            image.map(ImageDigest::as_str).into(),
            time::micros(created_at).into(),
        ],
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Notes that no new sandbox is to be made from a version; one that is deprecated already keeps its
/// instant and reason. Says whether it was now.
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all, fields(version = %id))]
pub async fn deprecate(
    tx: &Tx,
    id: TemplateVersionId,
    at: DateTime<Utc>,
    reason: &str,
) -> Result<bool> {
    let sql = Sql::new(
        "update template_versions set deprecated_at = $2, deprecated_reason = $3
         where id = $1 and deprecated_at is null",
        [id.uuid().into(), time::micros(at).into(), reason.into()],
    );
    Ok(sql.execute(tx).await? == 1)
}

fn template(row: TemplateRow) -> Result<Template> {
    Ok(Template {
        id: TemplateId::from_uuid(row.id),
        slug: row.slug,
        created_at: time::instant(row.created_at)?,
    })
}

fn published(row: PublishedVersionRow) -> Result<Published> {
    let deprecated_at = time::optional(row.deprecated_at)?;
    let image = row.image_digest.map(|digest| {
        let parsed = digest.parse();
        parsed.map_err(|()| Error::Corrupt(format!("{digest:?} is no digest of an image")))
    });
    Ok(Published {
        version: from_row(TemplateVersionRow {
            template_id: row.template_id,
            template_slug: row.template_slug,
            template_version_id: row.template_version_id,
            template_version: row.template_version,
        }),
        image: image.transpose()?,
        created_at: time::instant(row.created_at)?,
        deprecated: deprecated_at.zip(row.deprecated_reason),
    })
}

pub(crate) fn from_row(row: TemplateVersionRow) -> TemplateVersion {
    TemplateVersion {
        template_id: TemplateId::from_uuid(row.template_id),
        slug: row.template_slug,
        id: TemplateVersionId::from_uuid(row.template_version_id),
        version: row.template_version,
    }
}
