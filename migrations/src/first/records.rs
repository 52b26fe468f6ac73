//! Usage counters, idempotency records and signing keys.

pub(super) const STATEMENTS: &[&str] = &[
    "create table usage_records (
        id uuid not null,
        org_id uuid not null,
        project_id uuid not null,
        metric text not null,
        sandbox_id uuid not null,
        resource_id text not null,
        amount bigint not null,
        at bigint not null,
        settled boolean not null,
        constraint usage_records_pkey primary key (id),
        constraint usage_records_measured_key unique (metric, resource_id),
        constraint usage_records_org_fkey foreign key (org_id) references organizations (id),
        constraint usage_records_project_fkey
            foreign key (org_id, project_id) references projects (org_id, id),
        constraint usage_records_sandbox_fkey
            foreign key (org_id, sandbox_id) references sandboxes (org_id, id),
        constraint usage_records_metric_check check (metric in ('sandbox_creates',
            'command_invocations', 'code_run_invocations', 'preview_minutes',
            'artifact_bytes_stored', 'file_bytes_written'))
    )",
    "create index usage_records_by_org on usage_records (org_id, id desc nulls last)",
    "create index usage_records_unsettled on usage_records (org_id, id) where not settled",
    // command_id has no foreign key: the record is written before the command that it reserves. Nor
    // have org_id and key_id: a key is a tenant's, or an operator's with the nil id for org_id.
    "create table idempotency_records (
        id uuid not null,
        org_id uuid not null,
        key_id uuid not null,
        method text not null,
        path text not null,
        idempotency_key text not null,
        fingerprint text not null,
        command_id uuid,
        status bigint,
        body bytea,
        created_at bigint not null,
        expires_at bigint not null,
        constraint idempotency_records_pkey primary key (id),
        constraint idempotency_records_scope_key
            unique (org_id, key_id, method, path, idempotency_key),
        constraint idempotency_records_outcome_check check ((status is null) = (body is null))
    )",
    "create index idempotency_records_by_expiry on idempotency_records (expires_at)",
    "create table signing_keys (
        id uuid not null,
        secret bytea not null,
        created_at bigint not null,
        retired_at bigint,
        constraint signing_keys_pkey primary key (id)
    )",
];
