//! An artifact as a row and back.

use domain::{
    artifact::{Artifact, Name},
    id::{ArtifactId, OrganizationId, ProjectId, SandboxId},
};
use migrations::rows::ArtifactRow;
use sea_orm::Value;

use super::Collected;
use crate::{
    db::{Sql, signed, unsigned},
    error::{Error, Result},
    time,
};

/// The start of every read.
pub(super) fn select(condition: &str) -> Sql {
    let text = format!(
        "select a.id, a.org_id, a.project_id, a.sandbox_id, a.name, a.content_type, a.source_path,
           a.size_bytes, a.sha256, a.created_at, a.retention_expires_at, a.deleted_at
         from artifacts a where {condition}"
    );
    Sql::new(text, [])
}

/// The columns that a new row has, in the order of [`to_row`].
pub(super) const STORED: &str = "id, org_id, project_id, sandbox_id, command_id, collect_index, \
     name, content_type, source_path, size_bytes, sha256, created_at, retention_expires_at, \
     deleted_at, remove_at";

pub(super) fn to_row(artifact: &Artifact, collected: Option<Collected>) -> [Value; 15] {
    let (command, place) = collected.unzip();
    [
        artifact.id.uuid().into(),
        artifact.org_id.uuid().into(),
        artifact.project_id.uuid().into(),
        artifact.sandbox_id.uuid().into(),
        command.map(domain::id::Id::uuid).into(),
        place.map(i64::from).into(),
        artifact.name.as_str().into(),
        artifact.content_type.clone().into(),
        artifact.source_path.as_str().into(),
        signed(artifact.size_bytes).into(),
        artifact.sha256.to_vec().into(),
        time::micros(artifact.created_at).into(),
        time::micros(artifact.retention_expires_at).into(),
        artifact.deleted_at.map(time::micros).into(),
        time::micros(artifact.retention_expires_at).into(),
    ]
}

pub(super) fn from_row(row: ArtifactRow) -> Result<Artifact> {
    let id = ArtifactId::from_uuid(row.id);
    let wrong = |_| Error::Corrupt(format!("the checksum of {id} is not of 32 bytes"));
    Ok(Artifact {
        id,
        org_id: OrganizationId::from_uuid(row.org_id),
        project_id: ProjectId::from_uuid(row.project_id),
        sandbox_id: SandboxId::from_uuid(row.sandbox_id),
        name: Name::stored(row.name),
        content_type: row.content_type,
        source_path: row.source_path,
        size_bytes: unsigned(row.size_bytes, "an artifact's size_bytes")?,
        sha256: row.sha256.as_slice().try_into().map_err(wrong)?,
        created_at: time::instant(row.created_at)?,
        retention_expires_at: time::instant(row.retention_expires_at)?,
        deleted_at: time::optional(row.deleted_at)?,
    })
}
