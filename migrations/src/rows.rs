//! Rows as the queries of `store` read them, one struct per table (or per join that is always made).
//! Values are as stored: `store` turns them into `domain` types and back.

pub mod billing;

use sea_orm::FromQueryResult;
use uuid::Uuid;

/// A row of `organizations`.
#[derive(Debug, Clone, FromQueryResult)]
pub struct OrganizationRow {
    pub id: Uuid,
    pub name: String,
    pub plan: String,
    pub next_plan: Option<String>,
    pub next_plan_at: Option<i64>,
    pub limit_overrides: String,
    pub standing: String,
    pub standing_since: Option<i64>,
    pub standing_reason: Option<String>,
    pub cleanup_at: Option<i64>,
    pub created_at: i64,
}

/// A row of `users`.
#[derive(Debug, Clone, FromQueryResult)]
pub struct UserRow {
    pub id: Uuid,
    pub org_id: Uuid,
    pub email: String,
    pub role: String,
    pub created_at: i64,
    pub removed_at: Option<i64>,
}

/// A row of `projects`.
#[derive(Debug, Clone, FromQueryResult)]
pub struct ProjectRow {
    pub id: Uuid,
    pub org_id: Uuid,
    pub name: String,
    pub is_default: bool,
    pub created_at: i64,
}

/// A row of `api_keys` without its hash.
#[derive(Debug, Clone, FromQueryResult)]
pub struct ApiKeyRow {
    pub id: Uuid,
    pub org_id: Uuid,
    pub name: String,
    pub lookup: String,
    pub last_four: String,
    pub scopes: String,
    pub project_ids: Option<String>,
    pub created_by: Uuid,
    pub created_at: i64,
    pub revoked_at: Option<i64>,
    pub expires_at: Option<i64>,
    pub replaced_by: Option<Uuid>,
    pub last_used_at: Option<i64>,
}

/// A row of `admin_keys` without its hash.
#[derive(Debug, Clone, FromQueryResult)]
pub struct AdminKeyRow {
    pub id: Uuid,
    pub name: String,
    pub lookup: String,
    pub last_four: String,
    pub role: String,
    pub created_by: Option<Uuid>,
    pub created_at: i64,
    pub revoked_at: Option<i64>,
    pub last_used_at: Option<i64>,
}

/// The hash of a key and its organization, read beside an [`ApiKeyRow`].
#[derive(Clone, FromQueryResult)]
pub struct CredentialRow {
    pub secret_hash: String,
    pub org_name: String,
    pub org_plan: String,
    pub org_next_plan: Option<String>,
    pub org_next_plan_at: Option<i64>,
    pub org_limit_overrides: String,
    pub org_standing: String,
    pub org_standing_since: Option<i64>,
    pub org_standing_reason: Option<String>,
    pub org_cleanup_at: Option<i64>,
    pub org_created_at: i64,
}

/// A row of `template_versions` with its template's slug.
#[derive(Debug, Clone, FromQueryResult)]
pub struct TemplateVersionRow {
    pub template_id: Uuid,
    pub template_slug: String,
    pub template_version_id: Uuid,
    pub template_version: String,
}

/// A row of `sandboxes` with its template and what its commands say.
#[derive(Debug, Clone, FromQueryResult)]
pub struct SandboxRow {
    pub id: Uuid,
    pub org_id: Uuid,
    pub project_id: Uuid,
    pub created_by: Uuid,
    pub template_id: Uuid,
    pub template_slug: String,
    pub template_version_id: Uuid,
    pub template_version: String,
    pub pricing_version: String,
    pub phase: String,
    pub generation: i64,
    pub host: String,
    pub ttl_ms: i64,
    pub metadata: String,
    pub created_at: i64,
    pub ready_at: Option<i64>,
    pub expires_at: i64,
    pub ended_at: Option<i64>,
    pub end_reason: Option<String>,
    pub removed_at: Option<i64>,
    pub last_activity_at: i64,
    pub seen_alive_at: Option<i64>,
    /// `unused`, `running` or `idle`.
    pub activity: String,
}

