//! Queries of templates and their versions, which belong to no tenant.

use domain::{
    id::{TemplateId, TemplateVersionId},
    sandbox::TemplateVersion,
};
use migrations::rows::TemplateVersionRow;
use sea_orm::ConnectionTrait;

use crate::{db::Sql, error::Result};

const SELECT: &str = "select t.id as template_id, t.slug as template_slug,
       v.id as template_version_id, v.version as template_version
     from template_versions v join templates t on t.id = v.template_id where ";

/// The newest version of the template of this name.
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all)]
pub async fn latest(c: &impl ConnectionTrait, slug: &str) -> Result<Option<TemplateVersion>> {
    // The name comes from outside; PostgreSQL takes no NUL in a text, and no template has one.
    if slug.contains('\0') {
        return Ok(None);
    }
    let sql = Sql::new(SELECT, []).text("t.slug = ").bind(slug);
    let row = sql.text(" order by v.created_at desc, v.id desc limit 1").one(c).await?;
    Ok(row.map(from_row))
}

/// The version with this id.
///
/// # Errors
/// As any statement.
#[tracing::instrument(level = "debug", skip_all, fields(version = %id))]
pub async fn version(
    c: &impl ConnectionTrait,
    id: TemplateVersionId,
) -> Result<Option<TemplateVersion>> {
    Ok(Sql::new(SELECT, []).text("v.id = ").bind(id.uuid()).one(c).await?.map(from_row))
}

pub(crate) fn from_row(row: TemplateVersionRow) -> TemplateVersion {
    TemplateVersion {
        template_id: TemplateId::from_uuid(row.template_id),
        slug: row.template_slug,
        id: TemplateVersionId::from_uuid(row.template_version_id),
        version: row.template_version,
    }
}
