//! Sandboxes, their labels for filters, and their meters.

pub(super) const STATEMENTS: &[&str] = &[
    "create table sandboxes (
        id uuid not null,
        org_id uuid not null,
        project_id uuid not null,
        created_by uuid not null,
        template_version_id uuid not null,
        pricing_version text not null,
        phase text not null,
        generation bigint not null,
        host text not null,
        ttl_ms bigint not null,
        metadata text not null,
        created_at bigint not null,
        ready_at bigint,
        expires_at bigint not null,
        ended_at bigint,
        end_reason text,
        removed_at bigint,
        last_activity_at bigint not null,
        seen_alive_at bigint,
        reconcile_at bigint,
        failure text,
        constraint sandboxes_pkey primary key (id),
        constraint sandboxes_project_fkey
            foreign key (org_id, project_id) references projects (org_id, id),
        constraint sandboxes_created_by_fkey
            foreign key (org_id, created_by) references api_keys (org_id, id),
        constraint sandboxes_template_version_fkey
            foreign key (template_version_id) references template_versions (id),
        constraint sandboxes_pricing_fkey
            foreign key (pricing_version) references pricing_versions (name),
        constraint sandboxes_phase_check check
            (phase in ('creating', 'starting', 'ready', 'expiring', 'destroyed', 'failed')),
        constraint sandboxes_end_reason_check check
            (end_reason in ('user_killed', 'ttl_expired', 'idle_expired', 'platform_cleanup')),
        constraint sandboxes_ttl_check check (ttl_ms > 0)
    )",
    "create unique index sandboxes_org_id_id_key on sandboxes (org_id, id desc nulls last)",
    "create index sandboxes_by_project on sandboxes (project_id, id desc nulls last)",
    // The list without history reads only what is not over, however much history there is.
    "create index sandboxes_current on sandboxes (org_id, id desc nulls last)
        where phase in ('creating', 'starting', 'ready', 'expiring')",
    "create index sandboxes_on_host on sandboxes (host) where removed_at is null",
    // The one column that drives the reconciler: when to look at the row next, null = never again.
    "create index sandboxes_reconcile on sandboxes (host, reconcile_at)
        where reconcile_at is not null",
    // The row's JSON is for reading; these rows are for filters.
    "create table sandbox_metadata (
        org_id uuid not null,
        sandbox_id uuid not null,
        key text not null,
        value text not null,
        constraint sandbox_metadata_pkey primary key (sandbox_id, key),
        constraint sandbox_metadata_sandbox_fkey
            foreign key (org_id, sandbox_id) references sandboxes (org_id, id)
    )",
    "create index sandbox_metadata_by_value on sandbox_metadata (org_id, key, value, sandbox_id)",
    "create table meters (
        sandbox_id uuid not null,
        org_id uuid not null,
        project_id uuid not null,
        metric text not null,
        opened_at bigint not null,
        closed_at bigint,
        multiplier_milli bigint not null,
        pricing_version text not null,
        settled_until bigint not null,
        settled_quantity bigint not null,
        settled_amount bigint not null,
        n_parts bigint not null,
        constraint meters_pkey primary key (sandbox_id, metric, opened_at),
        constraint meters_sandbox_fkey
            foreign key (org_id, sandbox_id) references sandboxes (org_id, id),
        constraint meters_project_fkey
            foreign key (org_id, project_id) references projects (org_id, id),
        constraint meters_pricing_fkey
            foreign key (pricing_version) references pricing_versions (name),
        constraint meters_metric_check check (metric in ('compute_unit_seconds', 'sandbox_creates',
            'command_invocations', 'code_run_invocations', 'preview_minutes',
            'artifact_bytes_stored', 'file_bytes_written')),
        constraint meters_settled_check check (settled_until >= opened_at),
        constraint meters_order_check check (closed_at >= opened_at),
        constraint meters_multiplier_check check (multiplier_milli >= 0)
    )",
    // Two open meters of one sandbox would bill its seconds twice.
    "create unique index meters_one_open on meters (sandbox_id, metric) where closed_at is null",
    // What is still to be settled of time; SQLite wants this condition word for word.
    "create index meters_unsettled on meters (org_id)
        where closed_at is null or settled_until < closed_at",
];
