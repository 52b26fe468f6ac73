//! What events say. Amounts and quantities are decimal numbers in strings, with all their digits. A
//! payload only ever gets further fields; what would break a reader is a new type with a new version.

use chrono::{DateTime, Utc};
use domain::id::{
    ApiKeyId, CommandId, GrantId, OrganizationId, ProjectId, SandboxId, StatementId, TransactionId,
};
use serde::Serialize;

use crate::app::{billing::convert::corrupt, error::Result};

/// The payloads, each with its type. Everything that must know all of them is made of this one list.
macro_rules! payloads {
    ($($name:ident = $kind:literal,)*) => {
        /// What happened.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[expect(missing_docs, reason = "each says what it is where it is defined")]
        pub enum Payload {
            $($name($name),)*
        }

        impl Payload {
            /// Every payload's name and type.
            pub const ALL: &[(&str, &str)] = &[$((stringify!($name), $kind),)*];

            /// The event's type, with its version.
            #[must_use]
            pub const fn kind(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => $kind,)*
                }
            }

            /// The payload as JSON.
            ///
            /// # Errors
            /// None that can be provoked: every field is text, a number or a list of those.
            pub fn json(&self) -> Result<String> {
                let json = match self {
                    $(Self::$name(it) => serde_json::to_string(it),)*
                };
                json.map_err(|error| corrupt(format!("an event cannot be printed: {error}")))
            }
        }
    };
}

payloads! {
    UsageRecorded = "crownest.usage.recorded.v1",
    SandboxCreated = "crownest.sandbox.created.v1",
    SandboxReady = "crownest.sandbox.ready.v1",
    SandboxEnded = "crownest.sandbox.ended.v1",
    CommandFinished = "crownest.command.finished.v1",
    KeyCreated = "crownest.key.created.v1",
    KeyRevoked = "crownest.key.revoked.v1",
    KeyRotated = "crownest.key.rotated.v1",
    PlanChanged = "crownest.plan.changed.v1",
    CreditGranted = "crownest.credit.granted.v1",
    CreditExhausted = "crownest.credit.exhausted.v1",
    ThresholdReached = "crownest.threshold.reached.v1",
    StatementClosed = "crownest.statement.closed.v1",
    OrganizationSuspended = "crownest.organization.suspended.v1",
    OrganizationResumed = "crownest.organization.resumed.v1",
    OrganizationClosed = "crownest.organization.closed.v1",
}

/// A window of usage was settled. `(sandboxId, metric, startedAt, part)` is unique.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "asyncapi.yaml says what each is")]
pub struct UsageRecorded {
    pub sandbox_id: SandboxId,
    pub project_id: ProjectId,
    pub metric: &'static str,
    pub started_at: DateTime<Utc>,
    pub ended_at: DateTime<Utc>,
    pub part: i64,
    pub quantity: String,
    pub credits: String,
    pub pricing_version: String,
    pub period: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transaction_id: Option<TransactionId>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub correction: bool,
}

/// A sandbox was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "asyncapi.yaml says what each is")]
pub struct SandboxCreated {
    pub sandbox_id: SandboxId,
    pub project_id: ProjectId,
    pub api_key_id: ApiKeyId,
    pub template: String,
    pub template_version: String,
    pub pricing_version: String,
    pub expires_at: DateTime<Utc>,
}

/// A sandbox came up; its meter runs from here on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "asyncapi.yaml says what each is")]
pub struct SandboxReady {
    pub sandbox_id: SandboxId,
    pub project_id: ProjectId,
    pub ready_at: DateTime<Utc>,
}

/// A sandbox ended; its meter stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "asyncapi.yaml says what each is")]
pub struct SandboxEnded {
    pub sandbox_id: SandboxId,
    pub project_id: ProjectId,
    pub status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<DateTime<Utc>>,
    pub ended_at: DateTime<Utc>,
}

/// A command is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "asyncapi.yaml says what each is")]
pub struct CommandFinished {
    pub command_id: CommandId,
    pub sandbox_id: SandboxId,
    pub project_id: ProjectId,
    pub status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    pub created_at: DateTime<Utc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<DateTime<Utc>>,
}

/// An API key was made. Its secret is in no event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "asyncapi.yaml says what each is")]
pub struct KeyCreated {
    pub api_key_id: ApiKeyId,
    pub name: String,
    pub prefix: String,
    pub scopes: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project_ids: Option<Vec<ProjectId>>,
}

/// An API key opens nothing any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "asyncapi.yaml says what each is")]
pub struct KeyRevoked {
    pub api_key_id: ApiKeyId,
    pub prefix: String,
    pub revoked_at: DateTime<Utc>,
}

/// An API key has a successor. Both work until the old one expires.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "asyncapi.yaml says what each is")]
pub struct KeyRotated {
    pub api_key_id: ApiKeyId,
    pub prefix: String,
    pub replaced_by: ApiKeyId,
    pub expires_at: DateTime<Utc>,
}

/// A plan took effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "asyncapi.yaml says what each is")]
pub struct PlanChanged {
    pub plan: &'static str,
    pub previous_plan: &'static str,
    pub takes_effect_at: DateTime<Utc>,
}

/// Credit came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "asyncapi.yaml says what each is")]
pub struct CreditGranted {
    pub grant_id: GrantId,
    pub transaction_id: TransactionId,
    pub kind: &'static str,
    pub credits: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
}

/// Nothing new begins, and what ran was stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "asyncapi.yaml says what each is")]
pub struct CreditExhausted {
    pub code: String,
    pub since: DateTime<Utc>,
}

/// So much of a month's credit, quota or spend cap is used; told once per threshold and month.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "asyncapi.yaml says what each is")]
pub struct ThresholdReached {
    pub subject: String,
    pub percent: i64,
    pub period: String,
}

/// A month was closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "asyncapi.yaml says what each is")]
pub struct StatementClosed {
    pub statement_id: StatementId,
    pub org_id: OrganizationId,
    pub period: String,
    pub currency: String,
    pub usage_total: String,
    pub credit_total: String,
    pub amount_due: String,
}

/// An organization's keys open nothing any more, until it is resumed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "asyncapi.yaml says what each is")]
pub struct OrganizationSuspended {
    pub reason: String,
    pub suspended_at: DateTime<Utc>,
    pub cleanup_at: DateTime<Utc>,
}

/// A suspended organization's keys work again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "asyncapi.yaml says what each is")]
pub struct OrganizationResumed {
    pub resumed_at: DateTime<Utc>,
}

/// An organization was closed, which is final.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "asyncapi.yaml says what each is")]
pub struct OrganizationClosed {
    pub reason: String,
    pub closed_at: DateTime<Utc>,
}
