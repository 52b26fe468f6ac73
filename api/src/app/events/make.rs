//! Makes events of what they tell of.

use chrono::{DateTime, Utc};
use domain::{
    command::Command,
    id::{ApiKeyId, OrganizationId},
    key::ApiKey,
    sandbox::{EndReason, Sandbox},
    scope::Scope,
};

use super::{
    Event, Subject,
    payload::{
        CommandFinished, KeyCreated, KeyRevoked, KeyRotated, OrganizationClosed,
        OrganizationResumed, OrganizationSuspended, Payload, SandboxCreated, SandboxEnded,
        SandboxReady,
    },
};

/// A sandbox was accepted.
#[must_use]
pub fn created(sandbox: &Sandbox) -> Event {
    let payload = Payload::SandboxCreated(SandboxCreated {
        sandbox_id: sandbox.id,
        project_id: sandbox.project_id,
        api_key_id: sandbox.created_by,
        template: sandbox.template.slug.clone(),
        template_version: sandbox.template.version.clone(),
        pricing_version: sandbox.pricing_version.clone(),
        expires_at: sandbox.expires_at,
    });
    Event::of_sandbox(sandbox, payload, sandbox.created_at)
}

/// A sandbox came up.
#[must_use]
pub fn ready(sandbox: &Sandbox, at: DateTime<Utc>) -> Event {
    let payload = Payload::SandboxReady(SandboxReady {
        sandbox_id: sandbox.id,
        project_id: sandbox.project_id,
        ready_at: at,
    });
    Event::of_sandbox(sandbox, payload, at)
}

/// A sandbox ended for its tenant.
#[must_use]
pub fn ended(sandbox: &Sandbox, at: DateTime<Utc>) -> Event {
    let failed = sandbox.end_reason.is_none();
    let payload = Payload::SandboxEnded(SandboxEnded {
        sandbox_id: sandbox.id,
        project_id: sandbox.project_id,
        status: if failed { "failed" } else { "destroyed" },
        reason: sandbox.end_reason.map(EndReason::as_str),
        ready_at: sandbox.ready_at,
        ended_at: at,
    });
    Event::of_sandbox(sandbox, payload, at)
}

/// A command is over.
#[must_use]
pub fn finished(command: &Command) -> Event {
    let at = command.finished_at.unwrap_or(command.created_at);
    let payload = Payload::CommandFinished(CommandFinished {
        command_id: command.id,
        sandbox_id: command.sandbox_id,
        project_id: command.project_id,
        status: command.status.as_str(),
        exit_code: command.exit_code,
        created_at: command.created_at,
        started_at: command.started_at,
        finished_at: command.finished_at,
    });
    Event { org: command.org_id, subject: Subject::of(command.sandbox_id), payload, at }
}

/// An API key was made.
#[must_use]
pub fn key_created(key: &ApiKey) -> Event {
    let payload = Payload::KeyCreated(KeyCreated {
        api_key_id: key.id,
        name: key.name.clone(),
        prefix: key.prefix(),
        scopes: key.scopes.iter().map(Scope::as_str).collect(),
        project_ids: key.project_ids.clone(),
    });
    Event::of_organization(key.org_id, payload, key.created_at)
}

/// An API key was revoked.
#[must_use]
pub fn key_revoked(key: &ApiKey, at: DateTime<Utc>) -> Event {
    let payload = Payload::KeyRevoked(KeyRevoked {
        api_key_id: key.id,
        prefix: key.prefix(),
        revoked_at: at,
    });
    Event::of_organization(key.org_id, payload, at)
}

/// An API key has a successor.
#[must_use]
pub fn key_rotated(
    old: &ApiKey,
    successor: ApiKeyId,
    at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
) -> Event {
    let payload = Payload::KeyRotated(KeyRotated {
        api_key_id: old.id,
        prefix: old.prefix(),
        replaced_by: successor,
        expires_at,
    });
    Event::of_organization(old.org_id, payload, at)
}

/// An organization was suspended.
#[must_use]
pub fn suspended(
    org: OrganizationId,
    reason: &str,
    at: DateTime<Utc>,
    cleanup_at: DateTime<Utc>,
) -> Event {
    let reason = reason.to_owned();
    let payload = OrganizationSuspended { reason, suspended_at: at, cleanup_at };
    Event::of_organization(org, Payload::OrganizationSuspended(payload), at)
}

/// A suspended organization was resumed.
#[must_use]
pub fn resumed(org: OrganizationId, at: DateTime<Utc>) -> Event {
    let payload = OrganizationResumed { resumed_at: at };
    Event::of_organization(org, Payload::OrganizationResumed(payload), at)
}

/// An organization was closed.
#[must_use]
pub fn closed(org: OrganizationId, reason: &str, at: DateTime<Utc>) -> Event {
    let payload = OrganizationClosed { reason: reason.to_owned(), closed_at: at };
    Event::of_organization(org, Payload::OrganizationClosed(payload), at)
}