/// A row of `commands` with its output, which is null until the command is over.
#[derive(Debug, Clone, FromQueryResult)]
pub struct CommandRow {
    pub id: Uuid,
    pub org_id: Uuid,
    pub project_id: Uuid,
    pub sandbox_id: Uuid,
    pub command_line: String,
    pub cwd: String,
    pub status: String,
    pub background: bool,
    pub timeout_ms: Option<i64>,
    pub exit_code: Option<i64>,
    pub created_at: i64,
    pub started_at: Option<i64>,
    pub finished_at: Option<i64>,
    pub cancel_mode: Option<String>,
    pub canceled_at: Option<i64>,
    pub termination_signal: Option<String>,
    pub first_seq: i64,
    pub last_seq: i64,
    pub stdout: Option<Vec<u8>>,
    pub stdout_truncated: Option<bool>,
    pub stderr: Option<Vec<u8>>,
    pub stderr_truncated: Option<bool>,
}

/// A row of `previews` with what its sandbox says of it.
#[derive(Debug, Clone, FromQueryResult)]
pub struct PreviewRow {
    pub id: Uuid,
    pub org_id: Uuid,
    pub project_id: Uuid,
    pub sandbox_id: Uuid,
    pub slug: String,
    pub port: i64,
    pub auth_mode: String,
    pub token_hash: Option<Vec<u8>>,
    pub created_at: i64,
    pub revoked_at: Option<i64>,
    pub ended_at: Option<i64>,
    pub counted: i64,
    pub expires_at: i64,
    pub phase: String,
    pub host: String,
}

/// What is needed to count the minutes of a preview: its own times, and up to when anything is known of
/// its sandbox.
#[derive(Debug, Clone, FromQueryResult)]
pub struct PreviewMinutesRow {
    pub id: Uuid,
    pub sandbox_id: Uuid,
    pub created_at: i64,
    pub ended_at: Option<i64>,
    pub counted: i64,
    pub ready_at: Option<i64>,
    pub seen_alive_at: Option<i64>,
    pub expires_at: i64,
    pub cleanup_at: Option<i64>,
    pub stops_at: Option<i64>,
}

/// A row of `command_outputs`.
#[derive(Debug, Clone, FromQueryResult)]
pub struct CommandOutputRow {
    pub stdout: Vec<u8>,
    pub stdout_truncated: bool,
    pub stderr: Vec<u8>,
    pub stderr_truncated: bool,
    pub through_seq: i64,
}

/// A row of `command_logs`.
#[derive(Debug, Clone, FromQueryResult)]
pub struct LogRow {
    pub seq: i64,
    pub stream: String,
    pub data: Vec<u8>,
    pub created_at: i64,
}

/// A row of `usage_records`.
#[derive(Debug, Clone, FromQueryResult)]
pub struct UsageRow {
    pub id: Uuid,
    pub org_id: Uuid,
    pub project_id: Uuid,
    pub sandbox_id: Uuid,
    pub metric: String,
    pub resource_id: String,
    pub amount: i64,
    pub at: i64,
}

/// A row of `idempotency_records` without its scope, which it was found by.
#[derive(Debug, Clone, FromQueryResult)]
pub struct IdempotencyRow {
    pub id: Uuid,
    pub fingerprint: String,
    pub command_id: Option<Uuid>,
    pub status: Option<i64>,
    pub body: Option<Vec<u8>>,
    pub created_at: i64,
    pub expires_at: i64,
}

/// A row of `outbox_events`.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct EventRow {
    pub position: i64,
    pub id: Uuid,
    pub org_id: Uuid,
    pub partition: i64,
    pub subject: String,
    pub sequence: i64,
    #[sea_orm(from_alias = "type")]
    pub kind: String,
    pub data: String,
    pub trace_parent: Option<String>,
    pub occurred_at: i64,
    pub created_at: i64,
    pub published_at: Option<i64>,
}

/// A row of `audit_entries`.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct AuditRow {
    pub org_id: Uuid,
    pub seq: i64,
    pub at: i64,
    pub actor: String,
    pub action: String,
    pub object: String,
    pub outcome: String,
    pub origin: String,
    pub request_id: String,
    pub details: String,
    pub hash: Vec<u8>,
}

/// A row of `signing_keys`.
#[derive(Clone, FromQueryResult)]
pub struct SigningKeyRow {
    pub id: Uuid,
    pub secret: Vec<u8>,
    pub created_at: i64,
    pub retired_at: Option<i64>,
}

/// A row of `templates`.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct TemplateRow {
    pub id: Uuid,
    pub slug: String,
    pub created_at: i64,
}

/// A row of `template_versions` with its template.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct PublishedVersionRow {
    pub template_id: Uuid,
    pub template_slug: String,
    pub template_version_id: Uuid,
    pub template_version: String,
    pub created_at: i64,
    pub deprecated_at: Option<i64>,
    pub deprecated_reason: Option<String>,
}
