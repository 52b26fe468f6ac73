//! A sandbox as a row and back.

use domain::{
    id::{ApiKeyId, OrganizationId, ProjectId, SandboxId},
    metadata::Metadata,
    sandbox::{Activity, EndReason, Sandbox},
};
use migrations::rows::{SandboxRow, TemplateVersionRow};
use sea_orm::Value;

use crate::{
    commands,
    db::{Sql, signed, unsigned, word},
    error::{Error, Result},
    templates, time,
};

/// The start of every read; the activity comes from the same snapshot as the row.
pub(super) fn select(condition: &str) -> Sql {
    let text = format!(
        "select s.id, s.org_id, s.project_id, s.created_by, s.phase, s.generation, s.host, s.ttl_ms,
           s.metadata, s.created_at, s.ready_at, s.expires_at, s.ended_at, s.end_reason,
           s.removed_at, s.last_activity_at, s.seen_alive_at, s.pricing_version,
           t.id as template_id, t.slug as template_slug,
           v.id as template_version_id, v.version as template_version,
           case when {} then 'running' when {} then 'idle' else 'unused' end as activity
         from sandboxes s
         join template_versions v on v.id = s.template_version_id
         join templates t on t.id = v.template_id
         where {condition}",
        active(),
        USED
    );
    Sql::new(text, [])
}

/// Whether a command is active in `s`.
pub(super) fn active() -> String {
    format!(
        "exists (select 1 from commands a where a.sandbox_id = s.id and a.status in {})",
        commands::ACTIVE
    )
}

/// Whether a command was ever accepted in `s`.
pub(super) const USED: &str = "exists (select 1 from commands u where u.sandbox_id = s.id)";

/// The columns that a new row has, in the order of [`to_row`].
pub(super) const STORED: &str = "id, org_id, project_id, created_by, template_version_id, pricing_version, phase, \
     generation, host, ttl_ms, metadata, created_at, ready_at, expires_at, ended_at, end_reason, \
     removed_at, last_activity_at, seen_alive_at, reconcile_at";

pub(super) fn to_row(
    sandbox: &Sandbox,
    reconcile_at: Option<chrono::DateTime<chrono::Utc>>,
) -> [Value; 20] {
    [
        sandbox.id.uuid().into(),
        sandbox.org_id.uuid().into(),
        sandbox.project_id.uuid().into(),
        sandbox.created_by.uuid().into(),
        sandbox.template.id.uuid().into(),
        sandbox.pricing_version.as_str().into(),
        sandbox.phase.as_str().into(),
        sandbox.generation.into(),
        sandbox.host.as_str().into(),
        signed(sandbox.ttl_ms).into(),
        serde_json::json!(sandbox.metadata.as_map()).to_string().into(),
        time::micros(sandbox.created_at).into(),
        sandbox.ready_at.map(time::micros).into(),
        time::micros(sandbox.expires_at).into(),
        sandbox.ended_at.map(time::micros).into(),
        sandbox.end_reason.map(EndReason::as_str).into(),
        sandbox.removed_at.map(time::micros).into(),
        time::micros(sandbox.last_activity_at).into(),
        sandbox.seen_alive_at.map(time::micros).into(),
        reconcile_at.map(time::micros).into(),
    ]
}

pub(super) fn from_row(row: SandboxRow) -> Result<Sandbox> {
    let id = SandboxId::from_uuid(row.id);
    let metadata = serde_json::from_str(&row.metadata)
        .ok()
        .and_then(|labels| Metadata::parse(labels).ok())
        .ok_or_else(|| Error::Corrupt(format!("the metadata of {id} break the rules")))?;
    let activity = match row.activity.as_str() {
        "running" => Activity::Running,
        "idle" => Activity::Idle,
        "unused" => Activity::Unused,
        other => return Err(Error::Corrupt(format!("the activity of {id} is {other:?}"))),
    };
    Ok(Sandbox {
        id,
        org_id: OrganizationId::from_uuid(row.org_id),
        project_id: ProjectId::from_uuid(row.project_id),
        created_by: ApiKeyId::from_uuid(row.created_by),
        template: templates::from_row(TemplateVersionRow {
            template_id: row.template_id,
            template_slug: row.template_slug,
            template_version_id: row.template_version_id,
            template_version: row.template_version,
        }),
        pricing_version: row.pricing_version,
        phase: word(&row.phase, "a sandbox's phase")?,
        generation: row.generation,
        host: row.host,
        ttl_ms: unsigned(row.ttl_ms, "a sandbox's ttl_ms")?,
        metadata,
        created_at: time::instant(row.created_at)?,
        ready_at: time::optional(row.ready_at)?,
        expires_at: time::instant(row.expires_at)?,
        ended_at: time::optional(row.ended_at)?,
        end_reason: row
            .end_reason
            .map(|reason| word(&reason, "a sandbox's end_reason"))
            .transpose()?,
        removed_at: time::optional(row.removed_at)?,
        last_activity_at: time::instant(row.last_activity_at)?,
        seen_alive_at: time::optional(row.seen_alive_at)?,
        activity,
    })
}

/// The sandbox with its instants as they are read back.
pub(super) fn truncated(sandbox: &Sandbox) -> Sandbox {
    Sandbox {
        created_at: time::truncate(sandbox.created_at),
        ready_at: sandbox.ready_at.map(time::truncate),
        expires_at: time::truncate(sandbox.expires_at),
        ended_at: sandbox.ended_at.map(time::truncate),
        removed_at: sandbox.removed_at.map(time::truncate),
        ..sandbox.clone()
    }
}
